"""Results of pretraining in metrics.json, on the terminal and in the report."""

import sys
from dataclasses import asdict, dataclass
from typing import Any

from llmrec_cli.atomic_files import write_bytes
from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.evaluation.report_facts import safe
from llmrec_cli.language.phrases import Phrase, fixed_phrase
from llmrec_cli.report.pretraining import PretrainingReport, ProbeExample, logged_losses, render, settings_in_words
from llmrec_cli.report.terminal import columns, printable
from llmrec_cli.run_dir import RunDir
from llmrec_cli.settings.stages import PretrainConfig
from llmrec_cli.training.loop import TrainResult
from llmrec_cli.training.objective import Measure, Task
from llmrec_cli.training.probe import FEWEST_QUESTIONS, Answers, Probe, mrr_difference

_QUESTIONS = {"description": Phrase("which title belongs to this description?"),
              "history": Phrase("which title comes next after these?")}
_NUM_QUESTIONS, _NUM_SAMPLES = 8, 6


@dataclass(frozen=True)
class PretrainingResults:
    """A training run with held-out measures before and after; without a probe if there are too few questions."""

    task: Task
    trained: TrainResult
    before: Measure
    after: Measure
    probe: Probe | None
    probe_before: Answers | None
    probe_after: Answers | None


def metrics_of(results: PretrainingResults, cfg: PretrainConfig) -> dict[str, Any]:
    """Return the content of metrics.json."""
    probe = _probe_metrics(results, cfg.seed)
    return {"format": 1, "objective": cfg.objective.kind, "base": cfg.encoder.kind, "seed": cfg.seed,
            "best_epoch": results.trained.best_epoch, "scored": results.task.train.scored,
            "num_texts": {"train": len(results.task.train.texts), "held_out": len(results.task.held_out.texts)},
            "head_is_new": results.task.head_is_new, "before": asdict(results.before), "after": asdict(results.after),
            "epochs": [{"training_loss": loss, "held_out_loss": -value} for loss, value
                       in zip(results.trained.losses, results.trained.values, strict=True)],
            "probe": probe, "warnings": _warnings(results, probe)}


def _probe_metrics(results: PretrainingResults, seed: int) -> dict[str, Any] | None:
    if results.probe is None or results.probe_before is None or results.probe_after is None:
        return None
    difference, interval = mrr_difference(results.probe_before, results.probe_after, seed)
    verdict = "better" if interval[0] > 0 else "worse" if interval[1] < 0 else "no clear difference"
    return {"kind": results.probe.kind, "question": _QUESTIONS[results.probe.kind],
            "num_questions": len(results.probe.questions), "num_titles": len(results.probe.titles),
            "before": results.probe_before.metrics(), "after": results.probe_after.metrics(),
            "mrr_difference": {"difference": difference, "ci95": list(interval)}, "verdict": verdict}


def _warnings(results: PretrainingResults, probe: dict[str, Any] | None) -> list[str]:
    """Return warnings for people who are about to use the encoder."""
    warnings: list[str] = []
    if probe is None:
        warnings.append(Phrase("No probe: fewer than {num} held-out items have a question, so damage to the vectors "
                               "would not be noticed. Raise objective.holdout_share, or compare both encoders in a "
                               "trained head.", num=FEWEST_QUESTIONS))
    elif probe["mrr_difference"]["difference"] < 0:
        low, high = probe["mrr_difference"]["ci95"]
        verdict = (Phrase("Pretraining did harm: the encoder ranks the right title lower")
                   if probe["verdict"] == "worse" else
                   Phrase("Pretraining may have done harm: the encoder ranks the right title lower, but not "
                          "significantly"))
        warnings.append(Phrase("{verdict} (mrr {before:.3f} before, {after:.3f} after, 95% interval of the difference "
                               "{low:+.3f} to {high:+.3f}). Compare both encoders in a trained head before you use "
                               "this one. A lower optim.encoder_learning_rate, fewer epochs or another objective may "
                               "work better.", verdict=verdict, before=probe["before"]["mrr"],
                               after=probe["after"]["mrr"], low=low, high=high))
    if results.after.loss > results.before.loss:
        warnings.append(Phrase("The held-out loss rose from {before:.3f} to {after:.3f} nats: the training does not "
                               "generalise to other texts. Lower optim.encoder_learning_rate, or use the encoder as it "
                               "was before.", before=results.before.loss, after=results.after.loss))
    return warnings


