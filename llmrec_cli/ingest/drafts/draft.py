"""The settings drafted from samples of files, with comments on what to check, as YAML."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmrec_cli.ingest.drafts.names import event_weight, is_total, meaning_of
from llmrec_cli.ingest.drafts.roles import Role, divide_files, name_differences
from llmrec_cli.ingest.drafts.samples import Column, Sample
from llmrec_cli.ingest.drafts.times import TimeForm, time_form
from llmrec_cli.plain_yaml import dump_yaml

_MOST_EVENTS, _MOST_ATTRIBUTES = 40, 8
_LIKED = {5: 4, 10: 7, 100: 60}
"""Largest rating of a scale -> smallest rating that counts as liked."""
_SMALLEST_CODE = 1e6
"""Largest number from which a column of unique numbers holds codes, such as bar codes, and no measure."""
_FOREIGN = 0.05
"""Share of item texts with letters that are not ASCII from which on they are not English; English has café too."""
_LEAST_TEXT = 12
"""Average characters of a column from which it is worth a place in the text of an item."""


@dataclass
class Entry:
    """A setting with the comments above it."""

    key: str
    value: Any
    comments: list[str] = field(default_factory=list)


@dataclass
class Draft:
    """Settings below `dataset`, the split, the encoder ("" for the default), and sentences on what is unsure."""

    entries: list[Entry] = field(default_factory=list)
    split: str = "random"
    split_comment: str = ""
    encoder: str = ""
    unsure: list[str] = field(default_factory=list)

    def add(self, key: str, value: Any, comment: str = "", unsure: str = "") -> None:
        """Add a setting, with a comment on what it is and one on what is unsure about it."""
        self.entries.append(Entry(key, value, [comment] * bool(comment) + [f"unsure: {unsure}"] * bool(unsure)))

    def to_yaml(self, command: str) -> str:
        """Return the settings file; `command` is the command that reads it."""
        lines = ["# Settings drafted by `llmrec init` from the first rows of the files: check them, then run",
                 f"#   {command}", *(f"# unsure: {sentence}" for sentence in self.unsure), "dataset:"]
        for entry in self.entries:
            lines += [f"  # {comment}" for comment in entry.comments]
            lines += [f"  {line}" for line in dump_yaml({entry.key: entry.value}).splitlines()]
        encoder = ["# MiniLM reads English only; an encoder for your language: docs/encoders.md",
                   *dump_yaml({"encoder": self.encoder}).splitlines()] if self.encoder else []
        lines += [f"# {self.split_comment}"] * bool(self.split_comment)
        # A name of a column may hold a line break, which would end a comment.
        lines = [line if not line.lstrip().startswith("#") else "".join(c if c.isprintable() else " " for c in line)
                 for line in lines]
        return "\n".join([*lines, *dump_yaml({"split": self.split}).splitlines(), *encoder]) + "\n"


def draft_settings(name: str, roles: Sequence[Role]) -> Draft:
    """Return the settings for files with known roles; `name` is the name of the prepared data."""
    draft = Draft()
    draft.add("name", name)
    by_role = {role: [one for one in roles if one.role == role] for role in
               ("interactions", "items", "users", "groups", "group_info", "group_interactions")}
    main, divided = by_role["interactions"][0], divide_files(by_role["interactions"])
    draft.unsure += [sentence for one in roles for sentence in [*one.unsure, *name_differences(one, by_role)]]
    if not by_role["items"] and "title" in main.columns:
        by_role["items"] = [_items_in(main)]
        draft.unsure.append(f"{main.sample.path}: is read as the items too, for their titles; name a file of items if "
                            f"there is one")
    for role, files in by_role.items():
        for key, some in divided.items() if role == "interactions" and divided else {role: files}.items():
            if some:
                paths = [str(one.sample.path) for one in some]
                draft.add(key, paths if len(paths) > 1 else paths[0], _found(some[0]))
    time = _time_of(main)
    columns = _interaction_columns(main, time)
    if columns:
        draft.add("columns", columns, "times: " + time.form if time is not None and not time.settings else "")
        if any("[]" in theirs for theirs in columns.values()):
            draft.entries[-1].comments.append("a path with [] makes a row of each entry of the array")
    _add_own_columns(draft, columns, by_role)
    _add_bad_rows(draft, by_role, columns)
    _add_time(draft, main, time)
    _add_values(draft, main)
    for role, text_key, key in (("items", "item_text", "attributes"), ("users", "", "user_attributes")):
        if by_role[role]:
            _add_descriptions(draft, by_role[role][0], text_key, key)
    in_files = {**by_role, **(divided | {"interactions": []} if divided else {})}
    formats = {role: shown for role, files in in_files.items() if files and (shown := _format(files[0].sample))}
    if formats:
        commas = [f"'{name}' of {one.sample.path}" for files in in_files.values() for one in files[:1]
                  for name in one.sample.assumed_commas]
        draft.add("formats", formats, "detected; remove a line to have it detected again in each run",
                  f"{commas[0]} has decimal commas; remove decimal if its commas separate a list" if commas else "")
    if divided:
        draft.split, draft.split_comment = "given", "the files divide the interactions already, by their names"
    elif time is not None:
        draft.split = "leave_last_out"
        draft.split_comment = "each user's last interaction is held out; {kind: temporal, test_days: 7} tests on days"
    else:
        draft.split_comment = "there are no times, so interactions are held out at random"
    return draft


def _items_in(main: Role) -> Role:
    """Return the file of interactions as the file of items, with ids and titles only."""
    own = {ours: main.columns[ours] for ours in ("item_id", "title")}
    columns = {theirs: main.sample.columns[theirs] for theirs in own.values()}
    return Role(replace(main.sample, columns=columns), "items", own)


def _found(role: Role) -> str:
    """Return a comment on the columns of a file that make its role."""
    listed = ", ".join(f"{ours} = {theirs}" for ours, theirs in role.columns.items() if ours.endswith("_id"))
    return f"{role.sample.num_rows:,} rows read; {listed}"


def _time_of(role: Role) -> TimeForm | None:
    """Return the form of the interactions' times; their column is added to the role if only its values show it."""
    named = role.columns.get("timestamp")
    if named is not None and (form := time_form(role.sample.columns[named], by_name=True)):
        return form
    if named is not None:
        del role.columns["timestamp"]
        role.unsure.append(f"{role.sample.path}: the values of '{named}' have no known form of times, so they are not "
                           f"used; set dataset.columns.timestamp={named} and dataset.timestamp_format=<pattern>")
    for column in role.sample.columns.values():
        if column.name not in role.columns.values() and (form := time_form(column, by_name=False)):
            role.columns["timestamp"] = column.name
            return form
    return None


