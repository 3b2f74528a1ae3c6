"""Lists of recommendations: files in Parquet, JSONL or CSV, and tables on a terminal.

Parquet and JSONL hold ids and titles exactly. In CSV a title that a spreadsheet would run as a formula gets a single
quote before it. Ids stay as they are, since they are there to be matched with, unless escaping is requested for them
too. So that it can be undone, a value that looks escaped already gets one more quote: whatever begins with a formula's
first character behind one or more quotes has been given exactly one.
"""

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llmrec_cli.atomic_files import whole_file, writing
from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.report.terminal import printable
from llmrec_cli.requests.answers import Answers

_SCHEMA = pa.schema([("query_id", pa.string()), ("user_id", pa.string()), ("rank", pa.int64()),
                     ("item_id", pa.string()),
                     ("score", pa.float32()), ("source", pa.string()), ("title", pa.string())])
_REASONS = pa.field("reasons", pa.list_(pa.struct([("kind", pa.string()), ("id", pa.string()), ("amount", pa.float32()),
                                                   ("text", pa.string())])))
"""What each recommendation is there for, where that is asked; in CSV as JSON."""
_FORMULA = "^'*[=+\\-@\t\r\n＝＋－＠]"
"""A value that is escaped in CSV, full-width signs too, which some spreadsheets take for the others."""
_IDS = ("query_id", "user_id", "item_id")


class ItemColumns:
    """Ids and titles of the items as Arrow arrays, to take many at a time."""

    def __init__(self, items: Catalogue) -> None:
        self.ids = pa.array(list(items.ids), pa.string())
        self.titles = pa.array(list(items.titles), pa.string())


def list_table(answers: Answers, items: ItemColumns) -> pa.Table:
    """Return the lists of a block of queries, one row per recommended item."""
    query, place = np.nonzero(answers.lists.items_QK >= 0)
    item = pa.array(answers.lists.items_QK[query, place])
    names, users = (pa.array(list(column), pa.string()) for column in (answers.queries.ids, answers.queries.user_ids))
    sources = pa.array(list(answers.sources), pa.string())
    columns = [names.take(pa.array(query)), users.take(pa.array(query)), pa.array(place + 1, pa.int64()),
               items.ids.take(item), pa.array(answers.lists.scores_QK[query, place], pa.float32()),
               sources.take(pa.array(query)), items.titles.take(item)]
    table = pa.Table.from_arrays(columns, schema=_SCHEMA)
    if answers.reasons is None:
        return table
    told = [answers.reasons[q][k] for q, k in zip(query.tolist(), place.tolist(), strict=True)]
    return table.append_column(_REASONS, pa.array(told, _REASONS.type))


class ListWriter(ABC):
    """Writes tables of _SCHEMA to a file, one after the other.

    `escaped` are the columns in which a format that spreadsheets run formulas of, CSV, escapes them.
    """

    escaped: tuple[str, ...] = ()

    @abstractmethod
    def write(self, table: pa.Table) -> None:
        """Append a table."""

    @abstractmethod
    def close(self) -> None:
        """Write what is still held back."""


@contextmanager
def list_writer(path: Path, with_reasons: bool = False, escape_formulas: bool = False) -> Iterator[ListWriter]:
    """Yield a writer of tables, with reasons or without; `escape_formulas` is about ids in CSV.

    The file is at `path` when the block ends well, and what was there before is when it does not.
    """
    with whole_file(path) as temporary:
        with writing(path):
            writer = _WRITERS[path.suffix](temporary, _SCHEMA.append(_REASONS) if with_reasons else _SCHEMA)
            writer.escaped = ("title", *_IDS) if escape_formulas else ("title",)
        try:
            yield writer
        finally:
            with writing(path):
                writer.close()


class _Parquet(ListWriter):
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.writer = pq.ParquetWriter(path, schema, compression="zstd")

    def write(self, table: pa.Table) -> None:
        self.writer.write_table(table)

    def close(self) -> None:
        self.writer.close()


class _Jsonl(ListWriter):
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.stream: TextIO = path.open("w", encoding="utf-8", newline="\n")

    def write(self, table: pa.Table) -> None:
        # By way of text: the shortest number that is the float32, 0.1 and not 0.10000000149011612.
        short = table["score"].cast(pa.string()).cast(pa.float64())
        rows = table.set_column(_SCHEMA.get_field_index("score"), "score", short).to_pylist()
        self.stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    def close(self) -> None:
        self.stream.close()


