"""A recommender to lists for users, histories and texts."""

import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.asked import Asked, Matched, asked, match
from llmrec_cli.data.entities import Entities
from llmrec_cli.data.groups import KnownGroups
from llmrec_cli.data.knowledge_paths import read_paths
from llmrec_cli.data.manifest import sha256
from llmrec_cli.data.queries import Queries
from llmrec_cli.device import choose_device
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.heads.artifact import Recommender, load_recommender, model_folder
from llmrec_cli.heads.base import Context
from llmrec_cli.ingest.beside import read_ids
from llmrec_cli.ingest.newcomers import new_items, new_users
from llmrec_cli.ingest.queries import inline_query, read_queries
from llmrec_cli.report.lists import Catalogue, list_table, list_writer
from llmrec_cli.report.shown_lists import show_lists
from llmrec_cli.report.terminal import printable
from llmrec_cli.run_dir import RunDir, write_json, writing
from llmrec_cli.scoring.answers import SOURCES, Answers, answer
from llmrec_cli.scoring.processes import dealt, is_first, leave_to_first
from llmrec_cli.scoring.scorer import BLOCK_CELLS
from llmrec_cli.scoring.topk import item_hash_ranks
from llmrec_cli.settings.stages import RecommendConfig
from llmrec_cli.stages.reasons import reasons

SHOWN_LISTS, SHOWN_IDS = 5, 3


@dataclass
class Known:
    """A recommender with the items and users that were added to it; the users it does not know come last."""

    recommender: Recommender
    items: Entities
    users: Entities


@dataclass
class Tally:
    """What the lists were made from, and what was passed over."""

    sources: Counter[str] = field(default_factory=Counter)
    num_lists: int = 0
    num_rows: int = 0
    num_unknown: int = 0
    unknown: list[str] = field(default_factory=list)
    num_mute: int = 0
    num_strangers: int = 0
    strangers: list[str] = field(default_factory=list)
    num_silent: int = 0

    @property
    def counts(self) -> dict[str, Any]:
        """The numbers, as a manifest has them."""
        return {"queries": self.sources.total(), "empty_lists": self.sources.total() - self.num_lists,
                "rows": self.num_rows, "sources": {name: self.sources[name] for name in SOURCES},
                "unknown_history_items": self.num_unknown, "texts_not_understood": self.num_mute,
                "unknown_members": self.num_strangers, "members_without_history": self.num_silent}


def run(cfg: RecommendConfig, run_dir: RunDir) -> None:
    """Load the model, gather the queries, add what is new, score, write or print."""
    folder = model_folder(cfg.model)
    recommender = load_recommender(folder, Context(choose_device(cfg.device), seed=1, log=run_dir.log,
                                                   cache=cfg.cache_folder))
    known = add_newcomers(cfg, recommender)
    queries = gather(cfg, known)
    tally = Tally()
    shown = queries if cfg.output else queries.rows(0, min(len(queries), SHOWN_LISTS))
    answered = answer_all(cfg, known, shown, tally)
    if not is_first():
        # Its share is done by asking for all; the first gets it with the rest.
        deque(answered, maxlen=0)
    leave_to_first()

    if cfg.output:
        write_lists(Path(cfg.output), known.items, answered, cfg.reasons)
    else:
        for answers in answered:
            show_lists(answers, known.items)
        if len(queries) > SHOWN_LISTS:
            tell(f"shown: {SHOWN_LISTS} of {len(queries):,} queries; output=<file>.parquet (or .jsonl, .csv) has all")
    tell_tally(tally, recommender)

    facts = {"model": str(folder), "output": cfg.output or None, **provenance(folder, recommender), **tally.counts}
    if cfg.output:
        write_json(Path(f"{cfg.output}.manifest.json"),
                   {"format": 1, **provenance(folder, recommender), "k": cfg.k, "exclude_seen": cfg.exclude_seen,
                    **tally.counts, "files": {Path(cfg.output).name: sha256(Path(cfg.output))}})
    run_dir.log("recommended", **tally.counts)
    run_dir.finish("recommend", facts)


