"""Checks of single cells: arrays in place of ids, objects in place of attributes, text in place of numbers."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import ibis
from ibis.expr.types import Table

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.engine import collect, scalar, size
from llmrec_cli.ingest.interactions.id_codes import CodedRows
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.readers import units
from llmrec_cli.ingest.readers.array_texts import nested_value
from llmrec_cli.ingest.readers.checks import RawRows, identifier
from llmrec_cli.ingest.readers.nested import refuse_value
from llmrec_cli.ingest.readers.staging import StagedFiles
from llmrec_cli.ingest.readers.timestamps import NUMBER
from llmrec_cli.ingest.readers.value_advice import decimal_advice
from llmrec_cli.ingest.texts.attributes import is_number
from llmrec_cli.language.phrases import Joined, Phrase

NAME_KEYS = ("name", "title", "label", "value", "id")
_LOOKED_AT = 200
_SHOWN, _MOST_KEYS = 60, 12


def refuse_array_ids(raw: RawRows, staged: StagedFiles, coded: CodedRows) -> None:
    """Raise DataError if an id of an interaction is an array or object written as text."""
    for ids, column, ours in ((coded.users, "user_id", raw.keys[0]), (coded.items, "item_id", raw.keys[1])):
        text = _first_nested(ids, column)
        for part in raw.parts if text is not None else ():
            _refuse_first(part, raw, staged, ours, str(text))


def refuse_array_values(part: Table, raw: RawRows, staged: StagedFiles) -> None:
    """Raise DataError if a value, time or event of `raw` is an array or object written as text."""
    for ours in raw.names:
        if ours in part.columns and ours not in raw.keys and part[ours].type().is_string():
            text = _first_nested(part, ours)
            if text is not None:
                _refuse_first(part, raw, staged, ours, text)


def _refuse_first(part: Table, raw: RawRows, staged: StagedFiles, ours: str, text: str) -> None:
    """Raise DataError for the first row of `part` with `text` in our column `ours`, if any."""
    rows = part.filter(identifier(part[ours]) == text).order_by("file", "line").limit(1)
    written = {name: identifier(part[name]) for name in raw.names if name in part.columns}
    for row in collect(rows.select("file", "line", **written)).to_pylist():
        refuse_value(staged.sources[row["file"]], row["line"], ours, nested_value(text),
                     [name for name in written if isinstance(nested_value(row[name] or ""), list)])


def refuse_arrays(raw: Table, staged: StagedFiles, columns: Iterable[str]) -> None:
    """Raise DataError for an array or object, written as text, in an id column of staged rows.

    `raw` has file, line and the columns of `staged.names`.
    """
    for ours in columns:
        text = _first_nested(raw, ours)
        if text is not None:
            rows = raw.filter(raw[ours] == text).order_by("file", "line").limit(1)
            [row] = collect(rows.select("file", "line")).to_pylist()
            refuse_value(staged.sources[row["file"]], row["line"], ours, nested_value(text))


def _first_nested(rows: Table, column: str) -> str | None:
    odd = rows.filter(rows[column].re_search(r"(?s)^[\[{(].*[\])}]$")).select(text=column).distinct()
    texts: list[str] = collect(odd.order_by("text").limit(_LOOKED_AT))["text"].to_pylist()
    return next((text for text in texts if nested_value(text) is not None), None)


def refuse_objects(raw: Table, staged: StagedFiles, attributes: Mapping[str, str], key: str) -> None:
    """Raise DataError for an attribute whose values are objects, or arrays of objects or of arrays.

    `raw` has file, line, c0, c1, ...; `attributes` is name -> type, `key` the name of that setting.
    """
    for n, name in enumerate(staged.names):
        if name not in attributes:
            continue
        column = raw[f"c{n}"]
        odd = raw.filter(column.re_search(r"^\s*(\{|\[\s*[\[{])")).order_by("file", "line").limit(_LOOKED_AT)
        for row in collect(odd.select("file", "line", text=f"c{n}")).to_pylist():
            value = nested_value(row["text"])
            if value is not None and _has_parts(value):
                raise DataError(f"{staged.sources[row['file']].path}: line {row['line']}: " +
                                _objects(name, value, attributes[name], key))


def _has_parts(value: Any) -> bool:
    return isinstance(value, dict) or any(isinstance(entry, (dict, list)) for entry in value)


def _objects(name: str, value: Any, kind: str, key: str) -> str:
    """Return a sentence on the type of an attribute's value and the path to use instead."""
    path, what = name, ""
    # The values of a path through an array are in one array already.
    gathered = "[]" in name
    while isinstance(value, list):
        what += "an array of " if not what else "arrays of "
        path, gathered = (path, False) if gathered else (f"{path}[]", False)
        value = next((entry for entry in value if isinstance(entry, (dict, list))), "")
    if not isinstance(value, dict):
        return (f"the attribute '{name}' is {what}values, and each inner array would count as one value; use the inner "
                f"values with '{key}.{path}={kind}'")
    keys = list(value)
    best = next((one for one in NAME_KEYS if one in keys), keys[0] if keys else "<key>")
    of = f"{what}objects" if what else "an object"
    more = ", ..." if len(keys) > _MOST_KEYS else ""
    return (f"the attribute '{name}' is {of} with the keys {', '.join(keys[:_MOST_KEYS])}{more}, and each object would "
            f"count as one value; use one key with '{key}.{path}.{best}={'list' if what else kind}'")


