"""Documents about items: an encyclopaedia's extracts, a product's manual, named by the item or by its entity."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ibis
import pyarrow as pa
from ibis.backends import BaseBackend
from ibis.expr.types import Table

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.engine import batches, collect, materialised, read_staged, size
from llmrec_cli.ingest.interactions.build import union
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.output.writing import write_table
from llmrec_cli.ingest.readers.sources import Source
from llmrec_cli.ingest.readers.staging import Staged, stage
from llmrec_cli.ingest.texts.text_rendering import strip_html
from llmrec_cli.settings.dataset import DatasetSettings

_DOCUMENTS = pa.schema([("item", pa.int64()), ("item_id", pa.string()), ("text", pa.string())])
_IDS = ("item_id", "entity_id")
_BATCH = 1 << 10


@dataclass
class Documents:
    """Documents as read from files.

    Attributes
    ----------
    rows : item_id, entity_id ("" for none; the item counts where there are both) and text, each row once
    staged : the files, one by one, whose rejects are to be looked at
    """

    rows: Table
    staged: list[Staged]


def read_documents(connection: BaseBackend, sources: list[Source], scratch: Path, account: Account) -> Documents | None:
    """Return the documents, or None without files. A row without a text or without an id joins the rejects."""
    parts, files = [], []
    for number, source in enumerate(sources):
        # One by one, since some may name items and others entities.
        staged = stage([source], scratch / f"documents{number}.staged", ("text",), _IDS)
        if len(staged.names) == 1:
            raise DataError(f"{source.path}: no column 'item_id' and no column 'entity_id' to say what its documents "
                            f"are about; add one, or name it with dataset.columns.item_id=<name>")
        raw = read_staged(connection, staged.path).rename({name: f"c{n}" for n, name in enumerate(staged.names)})
        raw = raw.mutate(**{name: raw[name].fill_null("") if name in staged.names else ibis.literal("")
                            for name in ("text", *_IDS)})
        nothing = raw.text.strip() == ""
        column = ibis.cases((nothing, "text"), ((raw.item_id == "") & (raw.entity_id == ""), staged.names[1]))
        bad = raw.select(file=ibis.literal(str(source.path)), line=raw.line, column=column,
                         reason=ibis.literal("is empty"))
        staged.rejects.extend_table(collect(bad.filter(bad.column.notnull()).order_by("line")))
        parts.append(raw.filter(column.isnull()).select(*_IDS, "text"))
        files.append(staged)
    if not parts:
        return None
    sound = union(parts)
    rows = materialised(sound.distinct())
    read, rejected = sum(sum(part.num_read) for part in files), sum(len(part.rejects) for part in files)
    account.counts |= {"documents_read": read, "documents_rejected": rejected,
                       "documents_repeated": read - rejected - size(rows)}
    return Documents(rows, files)


def write_documents(folder: Path, documents: Documents, connection: BaseBackend, catalogue: Table,
                    settings: DatasetSettings, account: Account) -> list[str]:
    """Write documents.parquet and return the hash of its content; `folder` has links.parquet already, if anything.

    Raises DataError for documents about entities where nothing links entities to items.
    """
    rows, links = documents.rows, folder / "links.parquet"
    of_entities = rows.filter(rows.item_id == "")
    found = [rows.filter(rows.item_id != "").select("item_id", "text")
             .inner_join(catalogue.select("item", "item_id"), "item_id").select("item", "item_id", "text")]
    if size(of_entities):
        if not links.is_file():
            raise DataError("dataset.documents: some are about an entity_id, and nothing says which items the entities "
                            "are; set dataset.knowledge=<file> and dataset.links=<file>, or name items by item_id")
        linked = read_staged(connection, links).select("item", "item_id", "entity_id")
        found.append(of_entities.select("entity_id", "text").inner_join(linked, "entity_id")
                     .select("item", "item_id", "text"))
    about = materialised(union(found).distinct())
    known = size(rows.filter(rows.item_id != "").semi_join(catalogue, "item_id"))
    if links.is_file():
        known += size(of_entities.semi_join(read_staged(connection, links), "entity_id"))
    account.counts |= {"documents": size(about), "documents_unknown": size(rows) - known,
                       "items_documented": size(about.select("item").distinct())}
    ordered = about.order_by("item", about.text.hexdigest("md5"), "text")
    content = write_table(folder / "documents.parquet", _DOCUMENTS, _cleaned(ordered, settings), _BATCH)
    account.notes += notes(account.counts, size(catalogue))
    if not account.counts["documents"]:
        account.warnings.append("no document is about an item, so that dataset.documents says nothing; are its ids "
                                "those of another data set?")
    return [content]


def _cleaned(table: Table, settings: DatasetSettings) -> Iterator[pa.RecordBatch]:
    for batch in batches(table, _BATCH):
        texts = [(strip_html(text) if settings.strip_html else text)[:settings.max_text_length]
                 for text in batch.column(2).to_pylist()]
        yield pa.RecordBatch.from_arrays([batch.column(0).cast(pa.int64()), batch.column(1).cast(pa.string()),
                                          pa.array(texts, pa.string())], schema=_DOCUMENTS)


def notes(counts: dict[str, int], num_items: int) -> list[str]:
    """Return what a person should know of the documents, one sentence each."""
    found = [f"{counts['documents']:,} documents about {counts['items_documented']:,} of {num_items:,} items "
             f"({counts['items_documented'] / max(num_items, 1):.1%})"]
    found += [f"{counts[key]:,} {why}" for key, why in _NOTES if counts.get(key)]
    return found


_NOTES = (("documents_rejected", "rows of dataset.documents are bad; rejects.parquet lists them"),
          ("documents_repeated", "rows of dataset.documents repeat a document; each counts once"),
          ("documents_unknown", "documents are about items or entities that are not among the items; they are left "
                                "out"))
