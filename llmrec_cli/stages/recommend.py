"""A recommender to lists for users, histories and texts."""

import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmrec_cli.atomic_files import write_json, writing
from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.knowledge_paths import FILE as KNOWLEDGE
from llmrec_cli.data.knowledge_paths import read_paths
from llmrec_cli.data.manifest import sha256
from llmrec_cli.data.queries import Queries
from llmrec_cli.device import choose_device
from llmrec_cli.distributed import is_first, leave_to_first, map_shared
from llmrec_cli.errors import ConfigError, counted
from llmrec_cli.evaluation.models import popularity_of
from llmrec_cli.heads.artifact import Recommender, import_head, load_recommender, model_folder, read_facts
from llmrec_cli.heads.base import Context
from llmrec_cli.heads.memory import Watch, entities_memory, model_memory, num_rows
from llmrec_cli.heads.shared.training_history import CutHistories
from llmrec_cli.report.lists import ItemColumns, list_table, list_writer, show_lists
from llmrec_cli.report.terminal import printable
from llmrec_cli.requests.answers import SOURCES, Answers, answer
from llmrec_cli.requests.candidates import AllowedItems, allowed_items
from llmrec_cli.requests.latest_histories import Histories, latest_histories
from llmrec_cli.requests.new_items import new_items, new_users
from llmrec_cli.requests.queries import RawQueries, Strict, inline_query, raw_queries, read_queries
from llmrec_cli.requests.reasons import reasons
from llmrec_cli.requests.resolve import UnknownIds, resolve
from llmrec_cli.run_dir import RunDir
from llmrec_cli.scoring.memory import latest_memory, scoring_memory
from llmrec_cli.scoring.scorer import BLOCK_CELLS
from llmrec_cli.scoring.topk import item_hash_ranks
from llmrec_cli.settings.command import FIT
from llmrec_cli.settings.recommend import ListOutputSettings, RecommendConfig

_SHOWN_LISTS = 5
_WRITTEN_BYTES = 400
"""Bytes for a row of a list that is being written: its strings, once in Python and once in Arrow."""
_LIBRARIES = 72 * 2**20
"""Memory that libraries take when a model is read and a list is first scored and written: of a model of no size.

pandas, which Arrow imports, takes 34 MiB, and Arrow's pools of its threads 20 MiB for any table."""


@dataclass
class Known:
    """A recommender with the items and users that were added to it; the users it does not know come last.

    `listed_N` (bool) says which items the catalogue still has.
    """

    recommender: Recommender
    items: Catalogue
    users: Catalogue
    listed_N: np.ndarray


@dataclass
class Tally:
    """Counts of the sources of the lists and of ignored ids; an id counts once, however often it is named."""

    sources: Counter[str] = field(default_factory=Counter)
    """Origin of the lists -> how many, empty ones left out."""
    num_queries: int = 0
    num_left_out: int = 0
    """Users without interactions, whom queries=all leaves out."""
    num_lists: int = 0
    num_short: int = 0
    """Lists of fewer than k items, empty ones left out."""
    num_rows: int = 0
    unknown_items: dict[str, None] = field(default_factory=dict)
    num_mute: int = 0
    unknown_members: dict[str, None] = field(default_factory=dict)
    silent: dict[str, None] = field(default_factory=dict)
    cut: CutHistories = field(default_factory=lambda: CutHistories(None))

    @property
    def counts(self) -> dict[str, Any]:
        """The numbers, as a manifest has them."""
        return {"queries": self.num_queries, "users_left_out": self.num_left_out,
                "empty_lists": self.num_queries - self.num_lists, "short_lists": self.num_short, "rows": self.num_rows,
                "sources": {name: self.sources[name] for name in SOURCES},
                "unknown_history_items": len(self.unknown_items), "texts_not_understood": self.num_mute,
                "unknown_members": len(self.unknown_members), "members_without_history": len(self.silent),
                "histories_cut": self.cut.num_histories, "history_items_not_read": self.cut.num_items}