class _Csv(ListWriter):
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        told = schema.get_field_index(_REASONS.name)
        self.writer = pyarrow.csv.CSVWriter(path, schema if told < 0 else schema.set(
            told, pa.field(_REASONS.name, pa.string())))

    def write(self, table: pa.Table) -> None:
        for name in self.escaped:
            quoted = pc.binary_join_element_wise("'", table[name], "")
            safe = pc.if_else(pc.match_substring_regex(table[name], _FORMULA), quoted, table[name])
            table = table.set_column(_SCHEMA.get_field_index(name), name, safe)
        if (told := table.schema.get_field_index(_REASONS.name)) >= 0:
            texts = [json.dumps(reasons, ensure_ascii=False) for reasons in table[_REASONS.name].to_pylist()]
            table = table.set_column(told, _REASONS.name, pa.array(texts, pa.string()))
        self.writer.write_table(table)

    def close(self) -> None:
        self.writer.close()


_WRITERS: dict[str, Callable[[Path, pa.Schema], ListWriter]] = {".parquet": _Parquet, ".jsonl": _Jsonl, ".csv": _Csv}


_LATEST = 3
"""Titles of the newest history that are shown."""
_MOST_MEMBERS = 8
"""Members of a group that are named."""
_WIDTH = 10_000
"""Where there is no terminal to be as wide as, so that nothing is cut."""
_MADE_FROM = {"model": "from the history the model knows", "history": "from the history given",
              "group": "from the members and what the group did together", "text": "from the words given",
              "popularity": "what most users have: nothing is known to go by"}


def show_lists(answers: Answers, items: Catalogue) -> None:
    """Print a table per query to stdout, without control codes if that is not a terminal."""
    terminal = sys.stdout is not None and sys.stdout.isatty()
    console = Console(force_terminal=terminal, width=None if terminal else _WIDTH, emoji=False, highlight=False)
    # Captured, for rich would turn a reader who has left into an exit of its own.
    with console.capture() as captured:
        for query in range(len(answers.sources)):
            console.print(_heading(answers, query, items))
            console.print(_table(answers, query, items))
            console.print()
    print(captured.get(), end="")


def _table(answers: Answers, query: int, items: Catalogue) -> Table | str:
    places = np.flatnonzero(answers.lists.items_QK[query] >= 0)
    if not len(places):
        return "  no item is left to recommend"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name, justify in (("#", "right"), ("title", "left"), ("item_id", "left"), ("score", "right")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    if answers.reasons is not None:
        table.add_column("because", overflow="fold")
    # A count is a whole number, a score is not.
    digits = 0 if answers.sources[query] == "popularity" else 3
    for place in places:
        item = answers.lists.items_QK[query, place]
        table.add_row(str(place + 1), _plain(items.titles[item]), _plain(items.ids[item]),
                      f"{answers.lists.scores_QK[query, place]:.{digits}f}",
                      *([] if answers.reasons is None else [_because(answers.reasons[query][place])]))
    return table


def _because(reasons: list[dict[str, Any]]) -> str:
    """Return the reasons of a place, a line each: what members add, those who add most first, then the others."""
    added = sorted((one for one in reasons if one["kind"] in ("member", "history")), key=lambda one: -one["amount"])
    others = [one for one in reasons if one["kind"] not in ("member", "history")]
    more = f", {len(added) - _MOST_MEMBERS} more" if len(added) > _MOST_MEMBERS else ""
    parts = [", ".join(_plain(one["text"]) for one in added[:_MOST_MEMBERS]) + more] if added else []
    return "\n".join([*parts, *(_plain(one["text"]) for one in others)]) or "–"


def _heading(answers: Answers, query: int, items: Catalogue) -> str:
    """Return who is asking, in what words, with what history, and what the list was made from."""
    queries, source = answers.queries, str(answers.sources[query])
    name, user, text = queries.ids[query], queries.user_ids[query], queries.texts[query]
    history = queries.history[[query]].indices
    together = queries.groups
    asks = [_plain(name)] if name not in (user, "query") else []
    asks += [f"user {_plain(user)}"] if user else []
    asks += [f"“{_plain(text)}”"] if text else []
    if together is not None and together.is_group[query]:
        who = [_plain(together.members.ids[member]) for member in together.rows[[query]].indices]
        more = f" and {len(who) - _MOST_MEMBERS} more" if len(who) > _MOST_MEMBERS else ""
        asks += [f"group of {', '.join(who[:_MOST_MEMBERS])}{more}" if who else "a group of nobody that is known"]
    made_from = _MADE_FROM[source] + (", and from the words" if answers.with_text[query] else "")
    lines = [f"[bold]{' · '.join(asks) or 'a new user'}[/bold]", f"  [dim]{source}:[/dim] {made_from}"]
    if len(history):
        newest = " · ".join(_plain(items.titles[item]) for item in history[::-1][:_LATEST])
        more = f" and {len(history) - _LATEST:,} more" if len(history) > _LATEST else ""
        lines.append(f"  [dim]after:[/dim] {newest}{more}")
    return "\n".join(lines)


def _plain(text: str) -> str:
    return escape(printable(str(text)))
