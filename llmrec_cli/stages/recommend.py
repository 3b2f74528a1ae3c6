"""recommend: a recommender to lists for users, groups, histories and texts."""

import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmrec_cli.atomic_files import write_json, writing
from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.file_rules import file_rules_of
from llmrec_cli.data.knowledge_paths import FILE as KNOWLEDGE
from llmrec_cli.data.knowledge_paths import read_paths
from llmrec_cli.data.manifest import sha256
from llmrec_cli.data.queries import Queries
from llmrec_cli.device import choose_device
from llmrec_cli.distributed import is_first, map_shared, stop_unless_first
from llmrec_cli.errors import ConfigError, format_count
from llmrec_cli.evaluation.models import popularity_of
from llmrec_cli.heads.artifact import Recommender, import_head, load_recommender, model_folder, read_facts
from llmrec_cli.heads.base import Context
from llmrec_cli.heads.memory import Watch, entities_memory, model_memory, num_rows
from llmrec_cli.heads.shared.training_history import CutHistories
from llmrec_cli.pace import still_working, timed_parts
from llmrec_cli.report.lists import ItemColumns, list_table, list_writer
from llmrec_cli.report.printed_lists import show_lists
from llmrec_cli.report.terminal import printable
from llmrec_cli.requests.answers import SOURCES, Answers, answer
from llmrec_cli.requests.candidates import AllowedItems, allowed_items
from llmrec_cli.requests.latest_histories import Histories, latest_histories
from llmrec_cli.requests.queries import IdChecker, RawQueries, inline_query, raw_queries, read_queries
from llmrec_cli.requests.reasons import reasons
from llmrec_cli.requests.resolve import UnknownIds, resolve
from llmrec_cli.run_dir import RunDir
from llmrec_cli.scoring.memory import latest_memory, scoring_memory
from llmrec_cli.scoring.scorer import BLOCK_CELLS
from llmrec_cli.scoring.topk import item_hash_ranks
from llmrec_cli.settings.command import FIT
from llmrec_cli.settings.recommend import ListOutputSettings, RecommendConfig

_PRINTED_LISTS = 5
_WRITTEN_BYTES = 400
"""Bytes per row of a list while it is written: its strings, once in Python and once in Arrow."""
_LIBRARIES = 72 * 2**20
"""Memory of the libraries, independent of the model, when a model is read and a first list is scored and written.

pandas, which Arrow imports, takes 34 MiB, and Arrow's pools of its threads 20 MiB for any table."""


@dataclass
class ExtendedRecommender:
    """A recommender with added items and users; added ones come last.

    `listed_N`, bool, is True for items that are still in the catalogue.
    """

    recommender: Recommender
    items: Catalogue
    users: Catalogue
    listed_N: np.ndarray


@dataclass
class ListCounts:
    """Counts of lists by source and of ignored ids; a repeated id counts once."""

    sources: Counter[str] = field(default_factory=Counter)
    """Source -> number of lists, without empty ones."""
    num_queries: int = 0
    num_left_out: int = 0
    """Users of the model without interactions, which queries=all leaves out."""
    num_unknown_only: int = 0
    """Users that are new since the fit and have no interaction with an item of the model; left out too."""
    num_lists: int = 0
    num_short: int = 0
    """Lists of fewer than k items, without empty ones."""
    num_rows: int = 0
    unknown_items: dict[str, None] = field(default_factory=dict)
    num_unread_texts: int = 0
    num_untimed: int = 0
    """Interactions of histories without a time."""
    unknown_members: dict[str, None] = field(default_factory=dict)
    no_history_members: dict[str, None] = field(default_factory=dict)
    cut: CutHistories = field(default_factory=lambda: CutHistories(None))

    @property
    def entries(self) -> dict[str, Any]:
        """The counts for the manifest."""
        return {"queries": self.num_queries, "users_left_out": self.num_left_out + self.num_unknown_only,
                "empty_lists": self.num_queries - self.num_lists, "short_lists": self.num_short, "rows": self.num_rows,
                "sources": {name: self.sources[name] for name in SOURCES},
                "unknown_history_items": len(self.unknown_items), "texts_not_understood": self.num_unread_texts,
                "unknown_members": len(self.unknown_members), "members_without_history": len(self.no_history_members),
                "histories_cut": self.cut.num_histories, "history_items_not_read": self.cut.num_items}