def _interaction_columns(role: Role, time: TimeForm | None) -> dict[str, str]:
    """Return dataset.columns: our name -> name in the file, if they differ."""
    columns = dict(role.columns)
    value = columns.pop("rating", None) or columns.pop("quantity", None)
    columns.pop("quantity", None)
    if value is not None and role.sample.columns[value].numbers:
        columns["value"] = value
    if "event" in columns and not _events(role):
        del columns["event"]
    kept = ("user_id", "item_id", "value", "timestamp", "event")
    if time is None:
        columns.pop("timestamp", None)
    return {ours: columns[ours] for ours in kept if ours in columns and columns[ours] != ours}


_REQUIRED = {"interactions": ("user_id", "item_id", "value", "timestamp"), "items": ("item_id",),
             "users": ("user_id",)}
_FEW, _USUAL = 0.05, 0.001
"""Share of bad rows above which settings are probably wrong, and the share that `prepare` allows without a setting."""


def _add_bad_rows(draft: Draft, by_role: dict[str, list[Role]], columns: dict[str, str]) -> None:
    """Count the rows that `prepare` rejects, and add the share that it may leave out if they are few."""
    shares: dict[str, float] = {}
    for role, required in _REQUIRED.items():
        for one in by_role[role][:1]:
            sample, names = one.sample, columns if role == "interactions" else one.columns
            ignored = _ignored_rows(one) if role == "interactions" else set()
            cells = [(ours, column, column.bad_places(ours == "value") - ignored) for ours in required
                     if (column := sample.columns.get(names.get(ours, one.columns.get(ours, ours)))) is not None
                     and not column.in_array and not column.is_array]
            num_bad = len(set().union(*(places for _, _, places in cells))) + sample.num_unread
            num_rows = sample.num_rows + sample.num_unread
            share = num_bad / num_rows
            total = _total(one)
            draft.unsure += [f"{sample.path}: the last row is a total ('{total}') and a bad row; leave it out of the "
                             f"export"] * bool(total)
            for ours, column, places in cells:
                if places:
                    draft.unsure.append(_bad_cells(sample, ours, column, places, share))
            if sample.num_unread:
                draft.unsure.append(f"{sample.path}: {sample.num_unread:,} rows cannot be read and are bad rows; "
                                    f"`prepare` names them")
            if _USUAL < share <= _FEW:
                shares[f"{num_bad:,} of {num_rows:,} rows of {sample.path}"] = share
    if shares:
        draft.add("max_reject_share", _round_up(max(shares.values())),
                  "share of the rows of a file that may be bad and are left out, listed in rejects.parquet",
                  f"bad rows: {' and '.join(shares)}; remove this once they are repaired")


