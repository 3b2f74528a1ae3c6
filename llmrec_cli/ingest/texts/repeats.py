"""Merging of several description rows of one item, user or group into one row, column by column."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from ibis.expr.types import BooleanValue, Table

from llmrec_cli.ingest.engine import collect, materialise, scalar, size
from llmrec_cli.language.phrases import Joined, Phrase

_FILE = 1 << 40  # more lines than any file has, to code file and line as one number
_COLUMNS, _VALUES, _SHOWN = 3, 3, 40
"""Most columns and values of an example, and characters of a value."""


@dataclass(frozen=True)
class Repeats:
    """Statistics of rows that repeat an id.

    Attributes
    ----------
    num_repeated, num_duplicated : number of merged rows that differ from another row of their id, and of exact copies
    contradicting, updated : column -> number of ids with several values in one file, and in several files
    examples : column -> (id, its values in the order of the files, the final value)
    emptied : column -> number of ids with a value in an older file and an empty cell in the newest file that has both
    emptied_examples : column -> (id, the final value)
    """

    num_repeated: int = 0
    num_duplicated: int = 0
    contradicting: dict[str, int] = field(default_factory=dict)
    updated: dict[str, int] = field(default_factory=dict)
    examples: dict[str, tuple[str, list[str], str]] = field(default_factory=dict)
    emptied: dict[str, int] = field(default_factory=dict)
    emptied_examples: dict[str, tuple[str, str]] = field(default_factory=dict)

    def notes(self, kind: str) -> list[Phrase]:
        """Return notes, one sentence each; `kind` is item | user | group."""
        lines = []
        if self.contradicting:
            lines.append(Phrase("different values for one {kind} in one file; the first is kept: {columns}",
                                kind=Phrase(kind), columns=self._columns(self.contradicting)))
        if self.updated:
            lines.append(Phrase("different values for one {kind} in several files; the newest file wins: {columns}",
                                kind=Phrase(kind), columns=self._columns(self.updated)))
        if self.emptied:
            cells = Joined(self._emptied(name, number) for name, number in _most(self.emptied))
            lines.append(Phrase("{kinds} have an empty cell in the newest file that lists them; empty cells erase "
                                "nothing, so the older value is kept: {columns}; write a value to replace it",
                                kinds=Phrase(f"{kind}s"), columns=cells))
        return lines

    def _emptied(self, name: str, number: int) -> Phrase:
        if name not in self.emptied_examples:
            return Phrase("{name} ({num:,})", name=name, num=number)
        id_, value = self.emptied_examples[name]
        return Phrase("{name} ({num:,}, for instance '{id}': kept {value!r})", name=name, num=number, id=id_,
                      value=value)

    def _columns(self, counts: dict[str, int]) -> Joined:
        return Joined(self._column(name, number) for name, number in _most(counts))

    def _column(self, name: str, number: int) -> Phrase:
        if name not in self.examples:
            return Phrase("{name} ({num:,})", name=name, num=number)
        id_, values, value = self.examples[name]
        return Phrase("{name} ({num:,}, for instance '{id}': {values}; kept {value!r})", name=name, num=number, id=id_,
                      values=", ".join(map(repr, values)), value=value)


def _most(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def merge_repeats(sound: Table, own: Sequence[str], names: Sequence[str],
                  present: Sequence[Container[str]]) -> tuple[Table, Repeats]:
    """Return one row per id (c0) with the columns `own`, and statistics of the merged rows.

    `names` are the names of `own`, `present` the names that each file has. In each column the newest file with a value
    wins, and in it the first row with a value. Only rows of repeated ids are copied, since texts are long.
    """
    sizes = sound.group_by("c0").agg(size=sound.count())
    repeated = materialise(sizes.filter(sizes["size"] > 1))
    num_again = int(scalar(repeated["size"].sum().fill_null(0)))
    if not num_again:
        return sound.select("c0", *own), Repeats()
    again = materialise(sound.semi_join(repeated, "c0"))
    place = again.line - again.file.cast("int64") * _FILE
    values = {column: again[column].argmin(place, where=_has_value(again, column)) for column in own}
    merged = materialise(again.group_by("c0").agg(size=again.count(), **values).drop("size"))
    num_distinct = size(again.select("c0", *own).distinct())
    contradicting, updated = _differing(again, own)
    of = dict(zip(own, names, strict=True))
    columns = [*_most(contradicting)[:_COLUMNS], *_most(updated)[:_COLUMNS]]
    examples = {of[column]: _example(again, merged, column, within=column in contradicting) for column, _ in columns}
    repeats = Repeats(num_distinct - size(repeated), num_again - num_distinct,
                    {of[c]: number for c, number in contradicting.items()},
                    {of[c]: number for c, number in updated.items()}, examples, *_emptied(again, merged, of, present))
    once = sound.anti_join(repeated, "c0").select("c0", *own)
    return once.union(merged.select("c0", *own)), repeats


def _has_value(rows: Table, column: str) -> BooleanValue:
    return rows[column].fill_null("").strip() != ""


def _differing(again: Table, own: Sequence[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Return column -> number of ids with several values in one file, and column -> number with several across files.
    """
    if not own:
        return {}, {}
    in_file = again.group_by("c0", "file").agg(**{c: again[c].nunique(where=_has_value(again, c)) for c in own})
    most = in_file.group_by("c0").agg(**{c: in_file[c].max() for c in own})
    every = again.group_by("c0").agg(**{f"{c}_all": again[c].nunique(where=_has_value(again, c)) for c in own})
    both = most.inner_join(every, "c0")
    totals = collect(both.agg(**{c: (both[c] > 1).sum() for c in own},
                              **{f"{c}_all": ((both[c] <= 1) & (both[f"{c}_all"] > 1)).sum() for c in own})).to_pylist()
    return ({c: int(totals[0][c]) for c in own if totals[0][c]},
            {c: int(totals[0][f"{c}_all"]) for c in own if totals[0][f"{c}_all"]})