def run(cfg: RecommendConfig, run_dir: RunDir) -> None:
    """Load the model, add new items and users, load the queries, score, write or print."""
    folder, device = model_folder(cfg.model), choose_device(cfg.device)
    import_head(folder)
    watch = Watch("recommend", memory_of(cfg, folder), device, run_dir.log)
    recommender = load_recommender(folder, Context(device, seed=1, log=run_dir.log,
                                                   cache=cfg.cache_folder))
    extended = add_new_items_and_users(cfg, recommender)
    queries = None if cfg.queries == "all" else load_queries(cfg, extended)
    histories = latest_histories(cfg, recommender, extended.users, extended.items,
                                 queries is None or has_user_or_group(queries))
    if queries is None:
        queries = all_queries(recommender, histories)
    if cfg.reasons:
        print_notes(*refuse_no_reasons(queries, recommender))
    allowed = allowed_items(cfg, queries, extended.items, extended.listed_N,
                            file_rules_of(recommender.manifest))
    print_notes(*histories.notes, *allowed.notes)
    if note := recommender.head.config.note_on_seen_items(cfg.exclude_seen):
        print_notes(note)
    counts = ListCounts()
    if cfg.queries == "all" and not (queries.group_ids != "").any():
        counts.num_left_out = len(histories.users) - len(queries)
        counts.num_unknown_only = len(histories.unknown_only)
    run_dir.log("answering", queries=len(queries))
    printed_queries = queries if cfg.output.path else queries.rows(0, min(len(queries), _PRINTED_LISTS))
    answer_blocks = answer_all(cfg, extended, histories, allowed, printed_queries, counts)
    if not is_first():
        # Iterating does this process's share of the blocks; the first process receives all of them.
        deque(answer_blocks, maxlen=0)
    stop_unless_first()

    if cfg.output.path:
        write_lists(cfg.output, extended.items, answer_blocks, cfg.reasons)
    else:
        for answers in answer_blocks:
            show_lists(answers, extended.items)
        if len(queries) > _PRINTED_LISTS:
            print_notes(f"shown: {_PRINTED_LISTS} of {len(queries):,} queries; output=<file>.parquet (or .jsonl, .csv) "
                        f"has all")
    print_summary(counts, recommender, cfg.k, allowed.num_without)

    newer_groups = {} if histories.groups is None else {"newer_group_histories": histories.num_newer_groups}
    used = {"history": histories.label, "newer_histories": histories.num_newer, **newer_groups,
            "delisted_items": int((~extended.listed_N).sum()) if cfg.delisted == "drop" else 0}
    facts = {"model": str(folder), "models": [str(folder.resolve())], "output": cfg.output.path or None,
             **provenance(recommender), **used, **counts.entries}
    if cfg.output.path:
        lists = Path(cfg.output.path)
        write_json(Path(f"{lists}.manifest.json"),
                   {"format": 1, **provenance(recommender), "k": cfg.k, "exclude_seen": cfg.exclude_seen,
                    **used, **counts.entries, "escape_formulas": cfg.output.escape_formulas,
                    "files": {lists.name: sha256(lists)}})
    watch.done()
    run_dir.log("recommended", **used, **counts.entries)
    run_dir.finish("recommend", facts)


def memory_of(cfg: RecommendConfig, folder: Path) -> int:
    """Return the peak memory of a recommendation in bytes.

    It consists of the model, with values of 1 for its histories, the prepared data if latest histories are read from
    it, a block of scores, and its lists.
    """
    data = Path((read_facts(folder).get("data") or {}).get("path") or "")
    users, items = (num_rows(folder / f"{kind}.parquet") for kind in ("users", "items"))
    rows = users if cfg.queries == "all" else _PRINTED_LISTS
    file = folder / "histories.safetensors"
    histories = file.stat().st_size if file.is_file() else 0
    block = max(1, min(cfg.block_size, rows))
    scoring = scoring_memory(rows, items, cfg.block_size) + (
        _WRITTEN_BYTES * block * min(cfg.k, items) if cfg.output.path else 0)
    base = _LIBRARIES + model_memory(folder) + histories // 2
    query = cfg.query
    has_user_or_group = cfg.queries or query.user_id or query.group_id or query.members
    if cfg.history == FIT or not (has_user_or_group or cfg.interactions):
        return base + scoring
    return base + entities_memory(data) + latest_memory(num_rows(data / "interactions.parquet"), scoring)