def _round_up(share: float) -> float:
    """Return the next whole percent, so that the next export does not fail for one row more."""
    return math.ceil(round(100 * share, 6)) / 100


def _bad_cells(sample: Sample, ours: str, column: Column, places: set[int], share: float) -> str:
    """Return a sentence on the bad rows by one column; `share` is the share of all bad rows of the file."""
    num_empty = len(places - set(column.places))
    num_bad = len(places) - num_empty
    what = " and ".join([f"empty in {num_empty:,} rows"] * bool(num_empty) +
                        [f"not a number in {num_bad:,} rows"] * bool(num_bad))
    remedy = "fill them or leave them out of the export"
    if share > _FEW:
        remedy += (f"; `prepare` refuses the file with {share:.0%} bad rows: if another column is the {ours}, set "
                   f"dataset.columns.{ours}=<name>, and if they may be left out, "
                   f"dataset.max_reject_share={_round_up(share):g}")
    return (f"{sample.path}: '{column.name}' is {what} of {column.num_rows:,}, which are bad rows without {ours}: "
            f"{remedy}")


def _total(role: Role) -> str:
    """Return the name of the last row if it has no id, or a name such as Summe, and else numbers only; "" if not."""
    ids = [name for ours, name in role.columns.items() if ours.endswith("_id")]
    texts = role.sample.last
    names = [text for text in texts.values() if is_total(text)]
    others = {name: text for name, text in texts.items() if not is_total(text)}
    if not texts or any(name in others for name in ids) or not all(re.fullmatch(r"[\W\d_]+", text)
                                                                  for text in others.values()):
        return ""
    return names[0] if names else ", ".join(others.values())


def _add_own_columns(draft: Draft, shared: dict[str, str], by_role: dict[str, list[Role]]) -> None:
    """Add the names of columns in the other files that differ from dataset.columns."""
    for role, key, id_name in (("items", "item_columns", "item_id"), ("users", "user_columns", "user_id"),
                               ("group_info", "group_columns", "group_id")):
        for one in by_role[role][:1]:
            own = {ours: theirs for ours, theirs in one.columns.items() if ours in (id_name, "title")
                   and theirs != (shared.get(ours, ours) if ours != "title" or role == "items" else ours)}
            if own:
                draft.add(key, own)


def _add_time(draft: Draft, role: Role, time: TimeForm | None) -> None:
    if time is None:
        return
    for key, value in time.settings.items():
        draft.add(key, value, f"times such as {role.sample.columns[role.columns['timestamp']].values[0]}",
                  time.unsure)


def _add_values(draft: Draft, role: Role) -> None:
    """Add the meaning of values and events, and the rule for repeated interactions."""
    weights = _weights(role)
    if weights:
        unknown = [event for event, weight in weights.items() if weight is None]
        draft.add("event_weights", {event: 1.0 if weight is None else weight for event, weight in weights.items()},
                  "check the weights: 0 drops an event; an event that is not listed is an error",
                  f"the meaning of {', '.join(unknown[:5])}" if unknown else "")
        return
    name = role.columns.get("rating") or role.columns.get("quantity")
    numbers = role.sample.columns[name].numbers if name is not None else []
    if not numbers:
        return
    largest = max(numbers)
    scale = next((scale for scale in _LIKED if largest <= scale), 0)
    if "rating" in role.columns and scale and min(numbers) >= 0:
        draft.add("feedback", "explicit", f"'{name}' is an opinion, up to {largest:g}")
        draft.add("min_value", _LIKED[scale], "smaller values are dislikes", "from which value on an item is liked")
        return
    draft.add("feedback", "implicit", f"'{name}' is the strength of an interaction")
    if role.sample.repeats(role.columns["user_id"], role.columns["item_id"]):
        draft.add("duplicates", "sum", "values of several interactions of a user with an item are added up",
                  "keep_last takes the last one instead")


def _weights(role: Role) -> dict[str, float | None]:
    """Return the weight of each event of `_events`: 0 if no row of it has an item, None if its name says nothing."""
    events, item = _events(role), role.sample.columns[role.columns["item_id"]]
    if not events or item.is_array:
        return {event: event_weight(event) for event in events}
    column, rows_of_items = role.sample.columns[role.columns["event"]], set(item.places)
    with_item = {event for event, place in zip(column.values, column.places, strict=True) if place in rows_of_items}
    return {event: event_weight(event) if event in with_item else 0.0 for event in events}


