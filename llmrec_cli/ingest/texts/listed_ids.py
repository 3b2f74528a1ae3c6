"""Ids that are lists in one text, 's1|s2|s3': each list would be one item."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from ibis.expr.types import Table

from llmrec_cli.ingest.engine import collect
from llmrec_cli.ingest.readers.sources import Source

SEPARATORS = (",", "|", ";", " ")
MOST = 0.5
"""Share of the ids that have a separator above which they may be lists."""
SHARED = 0.1
"""Share of the parts that stand in several places of lists; those of 'Tolkien, John' and 'shirt|red' have one."""
_SAMPLE = 2000
_BRACKETS = ("[]", "()", "{}")


def list_warnings(what: str, ids: Table, column: str, sources: Sequence[Source]) -> Iterator[str]:
    """Yield a sentence when most ids of `ids`, in `column`, are probably lists; `what` is users | items."""
    ids = ids.select(id=column)
    [found] = collect(ids.agg(num=ids.count(), **{f"s{n}": ids.id.contains(separator).sum()
                                                  for n, separator in enumerate(SEPARATORS)})).to_pylist()
    for n, separator in enumerate(SEPARATORS):
        number = int(found[f"s{n}"] or 0)
        if number < 2 or number <= MOST * found["num"]:
            continue
        some = ids.filter(ids.id.contains(separator)).order_by("id").limit(_SAMPLE)
        texts: list[str] = collect(some)["id"].to_pylist()
        if _are_lists(texts, separator):
            name = "blanks" if separator == " " else f"'{separator}'"
            yield (f"{number:,} of the {found['num']:,} {what} have {name} in their id ('{texts[0]}') and may be "
                   f"lists, each taken for one {what[:-1]}; {_remedy(texts, column, separator, sources)}")
            return


def _are_lists(texts: Sequence[str], separator: str) -> bool:
    """Return whether parts of these ids stand now here, now there, or are now more, now fewer."""
    parts = [[part.strip() for part in text.split(separator)] for text in texts]
    if separator == " " and not all(any(char.isdecimal() for char in part) for row in parts for part in row):
        return False  # Names and titles have blanks; lists of ids have ids between them.
    places: dict[str, set[int]] = defaultdict(set)
    for row in parts:
        for place, part in enumerate(row):
            places[part].add(place)
    shared = sum(len(found) > 1 for found in places.values())
    return shared >= SHARED * len(places) or (separator != " " and len({len(row) for row in parts}) > 1)


def _remedy(texts: Sequence[str], column: str, separator: str, sources: Sequence[Source]) -> str:
    if texts[0][:1] + texts[0][-1:] in _BRACKETS or not all(one.format == "delimited" for one in sources):
        return f"if so, write them as JSON arrays, [\"a\", \"b\"], and set dataset.explode={column}"
    return (f"if so, set dataset.explode={column} and dataset.list_separator='{separator}', which make a row of each "
            f"entry")
