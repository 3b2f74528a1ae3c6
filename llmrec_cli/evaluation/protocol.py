"""Protocol of an evaluation: whose lists are measured, which candidates are ranked, and whether seen items count.

Everything here follows from the settings of `evaluate` and is the same for all models.
"""

from dataclasses import replace
from glob import glob
from pathlib import Path

import numpy as np

from llmrec_cli.data.file_rules import file_rules_of
from llmrec_cli.data.groups import without_texts
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.errors import ConfigError
from llmrec_cli.evaluation.candidates import (
    Protocol,
    cold_items,
    file_candidates,
    is_file,
    num_seen,
    sampled_candidates,
)
from llmrec_cli.evaluation.models import LoadedModel
from llmrec_cli.evaluation.query_rows import audience_of_rows
from llmrec_cli.heads.artifact import model_folder, read_facts
from llmrec_cli.requests.candidates import read_candidates
from llmrec_cli.requests.relevant_rows import QueryRows, read_query_rows
from llmrec_cli.scoring.heldout import Audience, HeldOut, audience_of
from llmrec_cli.settings.base import nearest
from llmrec_cli.settings.evaluate import EvaluateConfig
from llmrec_cli.settings.protocols import PROTOCOLS


def refuse_other_split(cfg: EvaluateConfig, data: PreparedData) -> None:
    """Raise ConfigError if the data was not split as the setting `protocol` says."""
    kind = str((data.manifest.get("split") or {}).get("kind", ""))
    splits = PROTOCOLS[cfg.protocol].splits if cfg.protocol else ()
    if splits and kind not in splits:
        raise ConfigError(f"protocol={cfg.protocol}: holds out each user's last interaction, but {data.path} was "
                          f"prepared with split={kind}; prepare with split=leave_last_out")


def read_rows(cfg: EvaluateConfig, data: PreparedData) -> QueryRows | None:
    """Return the rows of the setting `queries`; None without it."""
    if not cfg.queries:
        return None
    rows = read_query_rows(cfg.queries, "queries", data.items, file_rules_of(data.manifest))
    if cfg.protocol and not rows.gives_history:
        raise ConfigError(f"protocol={cfg.protocol}: ranks rows with their histories, and {cfg.queries} has no column "
                          f"history; add it, or leave out the protocol")
    return rows


def resolve_audience(cfg: EvaluateConfig, first: LoadedModel, rows: QueryRows | None) -> str:
    """Return users or groups: the setting `audience`; with auto that of the rows, else that of the first model."""
    if rows is not None:
        audience = "groups" if rows.are_of_groups else "users"
        if cfg.audience not in ("auto", audience):
            raise ConfigError(f"audience={cfg.audience}: the rows of queries={cfg.queries} are of {audience}; leave "
                              f"audience out")
        return audience
    return str(first.recommender.manifest.get("audience", "users")) if cfg.audience == "auto" else cfg.audience


def resolve_exclude_seen(cfg: EvaluateConfig) -> bool:
    """Return True if lists leave out seen items: by default always, except with a file of candidates or queries."""
    if cfg.exclude_seen is not None:
        return cfg.exclude_seen
    return cfg.cold_users.on or not (is_file(cfg.candidates) or cfg.queries)


def build_protocol(cfg: EvaluateConfig, data: PreparedData, rows: QueryRows | None = None) -> Protocol:
    """Return the protocol of the settings `candidates` and `queries`; `rows` are those of `queries`."""
    return replace(_candidates(cfg, data, rows), rows=rows)


def _candidates(cfg: EvaluateConfig, data: PreparedData, rows: QueryRows | None) -> Protocol:
    if cfg.candidates == "all":
        return Protocol()
    if cfg.candidates == "cold":
        return cold_items(data, cfg.split)
    if cfg.candidates.startswith("sampled:"):
        return sampled_candidates(audience_for(cfg, data, rows), int(cfg.candidates.partition(":")[2]), cfg.seed)
    refuse_missing_file(cfg)
    audience = audience_for(cfg, data, rows)
    owners = ("query_id",) if rows is not None else (f"{audience.kind}_id", "query_id")
    candidates = read_candidates(cfg.candidates, owners, file_rules_of(data.manifest))
    return file_candidates(data, audience, candidates, cfg.candidates)


def audience_for(cfg: EvaluateConfig, data: PreparedData, rows: QueryRows | None) -> Audience:
    """Return whose held-out items are ranked: the rows of a file, or the users or groups of the split."""
    return audience_of(data, cfg.audience, cfg.split) if rows is None else audience_of_rows(rows)


def owners_of_queries(cfg: EvaluateConfig, data: PreparedData, protocol: Protocol) -> Audience:
    """Return the users or groups that the queries belong to; none if only rows of a file have groups."""
    if protocol.rows is not None and cfg.audience == "groups" and data.groups("train") is None:
        nothing: np.ndarray = np.zeros(0, np.int64)
        none = Interactions(nothing, nothing, nothing.astype(np.float32), nothing, 0, len(data.items))
        return Audience("group", without_texts([]), none, none)
    return audience_of(data, cfg.audience, cfg.split)


def candidate_counts(protocol: Protocol, task: HeldOut, cfg: EvaluateConfig) -> dict[str, int | str]:
    """Return the counts of a candidate file with the numbers of seen candidates, as for the first model."""
    if not is_file(cfg.candidates):
        return protocol.counts
    seen, held_out = num_seen(task)
    return {**protocol.counts, "seen": seen, "seen_left_out": seen if cfg.exclude_seen else 0,
            "seen_held_out": held_out}


def refuse_test_rows_for_knowledge(cfg: EvaluateConfig) -> None:
    """Raise ConfigError for knowledge=true with a file of candidates for each test interaction.

    knowledge=true measures on validation, so such a file does not fit. It is read before models and data are loaded,
    so that the error comes at once.
    """
    if not cfg.knowledge.on or cfg.split == "valid" or not is_file(cfg.candidates):
        return
    refuse_missing_file(cfg)
    facts = read_facts(model_folder((cfg.models or [cfg.model])[0]))
    if read_candidates(cfg.candidates, rules=file_rules_of(facts)).by_row:
        raise ConfigError(f"candidates={cfg.candidates}: cannot be combined with knowledge=true, because each row of "
                          f"the file is about one interaction of split={cfg.split}, and knowledge=true measures on "
                          f"validation; leave out one of the two")


def refuse_missing_file(cfg: EvaluateConfig) -> None:
    """Raise ConfigError if the file in the setting `candidates` does not exist."""
    if not Path(cfg.candidates).exists() and not glob(cfg.candidates):
        raise ConfigError(f"candidates={cfg.candidates}: no such file, and none of all, cold and sampled:<n>"
                          f"{nearest(cfg.candidates, ('all', 'cold', 'sampled:99'))}")
