"""Lists of recommendations as files: Parquet, JSONL or CSV, block by block, whole or not at all.

Parquet and JSONL hold ids and titles exactly. In CSV a title that a spreadsheet would run as a formula gets a single
quote before it. Ids stay as they are, since they are there to be matched with, unless escaping is requested for them
too. So that it can be undone, a value that looks escaped already gets one more quote: whatever begins with a formula's
first character behind one or more quotes has been given exactly one.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from llmrec_cli.data.entities import Entities
from llmrec_cli.requests.answers import Answers
from llmrec_cli.run_dir import whole_file, writing

SCHEMA = pa.schema([("query_id", pa.string()), ("user_id", pa.string()), ("rank", pa.int64()), ("item_id", pa.string()),
                    ("score", pa.float32()), ("source", pa.string()), ("title", pa.string())])
REASONS = pa.field("reasons", pa.list_(pa.struct([("kind", pa.string()), ("id", pa.string()), ("amount", pa.float32()),
                                                   ("text", pa.string())])))
"""What each recommendation is there for, where that is asked; in CSV as JSON."""
FORMULA = "^'*[=+\\-@\t\r\n＝＋－＠]"
"""A value that is escaped in CSV, full-width signs too, which some spreadsheets take for the others."""
IDS = ("query_id", "user_id", "item_id")


class Catalogue:
    """Ids and titles of the items, ready to be looked up many at a time."""

    def __init__(self, items: Entities) -> None:
        self.ids = pa.array(list(items.ids), pa.string())
        self.titles = pa.array(list(items.titles), pa.string())


def list_table(answers: Answers, catalogue: Catalogue) -> pa.Table:
    """Return the lists of a block of queries, one row per recommended item."""
    query, place = np.nonzero(answers.lists.items_QK >= 0)
    item = pa.array(answers.lists.items_QK[query, place])
    names, users = (pa.array(list(column), pa.string()) for column in (answers.queries.ids, answers.queries.user_ids))
    sources = pa.array(list(answers.sources), pa.string())
    columns = [names.take(pa.array(query)), users.take(pa.array(query)), pa.array(place + 1, pa.int64()),
               catalogue.ids.take(item), pa.array(answers.lists.scores_QK[query, place], pa.float32()),
               sources.take(pa.array(query)), catalogue.titles.take(item)]
    table = pa.Table.from_arrays(columns, schema=SCHEMA)
    if answers.reasons is None:
        return table
    told = [answers.reasons[q][k] for q, k in zip(query.tolist(), place.tolist(), strict=True)]
    return table.append_column(REASONS, pa.array(told, REASONS.type))


class ListWriter(ABC):
    """Writes tables of SCHEMA to a file, one after the other.

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
            writer = _WRITERS[path.suffix](temporary, SCHEMA.append(REASONS) if with_reasons else SCHEMA)
            writer.escaped = ("title", *IDS) if escape_formulas else ("title",)
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
        rows = table.set_column(SCHEMA.get_field_index("score"), "score", short).to_pylist()
        self.stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    def close(self) -> None:
        self.stream.close()


class _Csv(ListWriter):
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        told = schema.get_field_index(REASONS.name)
        self.writer = pyarrow.csv.CSVWriter(path, schema if told < 0 else schema.set(
            told, pa.field(REASONS.name, pa.string())))

    def write(self, table: pa.Table) -> None:
        for name in self.escaped:
            quoted = pc.binary_join_element_wise("'", table[name], "")
            safe = pc.if_else(pc.match_substring_regex(table[name], FORMULA), quoted, table[name])
            table = table.set_column(SCHEMA.get_field_index(name), name, safe)
        if (told := table.schema.get_field_index(REASONS.name)) >= 0:
            texts = [json.dumps(reasons, ensure_ascii=False) for reasons in table[REASONS.name].to_pylist()]
            table = table.set_column(told, REASONS.name, pa.array(texts, pa.string()))
        self.writer.write_table(table)

    def close(self) -> None:
        self.writer.close()


_WRITERS: dict[str, Callable[[Path, pa.Schema], ListWriter]] = {".parquet": _Parquet, ".jsonl": _Jsonl, ".csv": _Csv}