def _ignored_rows(role: Role) -> set[int]:
    """Return the rows of events with weight 0, which `prepare` does not check."""
    ignored = {event for event, weight in _weights(role).items() if weight == 0}
    column = role.sample.columns[role.columns["event"]] if ignored else Column("")
    return {place for event, place in zip(column.values, column.places, strict=True) if event in ignored}


def _events(role: Role) -> list[str]:
    """Return the events in the sample, the most frequent first; [] if there is only one or the column has other values.
    """
    name = role.columns.get("event")
    column = role.sample.columns[name] if name is not None else None
    if column is None or column.is_array or not column.values or column.numbers:
        return []
    if not 1 < len(column.distinct) <= _MOST_EVENTS:
        return []
    return [event for event, _ in Counter(column.values).most_common()]


def _add_descriptions(draft: Draft, role: Role, text_key: str, key: str) -> None:
    """Add the text template of items, and the attributes of items or users."""
    others = [column for name, column in role.sample.columns.items() if column.values
              and not _is_id(column, role) and column.kind != "url" and not set("{}") & set(name)]
    title = role.columns.get("title")
    texts = [column for column in others if column.kind == "text" and column.name != title
             and _length(column) >= _LEAST_TEXT and not _is_time(column)]
    if text_key and (title is not None or texts):
        parts = [f"{{{title}}}"] * (title is not None) + [f"{{{column.name}}}" for column in texts[:3]]
        draft.add(text_key, ". ".join(parts), "text that describes an item, from its columns")
        titles = [role.sample.columns[title]] if title is not None else []
        if _is_foreign([text for column in (*titles, *texts[:3]) for text in column.values]):
            draft.encoder = "lsa"  # Learns from the texts of the data, so it reads any language.
    attributes = {column.name: column.kind for column in others if column.name != title and column not in texts
                  and _is_attribute(column)}
    separators = Counter(column.separator for column in others
                         if attributes.get(column.name) == "list" and column.separator)
    if separators and key == "attributes":
        separator = separators.most_common(1)[0][0]
        draft.add("list_separator", separator)
        attributes = {name: kind for name, kind in attributes.items()
                      if kind != "list" or role.sample.columns[name].separator in ("", separator)}
    if attributes:
        draft.add(key, dict(list(attributes.items())[:_MOST_ATTRIBUTES]),
                  "category, list or number; remove what says nothing about taste")


def _is_foreign(texts: list[str]) -> bool:
    """Return True if more than a few of the texts have a letter that English lacks, such as ü, é or 鞋."""
    num = sum(any(character.isalpha() for character in text if not character.isascii()) for text in texts)
    return num > _FOREIGN * len(texts)


def _is_id(column: Column, role: Role) -> bool:
    ids = [name for ours, name in role.columns.items() if ours.endswith("_id")]
    if column.name in ids or meaning_of(column.name).endswith("_id"):
        return True
    return column.is_unique and column.kind == "number" and max(column.numbers, default=0) >= _SMALLEST_CODE


def _is_time(column: Column) -> bool:
    return meaning_of(column.name) == "timestamp" or time_form(column, by_name=False) is not None


def _is_attribute(column: Column) -> bool:
    if column.is_array or column.kind == "list":
        return len(column.distinct) > 1
    if column.kind == "number":
        return len(column.distinct) > 1 and not _is_time(column)
    return column.kind == "category" and len(column.distinct) > 1 and not _is_time(column)


def _length(column: Column) -> float:
    return sum(map(len, column.values)) / len(column.values)


def _format(sample: Sample) -> dict[str, Any]:
    """Return the settings of a file's format that differ from a usual file."""
    form = sample.source.text_format
    has_commas = any(column.decimal_comma for column in sample.columns.values())
    if form is None or not (form.detected or has_commas):
        return {}
    usual = sample.source.usual_delimiter or ("" if sample.source.format == "delimited" else form.delimiter)
    shown = {"delimiter": form.delimiter if form.delimiter != usual else None,
             "encoding": form.encoding if form.encoding != "utf-8" else None,
             "quote": form.quote if form.quote != '"' else None, "escape": form.escape or None,
             "decimal": "," if has_commas else None, "skip_rows": form.skip_rows or None}
    return {key: "\\t" if value == "\t" else value for key, value in shown.items() if value is not None}


def found_sentences(roles: Sequence[Role]) -> Iterator[str]:
    """Yield a sentence on each file, for the terminal."""
    for one in roles:
        yield f"{one.sample.path}: {one.role or 'not used'}; {_found(one)}".rstrip("; ")
