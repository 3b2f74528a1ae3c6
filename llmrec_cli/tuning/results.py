"""Results of tuning for people: trials.csv, a table of the settings, and facts for the manifest."""

import csv
import io
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from llmrec_cli.atomic_files import write_bytes
from llmrec_cli.report.terminal import columns
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.search import places
from llmrec_cli.tuning.tune import Tuned, seconds_of

_ENOUGH = 10
"""Complete trials below which nothing is said of which settings matter."""


def write_trials(path: Path, tuned: list[Tuned]) -> None:
    """Write a row per trial: head or member, place, state, value, seconds, why it failed, and its settings."""
    keys = list(dict.fromkeys(key for each in tuned for trial in each.trials for key in trial.user_attrs["settings"]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["part", "trial", "state", "value", "seconds", "reason", *keys])
    for each in tuned:
        for trial in each.trials:
            settings = trial.user_attrs["settings"]
            writer.writerow([each.name, trial.user_attrs["place"], trial.state.name.lower(), _value(trial),
                             round(seconds_of(trial), 3), trial.user_attrs.get("reason", ""),
                             *(settings.get(key, "") for key in keys)])
    write_bytes(path, text.getvalue().encode())


def facts_of(tuned: list[Tuned]) -> dict[str, Any]:
    """Return what the manifest says of tuning, by head or member."""
    return {each.name: {"trials": len(each.trials), "pruned": _count(each, TrialState.PRUNED),
                        "failed": _count(each, TrialState.FAIL), "given": _value(each.trials[0]), "value": each.value,
                        "tried_value": each.tried_value, "gain": None if each.gain is None else each.gain.facts(),
                        "settings": each.settings, "importance": importance(each)} for each in tuned}


def summary(config: ModelConfig, tuned: list[Tuned], monitor: str) -> str:
    """Return what a person wants to know: what was gained, by which settings, and which of them matter."""
    return "\n".join(line for each in tuned for line in _lines(config, each, monitor))


def importance(tuned: Tuned) -> dict[str, float]:
    """Return the share of each setting in what separates the best tenth of the trials from the rest, summing to 1.

    PED-ANOVA (Watanabe et al. 2023) by Optuna. Empty where there are too few trials to tell.
    """
    known = set(tuned.space)
    complete = [t for t in tuned.trials if t.state is TrialState.COMPLETE and set(t.params) == known]
    if len(complete) < _ENOUGH or len({t.value for t in complete}) == 1:
        return {}
    study = optuna.create_study(direction="maximize")
    study.add_trials(complete)
    found = optuna.importance.get_param_importances(study, evaluator=optuna.importance.PedAnovaImportanceEvaluator())
    return {key: round(value, 4) for key, value in found.items()}


def _lines(config: ModelConfig, tuned: Tuned, monitor: str) -> list[str]:
    given, total = _value(tuned.trials[0]), len(tuned.trials)
    pruned, failed = _count(tuned, TrialState.PRUNED), _count(tuned, TrialState.FAIL)
    beside = [f"{number} {what}" for number, what in ((pruned, "given up early"), (failed, "failed")) if number]
    matters, known = importance(tuned), places(tuned.given)
    best = max((t for t in tuned.trials if t.state is TrialState.COMPLETE), key=lambda t: (t.value, -t.number))
    found = best.user_attrs["settings"]
    rows = [[key, _shown(known[key].value(tuned.given)), _shown(found[key]), _range(tuned, key),
             f"{matters[key]:.2f}" if key in matters else "-"]
            for key in sorted(tuned.space, key=lambda key: -matters.get(key, 0.0))]
    typed = " ".join(f"{_prefix(config, tuned, key)}{key}={_shown(value)}" for key, value in tuned.settings.items())
    return [f"{tuned.name}: {monitor} on validation {tuned.tried_value:.4f} after {total} trials"
            + (f" ({', '.join(beside)})" if beside else "")
            + (f", {given:.4f} as given" if isinstance(given, float) else ""),
            *_verdict(tuned), columns(["setting", "given", "best", "tried", "importance"], rows),
            f"the same by hand: {typed}", ""]


def _verdict(tuned: Tuned) -> list[str]:
    """Return whether the best trial was taken, by how much it gained over the given settings."""
    if tuned.gain is None:
        return []
    kept = "accepted" if tuned.gain.is_accepted else "too small, so the given settings stay"
    return [f"{tuned.name}: gain of the best settings over the given ones {tuned.gain}: {kept}"]


def _prefix(config: ModelConfig, tuned: Tuned, key: str) -> str:
    """Return what comes before a setting's key on the command line."""
    if config.head.combines:
        return f"head.members.{tuned.name}."
    return "head." if places(config)[key].part == "head" else ""


def _range(tuned: Tuned, key: str) -> str:
    tried = tuned.space[key]
    if tried.choices is not None:
        return ", ".join(map(_shown, tried.choices))
    return f"{_shown(tried.low)} to {_shown(tried.high)}" + (" (log)" if tried.log else "")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return {None: "null", True: "true", False: "false"}.get(value, str(value)) if not isinstance(value, int) or \
        isinstance(value, bool) else str(value)


def _value(trial: FrozenTrial) -> float | str:
    """Return a trial's value; that of its last epoch where it was given up, "" where it failed."""
    return "" if trial.value is None else trial.value


def _count(tuned: Tuned, state: TrialState) -> int:
    return sum(trial.state is state for trial in tuned.trials)