def run(cfg: RecommendConfig, run_dir: RunDir) -> None:
    """Load the model, gather the queries, add what is new, score, write or print."""
    folder, device = model_folder(cfg.model), choose_device(cfg.device)
    import_head(folder)
    watch = Watch("recommend", memory_of(cfg, folder), device, run_dir.log)
    recommender = load_recommender(folder, Context(device, seed=1, log=run_dir.log,
                                                   cache=cfg.cache_folder))
    known = add_newcomers(cfg, recommender)
    queries = None if cfg.queries == "all" else gather(cfg, known)
    histories = latest_histories(cfg, recommender, known.users, known.items,
                                 queries is None or names_somebody(queries))
    if queries is None:
        queries = everybody(recommender, histories)
    if cfg.reasons:
        tell(*refuse_no_reasons(queries, recommender))
    allowed = allowed_items(cfg, queries, known.items, known.listed_N)
    tell(*histories.notes, *allowed.notes)
    tally = Tally()
    if cfg.queries == "all" and not (queries.group_ids != "").any():
        tally.num_left_out = len(histories.users) - len(queries)
    shown = queries if cfg.output.path else queries.rows(0, min(len(queries), _SHOWN_LISTS))
    answered = answer_all(cfg, known, histories, allowed, shown, tally)
    if not is_first():
        # Its share is done by asking for all; the first gets it with the rest.
        deque(answered, maxlen=0)
    leave_to_first()

    if cfg.output.path:
        write_lists(cfg.output, known.items, answered, cfg.reasons)
    else:
        for answers in answered:
            show_lists(answers, known.items)
        if len(queries) > _SHOWN_LISTS:
            tell(f"shown: {_SHOWN_LISTS} of {len(queries):,} queries; output=<file>.parquet (or .jsonl, .csv) has all")
    tell_tally(tally, recommender, cfg.k, allowed.num_without)

    newer_groups = {} if histories.groups is None else {"newer_group_histories": histories.num_newer_groups}
    used = {"history": histories.label, "newer_histories": histories.num_newer, **newer_groups,
            "delisted_items": int((~known.listed_N).sum()) if cfg.delisted == "drop" else 0}
    facts = {"model": str(folder), "output": cfg.output.path or None, **provenance(recommender), **used,
             **tally.counts}
    if cfg.output.path:
        lists = Path(cfg.output.path)
        write_json(Path(f"{lists}.manifest.json"),
                   {"format": 1, **provenance(recommender), "k": cfg.k, "exclude_seen": cfg.exclude_seen,
                    **used, **tally.counts, "escape_formulas": cfg.output.escape_formulas,
                    "files": {lists.name: sha256(lists)}})
    watch.done()
    run_dir.log("recommended", **used, **tally.counts)
    run_dir.finish("recommend", facts)


def memory_of(cfg: RecommendConfig, folder: Path) -> int:
    """Return the bytes that recommending takes at its peak.

    That is the model, with values of 1 for its histories, the prepared data where latest histories are read from it, a
    block of scores and its lists.
    """
    data = Path((read_facts(folder).get("data") or {}).get("path") or "")
    users, items = (num_rows(folder / f"{kind}.parquet") for kind in ("users", "items"))
    rows = users if cfg.queries == "all" else _SHOWN_LISTS
    file = folder / "histories.safetensors"
    histories = file.stat().st_size if file.is_file() else 0
    block = max(1, min(cfg.block_size, rows))
    scoring = scoring_memory(rows, items, cfg.block_size) + (
        _WRITTEN_BYTES * block * min(cfg.k, items) if cfg.output.path else 0)
    held = _LIBRARIES + model_memory(folder) + histories // 2
    query = cfg.query
    names_somebody = cfg.queries or query.user_id or query.group_id or query.members
    if cfg.history == FIT or not (names_somebody or cfg.interactions):
        return held + scoring
    return held + entities_memory(data) + latest_memory(num_rows(data / "interactions.parquet"), scoring)


