"""Protocol of an evaluation: whose lists are measured, which candidates are ranked, and whether seen items count.

Everything here follows from the settings of `evaluate` and is the same for all models.
"""

from glob import glob
from pathlib import Path

from llmrec_cli.data.file_rules import file_rules_of
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
from llmrec_cli.heads.artifact import model_folder, read_facts
from llmrec_cli.requests.candidates import read_candidates
from llmrec_cli.scoring.heldout import HeldOut, audience_of
from llmrec_cli.settings.base import nearest
from llmrec_cli.settings.stages import EvaluateConfig


def resolve_audience(cfg: EvaluateConfig, first: LoadedModel) -> str:
    """Return users or groups: the setting `audience`, or with auto the audience of the first model."""
    return str(first.recommender.manifest.get("audience", "users")) if cfg.audience == "auto" else cfg.audience


def resolve_exclude_seen(cfg: EvaluateConfig) -> bool:
    """Return True if lists leave out seen items: by default always, except with a candidate file."""
    if cfg.exclude_seen is not None:
        return cfg.exclude_seen
    return cfg.cold_users.on or not is_file(cfg.candidates)


def build_protocol(cfg: EvaluateConfig, data: PreparedData) -> Protocol:
    """Return the protocol of the setting `candidates`."""
    if cfg.candidates == "all":
        return Protocol()
    if cfg.candidates == "cold":
        return cold_items(data, cfg.split)
    if cfg.candidates.startswith("sampled:"):
        return sampled_candidates(audience_of(data, cfg.audience, cfg.split),
                                  int(cfg.candidates.partition(":")[2]), cfg.seed)
    refuse_missing_file(cfg)
    audience = audience_of(data, cfg.audience, cfg.split)
    candidates = read_candidates(cfg.candidates, (f"{audience.kind}_id", "query_id"), file_rules_of(data.manifest))
    return file_candidates(data, audience, candidates, cfg.candidates)


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
