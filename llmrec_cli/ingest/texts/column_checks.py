"""Checks for columns with unexpected content: lists in place of ids, objects in place of texts."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from ibis.expr.types import Table

from llmrec_cli.ingest.engine import collect, size
from llmrec_cli.ingest.readers.array_texts import parse_nested
from llmrec_cli.ingest.readers.cells import NAME_KEYS
from llmrec_cli.ingest.readers.sources import Source
from llmrec_cli.ingest.texts.catalogue import Descriptions
from llmrec_cli.ingest.texts.text_rendering import TextRules, has_objects
from llmrec_cli.language.phrases import Phrase

_LOOKED_AT = 200


def object_notes(described: Descriptions, rules: TextRules) -> Iterator[Phrase]:
    """Yield a note for each column with objects that the text shows as JSON or leaves out."""
    key = f"dataset.{rules.kind}_text"
    fields = rules.template.fields if rules.template is not None else ()
    for name, column in zip(described.names, described.columns(), strict=True):
        if described.rows is None or not (name in fields or rules.joins(name)):
            continue
        odd = described.rows.filter(described.rows[column].re_search(r"^\s*(\{\s*[\"'}]|\[\s*[\[{])"))
        some: list[str] = collect(odd.order_by(f"{rules.kind}_id").limit(_LOOKED_AT).select(column))[column].to_pylist()
        value = next((parse_nested(text) for text in some if has_objects(text.strip())), None)
        if value is None:
            continue
        path = name
        while isinstance(value, list):
            path = f"{path}[]"
            value = next((entry for entry in value if isinstance(entry, (dict, list))), "")
        inside = f".{next((one for one in NAME_KEYS if one in value), next(iter(value), '<key>'))}" \
            if isinstance(value, dict) else ""
        fate = Phrase("shown as JSON in the text") if name in fields else Phrase("left out of the text")
        yield Phrase("'{name}' has objects in {num:,} {kinds}, {fate}; for a value inside the objects set {setting}",
                     name=name, num=size(odd), kinds=Phrase(f"{rules.kind}s"), fate=fate,
                     setting=f"{key}='{{{path}{inside}}}'")


_SEPARATORS = (",", "|", ";", " ")
MOST = 0.5
"""Share of ids with a separator above which they may be lists."""
_SHARED = 0.1
"""Smallest share of parts that occur at several positions for lists; parts of 'Tolkien, John' occur at one position."""
_SAMPLE = 2000
_BRACKETS = ("[]", "()", "{}")


def list_warnings(what: str, ids: Table, column: str, sources: Sequence[Source]) -> Iterator[Phrase]:
    """Yield a warning if most ids in `column` of `ids` are probably lists; `what` is users | items."""
    ids = ids.select(id=column)
    [counts] = collect(ids.agg(num=ids.count(), **{f"s{n}": ids.id.contains(separator).sum()
                                                  for n, separator in enumerate(_SEPARATORS)})).to_pylist()
    for n, separator in enumerate(_SEPARATORS):
        number = int(counts[f"s{n}"] or 0)
        if number < 2 or number <= MOST * counts["num"]:
            continue
        some = ids.filter(ids.id.contains(separator)).order_by("id").limit(_SAMPLE)
        texts: list[str] = collect(some)["id"].to_pylist()
        if _are_lists(texts, separator):
            yield Phrase("{num:,} of the {total:,} {kinds} have {separator} in their id ('{first}'); each may be a "
                         "list but counts as one {kind}; {advice}", num=number, total=counts["num"], kinds=Phrase(what),
                         separator=Phrase("blanks") if separator == " " else f"'{separator}'", first=texts[0],
                         kind=Phrase(what[:-1]), advice=_list_advice(texts, column, separator, sources))
            return


def _are_lists(texts: Sequence[str], separator: str) -> bool:
    """Return True if the parts of these ids occur at several positions, or the number of parts varies."""
    parts = [[part.strip() for part in text.split(separator)] for text in texts]
    if separator == " " and not all(any(char.isdecimal() for char in part) for row in parts for part in row):
        return False  # Names and titles also contain blanks; a blank separates ids only if all parts have digits.
    places: dict[str, set[int]] = defaultdict(set)
    for row in parts:
        for place, part in enumerate(row):
            places[part].add(place)
    shared = sum(len(positions) > 1 for positions in places.values())
    return shared >= _SHARED * len(places) or (separator != " " and len({len(row) for row in parts}) > 1)


def _list_advice(texts: Sequence[str], column: str, separator: str, sources: Sequence[Source]) -> Phrase:
    if texts[0][:1] + texts[0][-1:] in _BRACKETS or not all(one.format == "delimited" for one in sources):
        return Phrase("if so, write them as JSON arrays, [\"a\", \"b\"], and set dataset.explode={column}",
                      column=column)
    return Phrase("if so, set dataset.explode={column} and dataset.list_separator='{separator}', which turn each entry "
                  "into a row", column=column, separator=separator)