def _emptied(again: Table, merged: Table, of: Mapping[str, str],
             present: Sequence[Container[str]]) -> tuple[dict[str, int], dict[str, tuple[str, str]]]:
    """Return `Repeats.emptied` and `emptied_examples`; `of` maps a column to its name.

    A file without the column counts as neither empty nor filled.
    """
    having = {c: [n for n, there in enumerate(present) if name in there] for c, name in of.items()}
    several = {c: again.file.isin(files) for c, files in having.items() if len(files) > 1}
    if not several:
        return {}, {}
    newest = materialise(again.group_by("c0").agg(
        **{c: again.file.max(where=is_there & _has_value(again, c)) for c, is_there in several.items()},
        **{f"{c}_all": again.file.max(where=is_there) for c, is_there in several.items()}))
    [totals] = collect(newest.agg(**{c: (newest[c] < newest[f"{c}_all"]).sum() for c in several})).to_pylist()
    counts = {c: int(number) for c, number in totals.items() if number}
    examples = {}
    for c, _ in _most(counts)[:_COLUMNS]:
        id_ = scalar(newest.filter(newest[c] < newest[f"{c}_all"]).c0.min())
        kept = collect(merged.filter(merged.c0 == id_).select(c)).column(0)[0].as_py()
        examples[of[c]] = (id_, kept[:_SHOWN])
    return {of[c]: number for c, number in counts.items()}, examples


def _example(again: Table, merged: Table, column: str, within: bool) -> tuple[str, list[str], str]:
    """Return the smallest id with several values (in one file, with `within`), its values and the final value."""
    filled = again.filter(_has_value(again, column)).select("c0", "file", "line", value=again[column])
    keys = ["c0", "file"] if within else ["c0"]
    several = filled.group_by(*keys).agg(num=filled.value.nunique())
    id_ = scalar(several.filter(several.num > 1).c0.min())
    rows = collect(filled.filter(filled.c0 == id_).order_by("file", "line").limit(100)).to_pylist()
    values = list(dict.fromkeys(row["value"][:_SHOWN] for row in rows))[:_VALUES]
    value = collect(merged.filter(merged.c0 == id_).select(column)).column(0)[0].as_py()
    return id_, values, (value or "")[:_SHOWN]