def add_newcomers(cfg: RecommendConfig, recommender: Recommender) -> Known:
    """Return the recommender with the items of `items=` and the users of `users=` added."""
    texts = recommender.manifest.get("texts")
    known = Known(recommender, recommender.items, recommender.users)
    if cfg.users:
        found = new_users(cfg.users, texts, recommender.users)
        known.users = recommender.users.extended(found.entities)
        tell(*found.notes)
    if cfg.items:
        found = new_items(cfg.items, texts, recommender.items)
        recommender.head.add_items(found.entities)
        known.items = recommender.items.extended(found.entities)
        tell(*found.notes)
    return known


def gather(cfg: RecommendConfig, known: Known) -> Asked:
    """Return the queries of the command line, of a file, or of everybody.

    Everybody are users with a history, and new ones; the groups where the model was chosen for groups.
    """
    if cfg.queries is None:
        return inline_query(cfg.query)
    if cfg.queries != "all":
        return read_queries(cfg.queries)
    groups = known.recommender.groups
    if groups is not None and known.recommender.manifest.get("audience") == "groups":
        ids = list(groups.entities.ids)
        return asked([""] * len(ids), group_ids=ids)
    history = known.recommender.history
    named = np.concatenate([np.diff(history.indptr) > 0, np.ones(len(known.users) - history.shape[0], bool)])
    return asked(list(known.users.ids[named]))


