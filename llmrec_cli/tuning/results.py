"""Reports of tuning: trials.csv, a printed table of the settings, and entries for the manifest."""

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
from llmrec_cli.tuning.tune import TuningResult, seconds_of

_ENOUGH = 10
"""Minimum number of complete trials for an estimate of the importance of settings."""


def write_trials(path: Path, results: list[TuningResult]) -> None:
    """Write a row per trial: head or member, number, state, value, seconds, reason of a failure, and settings."""
    trials = [trial for result in results for trial in result.trials]
    keys = list(dict.fromkeys(key for trial in trials for key in trial.user_attrs["settings"]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["part", "trial", "state", "value", "seconds", "reason", *keys])
    for result in results:
        for trial in result.trials:
            settings = trial.user_attrs["settings"]
            writer.writerow([result.name, trial.user_attrs["place"], trial.state.name.lower(), _value(trial),
                             round(seconds_of(trial), 3), trial.user_attrs.get("reason", ""),
                             *(settings.get(key, "") for key in keys)])
    write_bytes(path, text.getvalue().encode())


def manifest_entry(results: list[TuningResult]) -> dict[str, Any]:
    """Return the manifest's entry for tuning, by head or member."""
    return {result.name: {"trials": len(result.trials), "pruned": _count(result, TrialState.PRUNED),
                          "failed": _count(result, TrialState.FAIL), "given": _value(result.trials[0]),
                          "value": result.value, "tried_value": result.tried_value,
                          "gain": None if result.gain is None else result.gain.facts(),
                          "settings": result.settings, "importance": importance(result)} for result in results}


def summary(config: ModelConfig, results: list[TuningResult], monitor: str) -> str:
    """Return the printed summary: the gain on validation, the best settings, and the importance of each."""
    return "\n".join(line for result in results for line in _lines(config, result, monitor))


def importance(result: TuningResult) -> dict[str, float]:
    """Return the importance of each setting; importances sum to 1.

    Optuna's PED-ANOVA (Watanabe et al. 2023): the setting's share in separating the best tenth of the trials from the
    rest. Empty if there are too few trials.
    """
    keys = set(result.space)
    complete = [t for t in result.trials if t.state is TrialState.COMPLETE and set(t.params) == keys]
    if len(complete) < _ENOUGH or len({t.value for t in complete}) == 1:
        return {}
    study = optuna.create_study(direction="maximize")
    study.add_trials(complete)
    shares = optuna.importance.get_param_importances(study, evaluator=optuna.importance.PedAnovaImportanceEvaluator())
    return {key: round(value, 4) for key, value in shares.items()}


def _lines(config: ModelConfig, result: TuningResult, monitor: str) -> list[str]:
    initial_value, total = _value(result.trials[0]), len(result.trials)
    if total == 1:
        return [f"{result.name}: {monitor} on validation {result.tried_value:.4f} with the given settings, not tuned"]
    pruned, failed = _count(result, TrialState.PRUNED), _count(result, TrialState.FAIL)
    incomplete = [f"{number} {state}" for number, state in ((pruned, "pruned"), (failed, "failed")) if number]
    importances, setting_places = importance(result), places(result.initial)
    best = max((t for t in result.trials if t.state is TrialState.COMPLETE), key=lambda t: (t.value, -t.number))
    best_settings = best.user_attrs["settings"]
    rows = [[key, _format(setting_places[key].value(result.initial)), _format(best_settings[key]), _range(result, key),
             f"{importances[key]:.2f}" if key in importances else "-"]
            for key in sorted(result.space, key=lambda key: -importances.get(key, 0.0))]
    overrides = " ".join(f"{_prefix(config, result, key)}{key}={_format(value)}"
                         for key, value in result.settings.items())
    return [f"{result.name}: {monitor} on validation {result.tried_value:.4f} after {total} trials"
            + (f" ({', '.join(incomplete)})" if incomplete else "")
            + (f", {initial_value:.4f} with the given settings" if isinstance(initial_value, float) else ""),
            *_verdict(result), columns(["setting", "given", "best", "tried", "importance"], rows),
            f"equivalent overrides: {overrides}", ""]


def _verdict(result: TuningResult) -> list[str]:
    """Return the line on the best trial's gain over the given settings and its acceptance."""
    if result.gain is None:
        return []
    verdict = "accepted" if result.gain.is_accepted else "too small, so the given settings stay"
    return [f"{result.name}: gain of the best settings over the given ones {result.gain}: {verdict}"]


def _prefix(config: ModelConfig, result: TuningResult, key: str) -> str:
    """Return the prefix of a setting's key on the command line."""
    if config.head.combines:
        return f"head.members.{result.name}."
    return "head." if places(config)[key].part == "head" else ""


def _range(result: TuningResult, key: str) -> str:
    tried = result.space[key]
    if tried.choices is not None:
        return ", ".join(map(_format, tried.choices))
    return f"{_format(tried.low)} to {_format(tried.high)}" + (" (log)" if tried.log else "")


def _format(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return {None: "null", True: "true", False: "false"}.get(value, str(value)) if not isinstance(value, int) or \
        isinstance(value, bool) else str(value)


def _value(trial: FrozenTrial) -> float | str:
    """Return a trial's value: that of its last epoch if it was pruned, "" if it failed."""
    return "" if trial.value is None else trial.value


def _count(result: TuningResult, state: TrialState) -> int:
    return sum(trial.state is state for trial in result.trials)