def count_unread_numbers(rows: Table, raw: Table, staged: StagedFiles, attributes: Mapping[str, str], kind: str,
                         key: str, account: Account) -> None:
    """Count the values of number attributes that are not numbers; their entities get no such attribute.

    `rows` has one row per entity (c0, c1, ...), and `raw` the rows of the files, for the place of the first such value.
    Currency signs and units that are ignored are counted too.
    """
    earlier = [n for n, source in enumerate(staged.sources) if source.is_earlier]
    lost = 0
    for n, name in enumerate(staged.names):
        if attributes.get(name) != "number":
            continue
        filled = rows.filter(rows[f"c{n}"].fill_null("").strip() != "")
        bad = filled.filter(~is_number(filled[f"c{n}"]))
        num_bad, num = int(scalar(bad.count())), size(filled)
        if num_bad < num:
            _count_units(filled.filter(is_number(filled[f"c{n}"])).select(text=f"c{n}"), name, account)
        if not num_bad:
            continue
        lost += num_bad
        # Of several files with the value, those of the user come first.
        there = raw.filter(~is_number(raw[f"c{n}"]), raw[f"c{n}"].fill_null("").strip() != "").semi_join(bad, "c0")
        there = there.mutate(is_earlier=there.file.isin(earlier) if earlier else ibis.literal(False))
        [row] = collect(there.order_by("is_earlier", "file", "line").limit(1)
                        .select("file", "line", text=f"c{n}")).to_pylist()
        place = Phrase("the earlier data") if row["file"] in earlier else \
            Phrase("{file}, line {line}", file=staged.sources[row["file"]].path, line=row["line"])
        sentence = Phrase("{num:,} of {total:,} values of '{name}' are not numbers, so these {kinds} do not get this "
                          "attribute; the first is '{first}' ({place})", num=num_bad, total=num, name=name,
                          kinds=Phrase(f"{kind}s"), first=row["text"][:_SHOWN], place=place)
        sentence = Phrase("{sentence}: {problem}", sentence=sentence, problem=_number_problem(row["text"]))
        if num_bad > num / 2:
            account.warnings.append(Phrase("{sentence}; if no numbers are meant, set {setting}=category",
                                           sentence=sentence, setting=f"{key}.{name}"))
        else:
            account.notes.append(sentence)
    if lost:
        account.counts[f"{kind}s_values_unread"] = lost


def _count_units(numbers: Table, name: str, account: Account) -> None:
    """Add a note on the currency signs or units of a column of numbers, a warning if they differ."""
    with_unit = numbers.filter(numbers.text.re_search(units.POINT_NUMBER) & ~numbers.text.re_search(NUMBER))
    is_grouped = with_unit.text.re_search(units.SEPARATOR)
    counted = with_unit.group_by(unit=with_unit.text.re_replace(units.NO_UNIT, "")).agg(
        num=with_unit.count(), num_grouped=is_grouped.cast("int64").sum(), first=with_unit.text.max(where=is_grouped))
    rows = collect(counted.order_by("unit")).to_pylist()
    sums: Counter[str] = Counter()
    for row in rows:
        if row["unit"]:
            sums[units.name_of(row["unit"])] += row["num"]
    listed = Joined(f"{unit} ({num:,})" for unit, num in sums.most_common())
    are_currencies = all(units.is_currency(row["unit"]) for row in rows if row["unit"])
    what = Phrase("currency signs") if are_currencies else Phrase("units")
    if len(sums) > 1:
        account.warnings.append(Phrase("'{name}' has different {what}: {listed}; its numbers are compared without "
                                       "them, so write all of them in one", name=name, what=what, listed=listed))
    elif sums:
        account.notes.append(Phrase("{what} of '{name}' are ignored: {listed}", name=name, what=what, listed=listed))
    grouped = [row for row in rows if row["num_grouped"]]
    if grouped:
        account.notes.append(Phrase("{num:,} values of '{name}' have separators of thousands, which are ignored; "
                                    "one is '{first}'", num=sum(row["num_grouped"] for row in grouped), name=name,
                                    first=grouped[0]["first"][:_SHOWN]))


def _number_problem(text: str) -> Phrase:
    """Return what keeps a text from being a number, and a remedy."""
    if advice := decimal_advice(text):
        return Phrase("it has a decimal comma; {advice}", advice=advice)
    if not any(character.isdigit() for character in text):
        return Phrase("it has no digit; leave the cell empty where there is no number")
    if not re.search("[0-9]", text):
        return Phrase("its digits are not those of ASCII; write 0 to 9")
    if re.fullmatch(r"\s*[+-]?[0-9.,]+([eE][+-]?[0-9]+)?\s*", text):
        return Phrase("it is too large, or its points and commas are not those of one number; write 1234.5")
    if match := re.fullmatch(r"\s*[+-]?[0-9]+([.,][0-9]+)?\s*([^0-9.,\s].*)", text, re.DOTALL):
        return Phrase("'{rest}' after the number is no currency sign or unit that is known; leave it out",
                      rest=match[2].strip()[:_SHOWN])
    return Phrase("it is more than a number with a currency sign or unit; write the number alone, as in 1234.5")