def answer_all(cfg: RecommendConfig, known: Known, queries: Asked, tally: Tally) -> Iterator[Answers]:
    """Yield the lists of the queries, a block at a time, and count."""
    recommender, size = known.recommender, len(known.items)
    history, seen = widened(recommender.history, size), widened(recommender.seen, size)
    times = None if recommender.times is None else widened(recommender.times, size)
    groups = widened_groups(recommender.groups, size)
    popularity_N = np.bincount(history.indices, minlength=size).astype(np.float32)
    ranks_N = item_hash_ranks(known.items.ids)
    candidates_N = candidates(cfg.candidates, known.items) if cfg.candidates else None
    paths = read_paths(model_folder(cfg.model), size) if cfg.reasons else None
    step = max(1, min(cfg.block_size, BLOCK_CELLS // max(1, size)))

    def answer_block(start: int) -> tuple[Answers, Matched]:
        matched = match(queries.rows(start, min(start + step, len(queries))), known.users, known.items, history, seen,
                        groups, times, recommender.usual_value)
        answers = answer(recommender.head, matched, popularity_N, ranks_N, min(cfg.k, size),
                         exclude_seen=cfg.exclude_seen, candidates_N=candidates_N)
        if cfg.reasons:
            answers = replace(answers, reasons=reasons(recommender.head, answers, known.items, paths))
        return answers, matched

    for answers, matched in dealt(answer_block, range(0, len(queries), step)):
        lengths = (answers.lists.items_QK >= 0).sum(axis=1)
        tally.sources.update(answers.sources.tolist())
        tally.num_lists += int((lengths > 0).sum())
        tally.num_rows += int(lengths.sum())
        tally.num_unknown += len(matched.unknown)
        tally.unknown += list(matched.unknown[:SHOWN_IDS - len(tally.unknown)])
        tally.num_strangers += len(matched.strangers)
        tally.strangers += list(matched.strangers[:SHOWN_IDS - len(tally.strangers)])
        tally.num_silent += num_silent(answers.queries)
        tally.num_mute += 0 if recommender.head.answers_text else int((answers.queries.texts != "").sum())
        yield answers


def num_silent(queries: Queries) -> int:
    """Return how many memberships are of users who have no history, so that nothing speaks for them."""
    if queries.groups is None:
        return 0
    silent = np.diff(queries.groups.members.history.indptr) == 0
    return int(silent[queries.groups.rows.indices].sum())


def write_lists(path: Path, items: Entities, answered: Iterable[Answers], with_reasons: bool = False) -> None:
    """Write the lists to `path`, block by block."""
    catalogue = Catalogue(items)
    if path.is_dir():
        raise ConfigError(f"output={path}: is a folder; name a file in it")
    with list_writer(path, with_reasons) as writer:
        for answers in answered:
            rows = list_table(answers, catalogue)
            with writing(path):
                writer.write(rows)


def candidates(named: str, items: Entities) -> np.ndarray:
    """Return which items (num_items,) a file of ids names. Raises DataError for ids that are nobody's."""
    ids = np.array([*read_ids(named, "candidates", "item_id"), None], object)[:-1]
    places = items.find(ids)
    if (places < 0).any():
        unknown = ids[places < 0]
        raise DataError(f"candidates={named}: of {len(ids):,} ids these are not items of the model: "
                        f"{_some(len(unknown), unknown)}; add them with items=<file>, or leave them out")
    chosen = np.zeros(len(items), bool)
    chosen[places] = True
    return chosen


def widened(matrix: sp.csr_array, num_items: int) -> sp.csr_array:
    """Return the matrix with empty columns for items that were added."""
    return sp.csr_array((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], num_items))


def widened_groups(groups: KnownGroups | None, num_items: int) -> KnownGroups | None:
    """Return the groups with empty columns for items that were added."""
    if groups is None:
        return None
    return replace(groups, history=widened(groups.history, num_items), seen=widened(groups.seen, num_items),
                   times=None if groups.times is None else widened(groups.times, num_items))


def provenance(folder: Path, recommender: Recommender) -> dict[str, Any]:
    """Return which model, fitted on which data up to when: by it a stale list is told from a fresh one."""
    manifest = recommender.manifest
    return {"model_sha256": sha256(folder / "manifest.json"), "head": manifest["head"],
            "data_fingerprint": manifest["data_fingerprint"], "data_cutoff": manifest["data_cutoff"],
            "fitted_on": manifest["fitted_on"]}


def tell_tally(tally: Tally, recommender: Recommender) -> None:
    """Print to stderr what the lists were made from, and what was passed over."""
    made = ", ".join(f"{tally.sources[name]:,} by {name}" for name in SOURCES if tally.sources[name])
    tell(f"lists made: {made}")
    if tally.num_unknown:
        tell(f"not among the model's items, so ignored in histories: {_some(tally.num_unknown, tally.unknown)}")
    groups = recommender.groups
    if tally.sources["group"] and groups is not None and groups.synthetic:
        tell(f"the model's groups are synthetic ({groups.synthetic}): made of users for a demonstration")
    if tally.num_strangers:
        tell("members and groups that the model does not know, so ignored: "
             f"{_some(tally.num_strangers, tally.strangers)}")
    if tally.num_silent:
        tell(f"members without any interaction, for whom nothing speaks: {tally.num_silent:,}")
    if tally.num_mute:
        tell(f"warning: head={recommender.manifest['head']} has no text encoder, so texts were not read "
             f"({tally.num_mute:,}); heads that read them: two_tower, ease with head.features.text=6, or a fusion with "
             f"one of these")
    if empty := tally.sources.total() - tally.num_lists:
        tell(f"queries without a list, since they have had every item that may be recommended: {empty:,}")


def tell(*sentences: str) -> None:
    """Print sentences to stderr, without what could act on a terminal."""
    for sentence in sentences:
        print(printable(sentence), file=sys.stderr)


def _some(number: int, ids: Any) -> str:
    """Return how many there are and the first of them."""
    shown = ", ".join(f"'{key}'" for key in ids[:SHOWN_IDS])
    return f"{number:,} ({shown}{', ...' if number > min(len(ids), SHOWN_IDS) else ''})"
