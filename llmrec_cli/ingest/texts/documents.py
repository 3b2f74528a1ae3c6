"""Documents about items, such as encyclopaedia extracts or manuals, assigned by item id or entity id."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ibis
import pyarrow as pa
from ibis.backends import BaseBackend
from ibis.expr.types import Table

from llmrec_cli.data.reject_reasons import EMPTY
from llmrec_cli.errors import DataError
from llmrec_cli.ingest.engine import batches, collect, materialise, read_staged, size
from llmrec_cli.ingest.interactions.build import union
from llmrec_cli.ingest.output.row_accounting import Account, count_notes
from llmrec_cli.ingest.output.writing import write_table
from llmrec_cli.ingest.readers.sources import Source
from llmrec_cli.ingest.readers.staging import StagedFiles, stage
from llmrec_cli.ingest.texts.text_rendering import strip_html
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.settings.dataset import DatasetSettings

_DOCUMENTS = pa.schema([("item", pa.int64()), ("item_id", pa.string()), ("text", pa.string())])
_IDS = ("item_id", "entity_id")
_BATCH = 1 << 10


@dataclass
class Documents:
    """Documents as read from files.

    Attributes
    ----------
    rows : item_id, entity_id ("" for none; item_id wins if both are set) and text, without repeats
    staged : the staged files, with their rejects
    """

    rows: Table
    staged: list[StagedFiles]


def read_documents(connection: BaseBackend, sources: list[Source], scratch: Path, account: Account) -> Documents | None:
    """Return the documents, or None without files. Rows without a text or without an id are rejected."""
    parts, files = [], []
    for number, source in enumerate(sources):
        # One by one, since some files may have item ids and others entity ids.
        staged = stage([source], scratch / f"documents{number}.staged", ("text",), _IDS)
        if len(staged.names) == 1:
            raise DataError(f"{source.path}: neither a column 'item_id' nor a column 'entity_id', so the subject of "
                            f"its documents is not known; add one, or name it with dataset.columns.item_id=<name>")
        raw = read_staged(connection, staged.path).rename({name: f"c{n}" for n, name in enumerate(staged.names)})
        raw = raw.mutate(**{name: raw[name].fill_null("") if name in staged.names else ibis.literal("")
                            for name in ("text", *_IDS)})
        nothing = raw.text.strip() == ""
        column = ibis.cases((nothing, "text"), ((raw.item_id == "") & (raw.entity_id == ""), staged.names[1]))
        bad = raw.select(file=ibis.literal(str(source.path)), line=raw.line, column=column,
                         reason=ibis.literal(EMPTY))
        staged.rejects.extend_table(collect(bad.filter(bad.column.notnull()).order_by("line")))
        parts.append(raw.filter(column.isnull()).select(*_IDS, "text"))
        files.append(staged)
    if not parts:
        return None
    sound = union(parts)
    rows = materialise(sound.distinct())
    read, rejected = sum(sum(part.num_read) for part in files), sum(len(part.rejects) for part in files)
    account.counts |= {"documents_read": read, "documents_rejected": rejected,
                       "documents_repeated": read - rejected - size(rows)}
    return Documents(rows, files)


def write_documents(folder: Path, documents: Documents, connection: BaseBackend, catalogue: Table,
                    settings: DatasetSettings, account: Account) -> list[str]:
    """Write documents.parquet and return its content hash; links.parquet, if any, must be in `folder` already.

    Raises DataError for documents about entities without links from items to entities.
    """
    rows, links = documents.rows, folder / "links.parquet"
    of_entities = rows.filter(rows.item_id == "")
    parts = [rows.filter(rows.item_id != "").select("item_id", "text")
             .inner_join(catalogue.select("item", "item_id"), "item_id").select("item", "item_id", "text")]
    if size(of_entities):
        if not links.is_file():
            raise DataError("dataset.documents: some documents have only an entity_id, but no links between items and "
                            "entities are given; set dataset.knowledge=<file> and dataset.links=<file>, or add item_id")
        linked = read_staged(connection, links).select("item", "item_id", "entity_id")
        parts.append(of_entities.select("entity_id", "text").inner_join(linked, "entity_id")
                     .select("item", "item_id", "text"))
    about = materialise(union(parts).distinct())
    num_known = size(rows.filter(rows.item_id != "").semi_join(catalogue, "item_id"))
    if links.is_file():
        num_known += size(of_entities.semi_join(read_staged(connection, links), "entity_id"))
    account.counts |= {"documents": size(about), "documents_unknown": size(rows) - num_known,
                       "items_documented": size(about.select("item").distinct())}
    ordered = about.order_by("item", about.text.hexdigest("md5"), "text")
    content = write_table(folder / "documents.parquet", _DOCUMENTS, _cleaned(ordered, settings), _BATCH)
    account.notes += notes(account.counts, size(catalogue))
    if not account.counts["documents"]:
        account.warnings.append(Phrase("no document is about an item, so dataset.documents has no effect; are its ids "
                                       "from another data set?"))
    return [content]


def _cleaned(table: Table, settings: DatasetSettings) -> Iterator[pa.RecordBatch]:
    for batch in batches(table, _BATCH):
        texts = [(strip_html(text) if settings.strip_html else text)[:settings.max_text_length]
                 for text in batch.column(2).to_pylist()]
        yield pa.RecordBatch.from_arrays([batch.column(0).cast(pa.int64()), batch.column(1).cast(pa.string()),
                                          pa.array(texts, pa.string())], schema=_DOCUMENTS)


def notes(counts: dict[str, int], num_items: int) -> list[Phrase]:
    """Return notes on the documents, one sentence each."""
    summary = Phrase("{num:,} documents about {items:,} of {total:,} items ({share:.1%})", num=counts["documents"],
                     items=counts["items_documented"], total=num_items,
                     share=counts["items_documented"] / max(num_items, 1))
    return [summary, *count_notes(counts, _NOTES)]


_NOTES = (("documents_rejected", "{num:,} rows of dataset.documents rejected; listed in rejects.parquet"),
          ("documents_repeated", "{num:,} rows of dataset.documents repeat a document; each counts once"),
          ("documents_unknown", "{num:,} documents ignored: about items or entities that are not among the items"))