def add_newcomers(cfg: RecommendConfig, recommender: Recommender) -> Known:
    """Return the recommender with the items of `items=` and the users of `users=` added."""
    texts = recommender.manifest.get("texts")
    known = Known(recommender, recommender.items, recommender.users, recommender.listed_N)
    if cfg.users:
        found = new_users(cfg.users, texts, recommender.users)
        known.users = recommender.users.extended(found.entities)
        tell(*found.notes)
    if cfg.items:
        found = new_items(cfg.items, texts, recommender.items, refuse_known=cfg.on_unknown == "error")
        tell(*found.notes)
        # What the feed has is in the catalogue again.
        known.listed_N = known.listed_N | np.isin(np.arange(len(recommender.items)), found.known)
        if len(found.entities):
            recommender.head.add_items(found.entities)
            known.items = recommender.items.extended(found.entities)
            known.listed_N = np.concatenate([known.listed_N, np.ones(len(found.entities), bool)])
    return known


def gather(cfg: RecommendConfig, known: Known) -> RawQueries:
    """Return the queries of the command line or of a file."""
    strict = Strict(known.items, known.users, known.recommender.groups) if cfg.on_unknown == "error" else None
    return inline_query(cfg.query, strict) if cfg.queries is None else read_queries(cfg.queries, strict)


def names_somebody(queries: RawQueries) -> bool:
    """Return True if a query has a user_id, a group_id or members."""
    return bool((queries.user_ids != "").any() or (queries.group_ids != "").any() or len(queries.members))


def everybody(recommender: Recommender, histories: Histories) -> RawQueries:
    """Return the users with a history, and new ones; the groups where the model was chosen for groups."""
    if histories.groups is not None and recommender.manifest.get("audience") == "groups":
        ids = list(histories.groups.entities.ids)
        return raw_queries([""] * len(ids), group_ids=ids)
    named = np.diff(histories.history.indptr) > 0
    named[histories.num_known:] = True
    return raw_queries(list(histories.users.ids[named]))


def refuse_no_reasons(queries: RawQueries, recommender: Recommender) -> list[str]:
    """Raise ConfigError where no query has reasons; return a sentence where some have none.

    Groups have them; a user has those of the knowledge graph, where the model has one.
    """
    is_group = (queries.group_ids != "") | (np.diff(queries.member_offsets) > 0)
    if is_group.all() or KNOWLEDGE in recommender.files:
        return []
    if not is_group.any():
        raise ConfigError("reasons=true: there are reasons for groups (query.group_id, query.members), and for users "
                          "if the model's data has a knowledge graph; this model's data has none, so leave it out")
    return [f"reasons: for groups only; {int((~is_group).sum()):,} queries of users have none"]


