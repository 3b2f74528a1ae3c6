"""Files of recommendation lists in Parquet, JSONL or CSV.

Parquet and JSONL hold ids and titles exactly. In CSV a title that a spreadsheet would run as a formula gets a single
quote before it. Ids are not escaped by default, since other programs match them. Escaping can be undone: a value that
already begins with quotes and a formula character gets one more quote, so every such value in the file has exactly one
added quote.
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

from llmrec_cli.atomic_files import whole_file, writing
from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.requests.answers import Answers

_SCHEMA = pa.schema([("query_id", pa.string()), ("user_id", pa.string()), ("rank", pa.int64()),
                     ("item_id", pa.string()),
                     ("score", pa.float32()), ("source", pa.string()), ("title", pa.string())])
_REASONS = pa.field("reasons", pa.list_(pa.struct([("kind", pa.string()), ("id", pa.string()), ("amount", pa.float32()),
                                                   ("text", pa.string())])))
"""Column of the reasons of each recommendation, with reasons=true; in CSV as JSON."""
_FORMULA = "^'*[=+\\-@\t\r\n＝＋－＠]"
"""Pattern of values to escape in CSV; some spreadsheets run full-width signs too."""
_IDS = ("query_id", "user_id", "item_id")


class ItemColumns:
    """Ids and titles of the items as Arrow arrays."""

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
    reasons = [answers.reasons[q][k] for q, k in zip(query.tolist(), place.tolist(), strict=True)]
    return table.append_column(_REASONS, pa.array(reasons, _REASONS.type))


class ListWriter(ABC):
    """Writes tables of _SCHEMA to a file, one after the other.

    `escaped` are the columns in which CSV escapes formulas.
    """

    escaped: tuple[str, ...] = ()

    @abstractmethod
    def write(self, table: pa.Table) -> None:
        """Append a table."""

    @abstractmethod
    def close(self) -> None:
        """Write buffered rows and close the file."""


@contextmanager
def list_writer(path: Path, with_reasons: bool = False, escape_formulas: bool = False) -> Iterator[ListWriter]:
    """Yield a writer of tables; `escape_formulas` also escapes ids in CSV.

    The file replaces `path` only if the block ends without an error.
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
        # Cast through text for the shortest float32 form: 0.1 and not 0.10000000149011612.
        short = table["score"].cast(pa.string()).cast(pa.float64())
        rows = table.set_column(_SCHEMA.get_field_index("score"), "score", short).to_pylist()
        self.stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    def close(self) -> None:
        self.stream.close()


class _Csv(ListWriter):
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        column = schema.get_field_index(_REASONS.name)
        self.writer = pyarrow.csv.CSVWriter(path, schema if column < 0 else schema.set(
            column, pa.field(_REASONS.name, pa.string())))

    def write(self, table: pa.Table) -> None:
        for name in self.escaped:
            quoted = pc.binary_join_element_wise("'", table[name], "")
            safe = pc.if_else(pc.match_substring_regex(table[name], _FORMULA), quoted, table[name])
            table = table.set_column(_SCHEMA.get_field_index(name), name, safe)
        if (column := table.schema.get_field_index(_REASONS.name)) >= 0:
            texts = [json.dumps(reasons, ensure_ascii=False) for reasons in table[_REASONS.name].to_pylist()]
            table = table.set_column(column, _REASONS.name, pa.array(texts, pa.string()))
        self.writer.write_table(table)

    def close(self) -> None:
        self.writer.close()


_WRITERS: dict[str, Callable[[Path, pa.Schema], ListWriter]] = {".parquet": _Parquet, ".jsonl": _Jsonl, ".csv": _Csv}
