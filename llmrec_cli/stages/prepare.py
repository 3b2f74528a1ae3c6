"""prepare: raw files to prepared data."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from ibis.expr.types import Table

from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.account import Account, refuse_rejects, show, tell
from llmrec_cli.ingest.engine import engine
from llmrec_cli.ingest.entities import Described, describe, text_rules
from llmrec_cli.ingest.interaction_files import write_filtered, write_rows
from llmrec_cli.ingest.interactions import check_columns, keep, read_raw, stage_interactions
from llmrec_cli.ingest.manifest import describe_split, describe_texts, manifest_of
from llmrec_cli.ingest.numbering import number
from llmrec_cli.ingest.sources import Sources
from llmrec_cli.ingest.splits import divide, divide_negatives, needs_time
from llmrec_cli.ingest.staging import stage_entities
from llmrec_cli.ingest.tally import notes, tally
from llmrec_cli.ingest.writing import write_entities, write_rejects
from llmrec_cli.run_dir import LATEST, PREPARED, RunDir, lock, point, whole_folder, write_json, writing
from llmrec_cli.settings.stages import PrepareConfig


def run(cfg: PrepareConfig, run_dir: RunDir) -> None:
    """Write prepared data and point data/prepared/latest at it, or raise and leave what was there."""
    settings, account = cfg.dataset, Account()
    output = Path(cfg.output) if cfg.output else PREPARED / settings.name
    refuse_to_replace(output)
    with (lock(output.parent / f".{output.name}.lock", f"the prepared data {output}"), whole_folder(output) as folder,
          scratch_folder(output) as scratch, engine(cfg.engine, scratch) as connection):
        sources = find_sources(cfg, scratch)
        run_dir.log("reading", files=[str(source.path) for source in sources.all()])
        staged = stage_interactions(sources.interactions, scratch, needs_time(cfg.split), bool(settings.event_weights))
        check_columns(settings, staged.names)
        staged_items = stage_entities(sources.items, "item", scratch)
        staged_users = stage_entities(sources.users, "user", scratch)
        described = {"item": describe(connection, staged_items, "item", account),
                     "user": describe(connection, staged_users, "user", account)}
        rules = {kind: text_rules(described[kind], kind, settings) for kind in described}

        kept = keep(read_raw(connection, staged, settings), staged, settings, account)
        files = [part for part in (staged, staged_items, staged_users) if part is not None]
        for part in files:
            refuse_rejects(part, settings.max_reject_share)
        divided = divide(kept.coded, cfg.split, kept.unit, settings.timestamp_unit)
        users = number(divided.rows, kept.coded.users, "user",
                       named_besides(described["user"], settings.min_user_interactions))
        items = number(divided.rows, kept.coded.items, "item",
                       named_besides(described["item"], settings.min_item_interactions))

        tally(divided.rows, {"user": users, "item": items}, described, account)
        content = [write_rows(folder / "interactions.parquet", divided.rows, users, items),
                   write_entities(folder, items, described["item"], "item", rules["item"], account),
                   write_entities(folder, users, described["user"], "user", rules["user"], account)]
        if kept.negatives is not None:
            negatives = divide_negatives(kept.negatives, kept.coded, divided, cfg.split)
            content.append(write_rows(folder / "negatives.parquet", negatives, users, items))
        write_filtered(folder / "filtered.parquet", kept.filtered, kept.coded)
        write_rejects(folder, [part.rejects for part in files])
        account.notes += notes(account.counts, kept.unit, settings.timestamp_unit)
        manifest = manifest_of(folder, settings.name, content, describe_split(cfg.split, divided.cutoff),
                               describe_texts(settings, described["item"], described["user"]), kept.unit, account)
        write_json(folder / "manifest.json", manifest)
    point(PREPARED / LATEST, output)
    show(account, manifest, str(output))
    run_dir.finish("prepare", {"prepared": str(output), "fingerprint": manifest["fingerprint"],
                               "counts": manifest["counts"]})


def find_sources(cfg: PrepareConfig, scratch: Path) -> Sources:
    """Return the files of the data set, fetched where they have to be."""
    module, _, name = type(cfg.dataset).reader.rpartition(".")
    sources: Sources = getattr(import_module(module), name)(cfg.dataset, cfg.split.kind, scratch)
    if sources.terms:
        tell(sources.terms)
    return sources


def named_besides(described: Described, least: int) -> list[Table]:
    """Return the tables of ids that belong to the catalogue beside those that interactions name."""
    return [described.rows] if described.rows is not None and least <= 0 else []


def refuse_to_replace(output: Path) -> None:
    """Raise ConfigError for a folder that holds something other than prepared data: it would be lost."""
    if output.is_symlink() or output.name in ("", "..", LATEST):
        raise ConfigError(f"output={output}: must be a folder of its own, not a link or {LATEST}")
    strange = output.exists() and (not output.is_dir() or any(output.iterdir()))
    if strange and not (output / "manifest.json").is_file():
        raise ConfigError(f"output={output}: holds something other than prepared data, which would be lost; choose "
                          f"another folder or empty it")


@contextmanager
def scratch_folder(output: Path) -> Iterator[Path]:
    """Yield a temporary folder on the disk that the output goes to, where there is room for it."""
    with writing(output.parent):
        folder = tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.scratch.")
    with folder as name:
        yield Path(name)
