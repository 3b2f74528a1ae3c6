"""From what was measured to what the report shows."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.evaluation.entrants import Entrant
from llmrec_cli.evaluation.history_protocol import history_facts
from llmrec_cli.evaluation.measured import Measured
from llmrec_cli.evaluation.outcome import Outcome
from llmrec_cli.metrics.lists import exposure
from llmrec_cli.report.candidates import candidate_notes
from llmrec_cli.report.content import Content, Duel, Shown, duels, examples, main_cutoff, training_curves
from llmrec_cli.report.terminal import printable
from llmrec_cli.settings.stages import EvaluateConfig


def report_content(outcome: Outcome, metrics: dict[str, Any], groups: Mapping[str, Sequence[Entrant]],
                   data: PreparedData, cfg: EvaluateConfig) -> Content:
    """Return all that the report of an evaluation shows; `metrics` is the content of metrics.json."""
    task, cutoff = outcome.task, main_cutoff(cfg.k)
    shown = {name: exposure(one.lists.items_QK[:, :cutoff], len(data.items))[task.candidates_N]
             for name, one in (outcome.models if len(outcome.models) > 1 else outcome.everyone).items()}
    name, entrants = next(iter(groups.items()))
    rivals, fought = _duels(outcome, data, cutoff)
    return Content(name, _facts(entrants, outcome, metrics, data, cfg), metrics, cutoff,
                   task.counts_N[task.candidates_N], shown, training_curves(entrants[0].folder.parent / "log.jsonl"),
                   examples(task, outcome.main.lists, outcome.main.hits_QK, data.items, cutoff), fought, rivals)


def _duels(outcome: Outcome, data: PreparedData, cutoff: int) -> tuple[tuple[str, str], list[Duel]]:
    """Return the first model against the best of the others, and the users with whom they differ most."""
    first = next(iter(outcome.models))
    other = next((name for name in outcome.ranking.names if name in outcome.models and name != first), None)
    if other is None:
        return ("", ""), []

    def shown(one: Measured) -> Shown:
        return Shown(one.lists, one.hits_QK, one.values[outcome.ranking.metric])

    found = duels(outcome.task, shown(outcome.models[first]), shown(outcome.models[other]), data.items, cutoff)
    return (first, other), found


def _facts(entrants: Sequence[Entrant], outcome: Outcome, metrics: dict[str, Any], data: PreparedData,
           cfg: EvaluateConfig) -> dict[str, list[tuple[str, str]]]:
    """Return what was trained on what, as labels and values."""
    recommender, task = entrants[0].recommender, outcome.task
    manifest, counts = recommender.manifest, data.manifest["counts"]
    same = data.manifest["fingerprint"] == manifest["data_fingerprint"]
    split, num = data.manifest["split"], int(task.candidates_N.sum())
    ranked = {"all": f"all {num:,} items", "cold": f"{num:,} items without training interactions"}
    seeds = ", ".join("–" if entrant.seed is None else str(entrant.seed) for entrant in entrants)
    synthetic = data.manifest.get("groups", {}).get("synthetic")
    grouped = [("Groups", f"{counts.get('groups', 0):,}{f', synthetic ({synthetic})' if synthetic else ''}")]
    facts = {
        "Data": [("Name", data.manifest["name"]), ("Users", f"{counts['users']:,}"), ("Items", f"{counts['items']:,}"),
                 *(grouped if cfg.audience == "groups" else []),
                 ("Interactions", f"{counts['train']:,} train, {counts['valid']:,} valid, {counts['test']:,} test"),
                 ("Split", ", ".join(f"{key} {value}" for key, value in split.items() if value not in (None, ""))),
                 ("Fingerprint", data.manifest["fingerprint"][:16])],
        "Model": [("Head", manifest["head"]), ("Fitted on", " + ".join(manifest["fitted_on"])),
                  ("Interactions", f"{recommender.history.nnz:,} of {recommender.history.shape[0]:,} users"),
                  ("Encoders", ", ".join(manifest["encoders"]) or "none"),
                  ("Seeds" if entrants[1:] else "Seed", seeds),
                  ("Data", "the same as measured on" if same else f"other: {manifest['data_fingerprint'][:16]}")],
        "Measured": [("On", f"the {cfg.split} split, {task.relevant_QN.nnz:,} interactions"),
                     (cfg.audience.title(), f"{task.num_owners:,} ({task.num_skipped:,} skipped)"),
                     *([] if task.owner_Q is None else [("Rows", f"{len(task.queries):,}, each a list of its own")]),
                     *history_facts(metrics["protocol"]),
                     ("Candidates", ranked.get(outcome.candidates, outcome.candidates)
                      + (f", less what a {cfg.audience[:-1]} has seen" if cfg.exclude_seen else "")),
                     *(("Of the candidates", note.partition(": ")[2]) for note in candidate_notes(metrics["protocol"])),
                     ("Intervals", f"95%, {cfg.num_bootstrap:,} resamples of the {cfg.audience}"),
                     ("Diversity", f"by {outcome.diversity}" if outcome.diversity else "not measured"),
                     ("Baselines", ", ".join(cfg.baselines) or "none")]}
    return {name: [(label, printable(str(value))) for label, value in rows] for name, rows in facts.items()}