@still_working("adding new items and users")
def add_new_items_and_users(cfg: RecommendConfig, recommender: Recommender) -> ExtendedRecommender:
    """Return the recommender with the items of `items=` and the users of `users=` added."""
    texts, rules = recommender.manifest.get("texts"), file_rules_of(recommender.manifest)
    extended = ExtendedRecommender(recommender, recommender.items, recommender.users, recommender.listed_N)
    if cfg.users:
        from llmrec_cli.requests.new_items import new_users

        new = new_users(cfg.users, texts, recommender.users, rules)
        extended.users = recommender.users.extended(new.catalogue)
        print_notes(*new.notes)
    if cfg.items:
        # Only where they are needed: the readers of files take half a second to load.
        from llmrec_cli.requests.new_items import new_items

        new = new_items(cfg.items, texts, recommender.items, cfg.on_unknown == "error", rules)
        print_notes(*new.notes)
        # Items in the file count as listed again.
        extended.listed_N = extended.listed_N | np.isin(np.arange(len(recommender.items)), new.known_rows)
        if len(new.catalogue):
            recommender.head.add_items(new.catalogue)
            extended.items = recommender.items.extended(new.catalogue)
            extended.listed_N = np.concatenate([extended.listed_N, np.ones(len(new.catalogue), bool)])
    return extended


@still_working("reading queries")
def load_queries(cfg: RecommendConfig, extended: ExtendedRecommender) -> RawQueries:
    """Load the queries from the command line or from a file."""
    checker = None
    if cfg.on_unknown == "error":
        checker = IdChecker(extended.items, extended.users, extended.recommender.groups)
    if cfg.queries is None:
        return inline_query(cfg.query, checker)
    return read_queries(cfg.queries, checker, file_rules_of(extended.recommender.manifest))


def has_user_or_group(queries: RawQueries) -> bool:
    """Return True if a query has a user_id, a group_id or members."""
    return bool((queries.user_ids != "").any() or (queries.group_ids != "").any() or len(queries.members))


def all_queries(recommender: Recommender, histories: Histories) -> RawQueries:
    """Return a query per user with a history and per new user; for a model for groups, a query per group."""
    if histories.groups is not None and recommender.manifest.get("audience") == "groups":
        ids = list(histories.groups.entities.ids)
        return raw_queries([""] * len(ids), group_ids=ids)
    has_query = np.diff(histories.history.indptr) > 0
    has_query[histories.num_known:] = True
    return raw_queries(list(histories.users.ids[has_query]))


def refuse_no_reasons(queries: RawQueries, recommender: Recommender) -> list[str]:
    """Raise ConfigError if no query can have reasons; return a note if some cannot.

    Groups always have reasons; users only if the model has a knowledge graph.
    """
    is_group = (queries.group_ids != "") | (np.diff(queries.member_offsets) > 0)
    if is_group.all() or KNOWLEDGE in recommender.files:
        return []
    if not is_group.any():
        raise ConfigError("reasons=true: there are reasons for groups (query.group_id, query.members), and for users "
                          "if the model's data has a knowledge graph; this model has none, so leave out reasons=true")
    return [f"reasons: for groups only; {int((~is_group).sum()):,} queries of users have none"]