def answer_all(cfg: RecommendConfig, known: Known, histories: Histories, allowed: AllowedItems, queries: RawQueries,
               tally: Tally) -> Iterator[Answers]:
    """Yield the lists of the queries, a block at a time, and count."""
    recommender, size = known.recommender, len(known.items)
    popularity_N = popularity_of(recommender, size)
    ranks_N = item_hash_ranks(known.items.ids)
    paths = read_paths(recommender.files, size) if cfg.reasons else None
    step = max(1, min(cfg.block_size, BLOCK_CELLS // max(1, size)))

    def answer_block(start: int) -> tuple[Answers, UnknownIds]:
        stop = min(start + step, len(queries))
        resolved, unknown = resolve(queries.rows(start, stop), histories.users, known.items, histories.history,
                                    histories.seen, histories.groups, histories.times, recommender.usual_value,
                                    histories.num_known)
        answers = answer(recommender.head, resolved, popularity_N, ranks_N, min(cfg.k, size),
                         exclude_seen=cfg.exclude_seen, candidates_N=allowed.allowed_N,
                         candidates_QN=allowed.own_candidates(start, stop))
        if cfg.reasons:
            answers = replace(answers, reasons=reasons(recommender.head, answers, known.items, paths))
        return answers, unknown

    for answers, unknown in map_shared(answer_block, range(0, len(queries), step)):
        lengths = (answers.lists.items_QK >= 0).sum(axis=1)
        tally.sources.update(np.asarray(answers.sources)[lengths > 0].tolist())
        tally.num_queries += len(lengths)
        tally.num_lists += int((lengths > 0).sum())
        tally.num_short += int(((lengths > 0) & (lengths < cfg.k)).sum())
        tally.num_rows += int(lengths.sum())
        tally.unknown_items.update(dict.fromkeys(unknown.items))
        tally.unknown_members.update(dict.fromkeys(unknown.members))
        tally.cut.limit = recommender.head.history_limit
        tally.cut.add_queries(answers.queries)
        tally.silent.update(dict.fromkeys(silent_members(answers.queries)))
        tally.num_mute += 0 if recommender.head.supports_text_queries else int((answers.queries.texts != "").sum())
        yield answers


def silent_members(queries: Queries) -> np.ndarray:
    """Return the ids of members without a history."""
    if queries.groups is None:
        return np.zeros(0, object)
    members = queries.groups.members
    silent: np.ndarray = members.ids[np.diff(members.history.indptr) == 0]
    return silent


def write_lists(output: ListOutputSettings, items: Catalogue, answered: Iterable[Answers],
                with_reasons: bool = False) -> None:
    """Write the lists to `output`, block by block."""
    columns, path = ItemColumns(items), Path(output.path)
    if path.is_dir():
        raise ConfigError(f"output={path}: is a folder; name a file in it")
    with list_writer(path, with_reasons, output.escape_formulas) as writer:
        for answers in answered:
            rows = list_table(answers, columns)
            with writing(path):
                writer.write(rows)


def provenance(recommender: Recommender) -> dict[str, Any]:
    """Return which model, fitted on which data up to when: by it a stale list is told from a fresh one."""
    manifest = recommender.manifest
    return {"model_sha256": recommender.files.hashes["manifest.json"], "head": manifest["head"],
            "data_fingerprint": manifest["data_fingerprint"], "data_cutoff": manifest["data_cutoff"],
            "fitted_on": manifest["fitted_on"]}


def tell_tally(tally: Tally, recommender: Recommender, k: int, num_without_candidates: int) -> None:
    """Print to stderr what the lists were made from, and what was passed over."""
    made = ", ".join(f"{tally.sources[name]:,} by {name}" for name in SOURCES if tally.sources[name])
    tell(f"lists made: {made or 'none, so the file has no rows'}")
    if tally.num_left_out:
        tell(f"users left out by queries=all, since they have no interactions: {tally.num_left_out:,}; name them in a "
             f"file of queries to give them the most popular items")
    if tally.unknown_items:
        unknown = counted(len(tally.unknown_items), list(tally.unknown_items))
        tell(f"not among the model's items, so ignored in histories: {unknown}")
    groups = recommender.groups
    if tally.sources["group"] and groups is not None and groups.synthetic:
        tell(f"the model's groups are synthetic ({groups.synthetic}): made of users for a demonstration")
    if tally.unknown_members:
        tell("members and groups that the model does not know, so ignored: "
             f"{counted(len(tally.unknown_members), list(tally.unknown_members))}")
    if tally.silent:
        tell(f"members ignored, since they have no interactions: {len(tally.silent):,}")
    if sentence := tally.cut.sentence(recommender.manifest["head"]):
        tell(sentence)
    if tally.num_mute:
        tell(f"warning: head={recommender.manifest['head']} has no text encoder, so texts were not read "
             f"({tally.num_mute:,}); heads that read them: two_tower, ease with head.features.text=6, or a fusion with "
             f"one of these")
    if tally.num_short:
        tell(f"lists shorter than k={k}, since no more items may be recommended: {tally.num_short:,}")
    if empty := tally.num_queries - tally.num_lists - num_without_candidates:
        tell(f"queries without a list, since they have had every item that may be recommended: "
             f"{empty:,}")


def tell(*sentences: str) -> None:
    """Print sentences to stderr, without what could act on a terminal."""
    for sentence in sentences:
        print(printable(sentence), file=sys.stderr)

