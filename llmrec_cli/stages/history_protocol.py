"""With which interactions known users were asked in an evaluation, for metrics.json, the report and the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmrec_cli.settings.stages import LATEST, EvaluateConfig
from llmrec_cli.stages.entrants import Entrant
from llmrec_cli.stages.ranking import Ranked


def history_content(ranked: Mapping[str, Sequence[Ranked]], groups: Mapping[str, Sequence[Entrant]],
                    cfg: EvaluateConfig) -> dict[str, Any]:
    """Return the entries of the protocol of metrics.json about histories.

    history: latest | fit. num_newer_histories: users, or groups, among those that num_queries counts, that the first
    model knows and that were asked for with interactions that it was not fitted on. without_fold_in: model -> its parts
    that answer a known user by what they learned of each, so that newer interactions change nothing there.
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
    said = (f"all interactions before the split; {number:,} of {protocol['num_queries']:,} have some that are newer "
            f"than the fit" if protocol["history"] == LATEST else "those that the model was fitted on")
    fixed = [f"{name} ({', '.join(parts)})" if parts != [name] else name
             for name, parts in protocol["without_fold_in"].items()]
    by_fit = f"; known users by what was learned of each: {', '.join(fixed)}" if fixed else ""
    return [("Histories", f"{said}{by_fit}")]