def show(results: PretrainingResults, metrics: dict[str, Any]) -> None:
    """Print the metrics before and after pretraining, and warnings on stderr."""
    before, after = results.before, results.after
    rows = [["loss (nats)", f"{before.loss:.3f}", f"{after.loss:.3f}"],
            ["accuracy", f"{before.accuracy:.1%}", f"{after.accuracy:.1%}"]]
    if probe := metrics["probe"]:
        rows += [[f"probe: {name}", f"{probe['before'][name]:.3f}", f"{probe['after'][name]:.3f}"]
                 for name in probe["before"]]
    print(columns([f"held out: {after.num_scored:,} {metrics['scored']}", "before", "after"], rows))
    if probe:
        print(f"probe ({probe['kind']}): {probe['question']} {probe['num_questions']:,} questions, "
              f"{probe['num_titles']:,} titles; {probe['verdict']}")
    if results.task.head_is_new:
        print("The head was new, so the loss before says little about the encoder itself.")
    for warning in metrics["warnings"]:
        print(f"WARNING: {warning}", file=sys.stderr)


def write_report(run_dir: RunDir, results: PretrainingResults, metrics: dict[str, Any], cfg: PretrainConfig,
                 data: PreparedData, seconds: float) -> None:
    """Write report.html."""
    counts = data.manifest["counts"]
    facts: dict[str, list[tuple[str, str]]] = {
        Phrase("Data"): [(Phrase("Name"), data.manifest["name"]), (Phrase("Items"), f"{counts['items']:,}"),
                 (Phrase("Interactions"), Phrase("{num:,} in training", num=counts["train"])),
                 (Phrase("Fingerprint"), data.manifest["fingerprint"][:16])],
        Phrase("Corpus"): [(Phrase("Trained on"), Phrase("{num:,} examples", num=len(results.task.train.texts))),
                   (Phrase("Held out"), Phrase("{num:,} examples", num=len(results.task.held_out.texts))),
                   *settings_in_words(asdict(cfg.objective))],
        Phrase("Training"): [(Phrase("Objective"), fixed_phrase(cfg.objective.in_words or cfg.objective.kind)),
                     (Phrase("Encoder"), cfg.encoder.kind),
                     (Phrase("Epochs"), Phrase("{num}, best {best}", num=len(results.trained.losses),
                                               best=results.trained.best_epoch)),
                     (Phrase("Examples per step"), f"{cfg.optim.batch_size:,}"), (Phrase("Seed"), str(cfg.seed)),
                     (Phrase("Time"), Phrase("{seconds:,.0f} s", seconds=seconds))]}
    texts = results.task.train.texts
    metrics = metrics | {"objective": cfg.objective.in_words or cfg.objective.kind}
    content = PretrainingReport(metrics, data.manifest["name"],
                                {name: [(label, safe(value)) for label, value in rows]
                                 for name, rows in facts.items()},
                                logged_losses(run_dir.file("log.jsonl")), _probe_examples(results),
                                [printable(texts[n * len(texts) // _NUM_SAMPLES]) for n in range(_NUM_SAMPLES)])
    write_bytes(run_dir.file("report.html"), render(content, cfg.language).encode("utf-8", "replace"))


def _probe_examples(results: PretrainingResults) -> list[ProbeExample]:
    """Return the first few probe questions with the nearest titles, whatever the answers."""
    probe, before, after = results.probe, results.probe_before, results.probe_after
    if probe is None or before is None or after is None:
        return []
    titles, answer = [printable(title) for title in probe.titles], probe.answer

    def nearest(answers: Answers, n: int) -> list[tuple[str, bool]]:
        return [(titles[place], bool(place == answer[n])) for place in answers.nearest_QK[n]]

    return [ProbeExample(printable(probe.questions[n]), titles[answer[n]], nearest(before, n), nearest(after, n),
                         float(before.rank_Q[n]), float(after.rank_Q[n]))
            for n in range(min(_NUM_QUESTIONS, len(probe.questions)))]
