"""Effects of a pretraining in metrics.json, on the terminal and in the report."""

import sys
from dataclasses import asdict, dataclass
from typing import Any

from llmrec_cli.atomic_files import write_bytes
from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.report.pretraining import Asked, Content, logged_losses, render
from llmrec_cli.report.terminal import columns, printable
from llmrec_cli.run_dir import RunDir
from llmrec_cli.settings.stages import PretrainConfig
from llmrec_cli.training.loop import TrainResult
from llmrec_cli.training.objective import Measure, Task
from llmrec_cli.training.probe import FEWEST_QUESTIONS, Answers, Probe, mrr_difference

_QUESTIONS = {"description": "which title belongs to this text, of which the title was left out?",
              "history": "which title comes after these?"}
_NUM_SHOWN, _NUM_SAMPLES = 8, 6


@dataclass(frozen=True)
class Outcome:
    """A training with its measures before and after; no probe where there are too few questions."""

    task: Task
    trained: TrainResult
    before: Measure
    after: Measure
    probe: Probe | None
    asked_before: Answers | None
    asked_after: Answers | None


def metrics_of(outcome: Outcome, cfg: PretrainConfig) -> dict[str, Any]:
    """Return the content of metrics.json."""
    probe = _probe_metrics(outcome, cfg.seed)
    return {"format": 1, "objective": cfg.objective.kind, "base": cfg.encoder.kind, "seed": cfg.seed,
            "best_epoch": outcome.trained.best_epoch, "scored": outcome.task.train.scored,
            "num_texts": {"train": len(outcome.task.train.texts), "held_out": len(outcome.task.held_out.texts)},
            "head_is_new": outcome.task.head_is_new, "before": asdict(outcome.before), "after": asdict(outcome.after),
            "epochs": [{"training_loss": loss, "held_out_loss": -value} for loss, value
                       in zip(outcome.trained.losses, outcome.trained.values, strict=True)],
            "probe": probe, "warnings": _warnings(outcome, probe)}


def _probe_metrics(outcome: Outcome, seed: int) -> dict[str, Any] | None:
    if outcome.probe is None or outcome.asked_before is None or outcome.asked_after is None:
        return None
    difference, interval = mrr_difference(outcome.asked_before, outcome.asked_after, seed)
    verdict = "better" if interval[0] > 0 else "worse" if interval[1] < 0 else "no clear difference"
    return {"kind": outcome.probe.kind, "question": _QUESTIONS[outcome.probe.kind],
            "num_questions": len(outcome.probe.questions), "num_titles": len(outcome.probe.titles),
            "before": outcome.asked_before.metrics(), "after": outcome.asked_after.metrics(),
            "mrr_difference": {"difference": difference, "ci95": list(interval)}, "verdict": verdict}


def _warnings(outcome: Outcome, probe: dict[str, Any] | None) -> list[str]:
    """Return what went wrong, in words for whoever is about to use the encoder."""
    found = []
    if probe is None:
        found.append(f"No probe: fewer than {FEWEST_QUESTIONS} held-out items could be asked about, so harm to the "
                     f"vectors would not be seen. Raise objective.holdout_share, or compare the encoders by a head.")
    elif probe["mrr_difference"]["difference"] < 0:
        low, high = probe["mrr_difference"]["ci95"]
        surely = "Pretraining did harm" if probe["verdict"] == "worse" else "Pretraining may have done harm"
        found.append(f"{surely}: the right title comes back less readily than before (mrr {probe['before']['mrr']:.3f} "
                     f"before, {probe['after']['mrr']:.3f} after, 95% interval of the difference {low:+.3f} to "
                     f"{high:+.3f}). Compare both encoders by the head you need before you use this one; a lower "
                     f"optim.encoder_learning_rate, fewer epochs or another objective may suit the texts better.")
    if outcome.after.loss > outcome.before.loss:
        found.append(f"The held-out loss rose from {outcome.before.loss:.3f} to {outcome.after.loss:.3f} nats, so the "
                     f"encoder learned nothing that holds for other texts. Lower optim.encoder_learning_rate, or keep "
                     f"the encoder as it was.")
    return found


def show(outcome: Outcome, metrics: dict[str, Any]) -> None:
    """Print what pretraining changed."""
    before, after = outcome.before, outcome.after
    rows = [["loss (nats)", f"{before.loss:.3f}", f"{after.loss:.3f}"],
            ["accuracy", f"{before.accuracy:.1%}", f"{after.accuracy:.1%}"]]
    if probe := metrics["probe"]:
        rows += [[f"probe: {name}", f"{probe['before'][name]:.3f}", f"{probe['after'][name]:.3f}"]
                 for name in probe["before"]]
    print(columns([f"held out: {after.num_scored:,} {metrics['scored']}", "before", "after"], rows))
    if probe:
        print(f"probe ({probe['kind']}): {probe['question']} {probe['num_questions']:,} questions, "
              f"{probe['num_titles']:,} titles; {probe['verdict']}")
    if outcome.task.head_is_new:
        print("The head was new, so the loss before says little about the encoder itself.")
    for warning in metrics["warnings"]:
        print(f"WARNING: {warning}", file=sys.stderr)


def write_report(run_dir: RunDir, outcome: Outcome, metrics: dict[str, Any], cfg: PretrainConfig, data: PreparedData,
                 seconds: float) -> None:
    """Write report.html."""
    counts = data.manifest["counts"]
    facts = {
        "Data": [("Name", data.manifest["name"]), ("Items", f"{counts['items']:,}"),
                 ("Interactions", f"{counts['train']:,} in training"),
                 ("Fingerprint", data.manifest["fingerprint"][:16])],
        "Corpus": [("Trained on", f"{len(outcome.task.train.texts):,} examples"),
                   ("Held out", f"{len(outcome.task.held_out.texts):,} examples"),
                   *((key, str(value)) for key, value in asdict(cfg.objective).items()
                     if key != "kind" and value is not None)],
        "Training": [("Objective", cfg.objective.kind), ("Encoder", cfg.encoder.kind),
                     ("Epochs", f"{len(outcome.trained.losses)}, best {outcome.trained.best_epoch}"),
                     ("Batch", f"{cfg.optim.batch_size:,}"), ("Seed", str(cfg.seed)), ("Time", f"{seconds:,.0f} s")]}
    texts = outcome.task.train.texts
    content = Content(metrics, data.manifest["name"],
                      {name: [(label, printable(value)) for label, value in rows] for name, rows in facts.items()},
                      logged_losses(run_dir.file("log.jsonl")), _asked(outcome),
                      [printable(texts[n * len(texts) // _NUM_SAMPLES]) for n in range(_NUM_SAMPLES)])
    write_bytes(run_dir.file("report.html"), render(content).encode("utf-8", "replace"))


def _asked(outcome: Outcome) -> list[Asked]:
    """Return a few questions with what came back; they are the first ones, however they were answered."""
    probe, before, after = outcome.probe, outcome.asked_before, outcome.asked_after
    if probe is None or before is None or after is None:
        return []
    titles, answer = [printable(title) for title in probe.titles], probe.answer

    def nearest(answers: Answers, n: int) -> list[tuple[str, bool]]:
        return [(titles[place], bool(place == answer[n])) for place in answers.nearest_QK[n]]

    return [Asked(printable(probe.questions[n]), titles[answer[n]], nearest(before, n), nearest(after, n),
                  float(before.rank_Q[n]), float(after.rank_Q[n]))
            for n in range(min(_NUM_SHOWN, len(probe.questions)))]
