"""The settings drafted from samples of files, with comments on what to check, as YAML."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmrec_cli.ingest.drafts.bad_rows import find_bad_rows
from llmrec_cli.ingest.drafts.events import events_of, weights_of
from llmrec_cli.ingest.drafts.names import meaning_of
from llmrec_cli.ingest.drafts.roles import Role, divide_files, name_differences
from llmrec_cli.ingest.drafts.samples import Column, Sample
from llmrec_cli.ingest.drafts.times import TimeForm, time_form
from llmrec_cli.plain_yaml import dump_yaml

_MOST_ATTRIBUTES = 8
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
        encoder = ["# MiniLM reads English only; lsa learns from your texts; e5 reads 100 languages (a download of "
                   "95 MB)", *dump_yaml({"encoder": self.encoder}).splitlines()] if self.encoder else []
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
    bad = find_bad_rows(by_role, columns)
    draft.unsure += bad.unsure
    if bad.shares:
        draft.add("max_reject_share", bad.allowed,
                  "share of the rows of a file that may be bad and are left out, listed in rejects.parquet",
                  f"bad rows: {' and '.join(bad.shares)}; remove this once they are repaired")
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
    if "event" in columns and not events_of(role):
        del columns["event"]
    kept = ("user_id", "item_id", "value", "timestamp", "event")
    if time is None:
        columns.pop("timestamp", None)
    return {ours: columns[ours] for ours in kept if ours in columns and columns[ours] != ours}


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
    weights = weights_of(role)
    if weights:
        unknown = [event for event, weight in weights.items() if weight is None]
        draft.add("event_weights", {event: 1.0 if weight is None else weight for event, weight in weights.items()},
                  "check the weights: 0 drops an event; an event that is not listed is an error",
                  f"the meaning of {', '.join(unknown[:5])}; a return or a dislike needs a weight below 0"
                  if unknown else "")
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