def answer_all(cfg: RecommendConfig, extended: ExtendedRecommender, histories: Histories, allowed: AllowedItems,
               queries: RawQueries, counts: ListCounts) -> Iterator[Answers]:
    """Yield the lists of the queries block by block, and update `counts`."""
    recommender, size = extended.recommender, len(extended.items)
    popularity_N = popularity_of(recommender, size)
    ranks_N = item_hash_ranks(extended.items.ids)
    paths = read_paths(recommender.files, size) if cfg.reasons else None
    step = max(1, min(cfg.block_size, BLOCK_CELLS // max(1, size)))

    def answer_block(start: int) -> tuple[Answers, UnknownIds]:
        stop = min(start + step, len(queries))
        resolved, unknown = resolve(queries.rows(start, stop), histories.users, extended.items, histories.history,
                                    histories.seen, histories.groups, histories.times, recommender.usual_value,
                                    histories.num_known)
        answers = answer(recommender.head, resolved, popularity_N, ranks_N, min(cfg.k, size),
                         exclude_seen=cfg.exclude_seen, candidates_N=allowed.allowed_N,
                         candidates_QN=allowed.own_candidates(start, stop))
        if cfg.reasons:
            answers = replace(answers, reasons=reasons(recommender.head, answers, extended.items, paths))
        return answers, unknown

    starts = range(0, len(queries), step)
    sizes = [min(step, len(queries) - start) for start in starts]
    parts = timed_parts("made lists for", "queries", starts, counts=sizes, quiet=True)
    for _, (answers, unknown) in zip(parts, map_shared(answer_block, starts), strict=True):
        lengths = (answers.lists.items_QK >= 0).sum(axis=1)
        counts.sources.update(np.asarray(answers.sources)[lengths > 0].tolist())
        counts.num_queries += len(lengths)
        counts.num_lists += int((lengths > 0).sum())
        counts.num_short += int(((lengths > 0) & (lengths < cfg.k)).sum())
        counts.num_rows += int(lengths.sum())
        counts.unknown_items.update(dict.fromkeys(unknown.items))
        counts.unknown_members.update(dict.fromkeys(unknown.members))
        counts.cut.limit = recommender.head.history_limit
        counts.cut.add_queries(answers.queries)
        counts.no_history_members.update(dict.fromkeys(members_without_history(answers.queries)))
        if not recommender.head.supports_text_queries:
            counts.num_unread_texts += int((answers.queries.texts != "").sum())
        counts.num_untimed += answers.queries.num_untimed
        yield answers


def members_without_history(queries: Queries) -> np.ndarray:
    """Return the ids of members without a history."""
    if queries.groups is None:
        return np.zeros(0, object)
    members = queries.groups.members
    no_history_members: np.ndarray = members.ids[np.diff(members.history.indptr) == 0]
    return no_history_members


def write_lists(output: ListOutputSettings, items: Catalogue, answer_blocks: Iterable[Answers],
                with_reasons: bool = False) -> None:
    """Write the lists to `output`, block by block."""
    columns, path = ItemColumns(items), Path(output.path)
    if path.is_dir():
        raise ConfigError(f"output={path}: is a folder; name a file in it")
    with list_writer(path, with_reasons, output.escape_formulas) as writer:
        for answers in answer_blocks:
            rows = list_table(answers, columns)
            with writing(path):
                writer.write(rows)


def provenance(recommender: Recommender) -> dict[str, Any]:
    """Return the provenance of lists for the manifest: model, data, and data cutoff."""
    manifest = recommender.manifest
    return {"model_sha256": recommender.files.hashes["manifest.json"], "head": manifest["head"],
            "data_fingerprint": manifest["data_fingerprint"], "data_cutoff": manifest["data_cutoff"],
            "fitted_on": manifest["fitted_on"]}


def print_summary(counts: ListCounts, recommender: Recommender, k: int, num_without_candidates: int) -> None:
    """Print a summary to stderr: sources of the lists, and ignored ids and queries."""
    made = ", ".join(f"{counts.sources[name]:,} by {name}" for name in SOURCES if counts.sources[name])
    print_notes(f"lists made: {made or 'none, so the file has no rows'}")
    if counts.num_left_out:
        print_notes(f"{counts.num_left_out:,} users left out by queries=all: no interactions; list them in a file of "
                    f"queries to give them the most popular items")
    if counts.num_unknown_only:
        print_notes(f"{counts.num_unknown_only:,} new users left out by queries=all: no interaction with an item of "
                    f"the model; add the items with items=<file>, or train again")
    if counts.unknown_items:
        unknown = format_count(len(counts.unknown_items), list(counts.unknown_items))
        print_notes(f"history items ignored, unknown to the model: {unknown}")
    groups = recommender.groups
    if counts.sources["group"] and groups is not None and groups.synthetic:
        print_notes(f"the model's groups are synthetic ({groups.synthetic}): built from users for demonstration")
    if counts.unknown_members:
        print_notes("members and groups ignored, unknown to the model: "
                    f"{format_count(len(counts.unknown_members), list(counts.unknown_members))}")
    if counts.no_history_members:
        print_notes(f"{len(counts.no_history_members):,} members ignored: no interactions")
    if sentence := counts.cut.sentence(recommender.manifest["head"]):
        print_notes(sentence)
    if note := recommender.head.config.note_on_untimed(counts.num_untimed):
        print_notes(note)
    if counts.num_unread_texts:
        print_notes(f"warning: {counts.num_unread_texts:,} texts were not used, because "
                    f"head={recommender.manifest['head']} has no text encoder; heads that use texts: two_tower, ease "
                    f"with head.features.text=6, or a fusion with one of these")
    if counts.num_short:
        print_notes(f"{counts.num_short:,} lists shorter than k={k}: no more items may be recommended")
    if empty := counts.num_queries - counts.num_lists - num_without_candidates:
        print_notes(f"{empty:,} queries without a list: they have seen every item that may be recommended")


def print_notes(*sentences: str) -> None:
    """Print sentences to stderr, with control characters escaped."""
    for sentence in sentences:
        print(printable(sentence), file=sys.stderr)

