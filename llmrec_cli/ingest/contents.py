"""Contents of a data set's files: staged, read and checked, before they are divided and numbered."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ibis.backends import BaseBackend

from llmrec_cli.ingest.engine import engine
from llmrec_cli.ingest.groups.groups import Groups, read_groups, refuse_group_texts
from llmrec_cli.ingest.groups.synthetic import refuse_beside
from llmrec_cli.ingest.interactions.build import Kept, check_columns, read_interactions, stage_interactions
from llmrec_cli.ingest.interactions.splits import refuse_contradictions
from llmrec_cli.ingest.knowledge.links import Graph, counterparts
from llmrec_cli.ingest.knowledge.triples import read_knowledge
from llmrec_cli.ingest.output.append import Earlier
from llmrec_cli.ingest.output.row_accounting import Account, check_reading
from llmrec_cli.ingest.readers.checks import reading
from llmrec_cli.ingest.readers.sources import Sources
from llmrec_cli.ingest.readers.staging import Staged, stage_entities
from llmrec_cli.ingest.texts.catalogue import Described, describe, text_rules, texts_of
from llmrec_cli.ingest.texts.column_checks import object_notes
from llmrec_cli.ingest.texts.documents import Documents, read_documents
from llmrec_cli.ingest.texts.text_rendering import TextRules
from llmrec_cli.settings.stages import PrepareConfig

_KINDS = ("item", "user", "group")


@dataclass(frozen=True)
class Preparation:
    """One run of `prepare`: what it reads, where it writes, and the account of its rows.

    Attributes
    ----------
    sources : the files, those of earlier data in front
    earlier : the data that the files are added to; None for mode=new
    folder : where the tables are written
    scratch : a folder for what does not outlive the run
    connection : the engine, which runs until all is written
    interactions : the files of interactions, staged
    entities : kind (item | user | group) -> the files that describe these, staged; None without any
    """

    cfg: PrepareConfig
    sources: Sources
    earlier: Earlier | None
    folder: Path
    scratch: Path
    account: Account
    connection: BaseBackend
    interactions: Staged
    entities: dict[str, Staged | None]


@dataclass(frozen=True)
class Contents:
    """Contents of all files.

    Attributes
    ----------
    kept : the interactions that are kept, with ids in codes
    described : kind (item | user | group) -> what files say of these
    rules : kind -> how texts and attributes are made of it
    groups, graph, documents : None without such files
    files : all files, staged, whose rejects are to be written
    """

    kept: Kept
    described: dict[str, Described]
    rules: dict[str, TextRules]
    groups: Groups | None
    graph: Graph | None
    documents: Documents | None
    files: list[Staged]


@contextmanager
def prepared_from(cfg: PrepareConfig, sources: Sources, earlier: Earlier | None, folder: Path, scratch: Path,
                  account: Account) -> Iterator[Preparation]:
    """Refuse what cannot be together, stage the files, and start the engine for as long as the block runs."""
    settings = cfg.dataset
    refuse_contradictions(sources, cfg.split)
    refuse_beside(sources, settings, cfg.split, cfg.mode)
    if earlier is not None:
        sources = earlier.sources(sources, scratch)
    refuse_group_texts(sources, settings)
    needed_by = f"split={cfg.split.kind}" if cfg.split.needs_time else ""
    interactions = stage_interactions(sources.interactions, scratch, needed_by, bool(settings.event_weights), earlier)
    check_columns(settings, interactions.names)
    entities = {kind: stage_entities(getattr(sources, f"{kind}s"), kind, scratch) for kind in _KINDS}
    with engine(cfg.engine, scratch) as connection, reading(interactions):
        yield Preparation(cfg, sources, earlier, folder, scratch, account, connection, interactions, entities)


def read_contents(run: Preparation) -> Contents:
    """Return what the files say. Raises DataError for those with too many bad rows, ConfigError for idle settings."""
    settings, account, connection = run.cfg.dataset, run.account, run.connection
    described, rules = _describe(run)
    kept = read_interactions(connection, run.interactions, settings, account, run.earlier, run.cfg.force)
    groups = read_groups(connection, run.sources, settings, run.scratch, account, run.earlier)
    graph = read_knowledge(connection, run.sources, run.scratch, account)
    if graph is not None:
        counterparts(graph, described["item"], settings.knowledge)  # Refuses columns to link on before more is done.
    documents = read_documents(connection, run.sources.documents, run.scratch, account)
    files = [run.interactions, *filter(None, run.entities.values()), *(groups.staged if groups else ()),
             *(graph.staged if graph else ()), *(documents.staged if documents else ())]
    check_reading(files, settings, account)
    return Contents(kept, described, rules, groups, graph, documents, files)


def _describe(run: Preparation) -> tuple[dict[str, Described], dict[str, TextRules]]:
    """Return what files say of items, users and groups, and the rules of their texts, by kind."""
    settings, account = run.cfg.dataset, run.account
    dropped = {"user": settings.drop_users, "item": settings.drop_items, "group": []}
    described = {kind: describe(run.connection, staged, kind, account, texts_of(settings, kind)[1], dropped[kind])
                 for kind, staged in run.entities.items()}
    rules = {kind: text_rules(about, kind, settings) for kind, about in described.items()}
    for kind, about in described.items():
        account.notes += object_notes(about, rules[kind])
    return described, rules
