"""Histories of known users in an evaluation, described for metrics.json, the report and the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmrec_cli.evaluation.entrants import Entrant
from llmrec_cli.evaluation.ranking import Ranked
from llmrec_cli.settings.stages import LATEST, EvaluateConfig


def history_content(ranked: Mapping[str, Sequence[Ranked]], groups: Mapping[str, Sequence[Entrant]],
                    cfg: EvaluateConfig) -> dict[str, Any]:
    """Return the entries of the protocol of metrics.json about histories.

    history: latest | fit. num_newer_histories: number of users or groups, of the num_queries, that the first model
    knows and whose history has interactions that it was not fitted on. without_fold_in: model -> its parts that score
    known users from learned vectors, where newer interactions change nothing.
    """
    if cfg.cold_users.on:
        return {}
    fixed = {name: group[0].recommender.head.without_fold_in for name, group in groups.items()}
    return {"history": cfg.history, "num_newer_histories": next(iter(ranked.values()))[0].num_newer,
            "without_fold_in": {name: parts for name, parts in fixed.items() if parts}}


def history_facts(protocol: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the row of the report about histories, none where users have no history."""
    if "history" not in protocol:
        return []
    number = protocol["num_newer_histories"]
    said = (f"all interactions before the split; {number:,} of {protocol['num_queries']:,} histories are newer than "
            f"the fit" if protocol["history"] == LATEST else "interactions that the model was fitted on")
    fixed = [f"{name} ({', '.join(parts)})" if parts != [name] else name
             for name, parts in protocol["without_fold_in"].items()]
    by_fit = f"; known users scored from learned vectors: {', '.join(fixed)}" if fixed else ""
    return [("Histories", f"{said}{by_fit}")]
