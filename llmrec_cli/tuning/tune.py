"""Hyperparameter search on the validation metric; the given settings are the first trial.

Optuna's tree-structured Parzen estimator (Bergstra et al. 2011) proposes settings. A trial of a head trained by epochs
is pruned if it is below the median of the earlier trials (Golovin et al. 2017). Differs: the estimator is seeded anew
for each trial by the run's seed and the trial's number, so that a resumed run proposes the same settings. A journal
records each trial; interrupted trials are repeated. The best trial replaces the given settings only if it gains more
than the standard error of the gain over the validation queries.
"""

import base64
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import ArtifactError, ConfigError, DataError, DivergedError, LlmrecError
from llmrec_cli.heads.base import Context, build
from llmrec_cli.heads.fitting import fit
from llmrec_cli.scoring.acceptance import Acceptance, accepted
from llmrec_cli.scoring.validation import Validation
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.heads.base import RangeSettings
from llmrec_cli.settings.search import (
    TuneSettings,
    places,
    proposal,
    search_space,
    tuned_parts,
    with_values,
    without_search,
)
from llmrec_cli.tuning.storage import open_journal

_VALUES = "values"
"""Trial attribute with the metric of each validation query, for paired comparisons of trials."""
_CPU_SECONDS = "cpu_seconds"
"""Trial attribute with the CPU time of all threads."""
_WARMUP_EPOCHS = 2
"""Epochs without pruning: values are not comparable while the learning rate is still rising."""


class NothingToTuneError(DataError):
    """The data makes every setting of a search space meaningless."""


@dataclass(frozen=True)
class TuningResult:
    """Result of tuning a head.

    Attributes
    ----------
    name : the head, or the member of a fusion
    initial : the model config before tuning
    best : the model config with the settings of the best trial, or the initial one if the gain is too small
    settings : the tuned settings of `best`
    value : the validation metric of `best`
    tried_value : the validation metric of the best trial
    gain : gain of the best trial over the given settings; None if these are the best or failed
    space : the range of each tuned setting
    trials : all finished trials: complete, pruned or failed
    """

    name: str
    initial: ModelConfig
    best: ModelConfig
    settings: dict[str, Any]
    value: float
    tried_value: float
    gain: Acceptance | None
    space: dict[str, RangeSettings]
    trials: list[FrozenTrial]


@dataclass(frozen=True)
class _PruningValidation(Validation):
    """A validation that reports its value to the pruner, which may end the trial."""

    report: Callable[[float], None]

    def __call__(self, score: Any) -> float:
        """Return the metric of a scorer; raise optuna.TrialPruned to end a trial that is behind."""
        value = super().__call__(score)
        self.report(value)
        return value


def tune(config: ModelConfig, settings: TuneSettings, data: TrainingData, context: Context,
         journal: Path) -> list[TuningResult]:
    """Tune a head, or each member of a fusion alone."""
    if context.validation is None:
        raise DataError(f"{settings.setting}: the prepared data has no validation split to compare settings on; "
                        f"prepare with split.valid=0.1, give rows to choose on, validation=<file>, or leave it out")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_journal(journal)
    studies = {name: _study(storage, name, settings) for name in tuned_parts(config)}
    for study in studies.values():
        for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            study.tell(trial.number, state=TrialState.FAIL)

    def time_is_over() -> bool:
        if settings.timeout_s is None:
            return False
        return sum(seconds_of(t) for study in studies.values() for t in finished_trials(study)) >= settings.timeout_s

    results, left = list[TuningResult](), settings.budget_s
    for place, (name, part) in enumerate(tuned_parts(config).items()):
        share = None if left is None else left / (len(studies) - place)
        try:
            search = _Search(name, part, settings, data, context, studies[name], time_is_over, share)
        except NothingToTuneError as error:
            if place == len(studies) - 1 and not results:
                raise
            print(f"note: {name} keeps its settings: {error}", file=sys.stderr)
            continue
        results.append(search.run())
        if left is not None:
            # What a member takes beyond its share, such as encoding the texts for all, is not taken from the others.
            left -= min(share or 0.0, cpu_seconds_of(studies[name]))
    return results


def with_best_settings(config: ModelConfig, results: list[TuningResult]) -> ModelConfig:
    """Return the model config with the best settings in place, ready to be fitted."""
    if not config.head.combines:
        return results[0].best
    members = config.members | {result.name: result.best for result in results}
    return without_search(replace(config, head=config.head.with_members(members)))


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the finished trials of a study in order, without interrupted ones."""
    return [t for t in study.get_trials(deepcopy=False) if t.state in (TrialState.COMPLETE, TrialState.PRUNED)
            or (t.state is TrialState.FAIL and "reason" in t.user_attrs)]


def seconds_of(trial: FrozenTrial) -> float:
    """Return the duration of a trial in seconds."""
    return 0.0 if trial.duration is None else trial.duration.total_seconds()


def cpu_seconds_of(study: optuna.Study) -> float:
    """Return the CPU time of a study's finished trials in seconds, of all threads."""
    return float(sum(trial.user_attrs.get(_CPU_SECONDS, 0.0) for trial in finished_trials(study)))


def format_settings(settings: dict[str, Any]) -> str:
    """Return settings in the form of command-line overrides."""
    return " ".join(f"{key}={value:g}" if isinstance(value, float) else f"{key}={'null' if value is None else value}"
                    for key, value in settings.items())


class _Search:
    """The search for the best settings of a head."""

    def __init__(self, name: str, config: ModelConfig, settings: TuneSettings, data: TrainingData, context: Context,
                 study: optuna.Study, time_is_over: Callable[[], bool], budget_s: float | None) -> None:
        self.name, self.config, self.settings, self.data, self.study = name, config, settings, data, study
        self.time_is_over, self.budget_s = time_is_over, budget_s
        self.cpu_before = time.process_time()
        # Trials are never resumed halfway, so they need no checkpoints; cached text vectors are shared.
        self.context = replace(context, folder=None, resumed=False, tensorboard=None)
        self.space = self._space()

    def run(self) -> TuningResult:
        """Run the remaining trials and return the result."""
        done = finished_trials(self.study)
        if done:
            print(f"{self.name}: resuming after {len(done)}{self._of_trials(' of ')} trials", file=sys.stderr)
        while len(done) < self.settings.most_trials and not (done and self._is_late()):
            self._trial(len(done))
            done = finished_trials(self.study)
        if self.budget_s is not None and len(done) == 1 and self.settings.trials != 1:
            print(f"{self.name}: not tuned: the first trial, of the given settings, took "
                  f"{cpu_seconds_of(self.study):.0f} CPU seconds of the {self.budget_s:.0f} that it may use; give a "
                  f"larger tune.budget", file=sys.stderr)
        complete = [t for t in done if t.state is TrialState.COMPLETE]
        if not complete:
            raise DivergedError(f"{self.settings.setting}: none of {len(done)} trials of {self.name} "
                                f"completed; the last one: {done[-1].user_attrs['reason']}")
        best = max(complete, key=lambda t: (t.value, -t.number))
        gain = self._gain(best, complete)
        # The given settings are the simpler choice, since they were not searched for.
        winner = best if gain is None or gain.is_accepted else complete[0]
        assert best.value is not None
        assert winner.value is not None
        settings = winner.user_attrs["settings"]
        self.context.log("tuned", part=self.name, trials=len(done), best=best.user_attrs["place"],
                         chosen=winner.user_attrs["place"], value=winner.value, settings=settings,
                         **({} if gain is None else gain.facts()))
        return TuningResult(self.name, self.config, with_values(self.config, settings)[0], settings, winner.value,
                            best.value, gain, self.space, done)

    def _is_late(self) -> bool:
        """Return True if no further trial may start."""
        is_spent = self.budget_s is not None and cpu_seconds_of(self.study) >= self.budget_s
        return is_spent or self.time_is_over()

    def _of_trials(self, mark: str) -> str:
        """Return the number of trials after a mark, "" if only the time is limited."""
        return f"{mark}{self.settings.trials}" if self.settings.trials else ""

    def _gain(self, best: FrozenTrial, complete: list[FrozenTrial]) -> Acceptance | None:
        """Return the paired gain of the best trial over the given settings, None if these are the best or failed."""
        initial = complete[0]
        if initial.user_attrs["place"] > 0 or best is initial:
            return None
        try:
            values, before = (_unpack(trial.user_attrs[_VALUES]) for trial in (best, initial))
        except KeyError as error:
            raise ArtifactError(f"{self.name}: tuning.journal is from an earlier version and lacks the metric of each "
                                f"query; start a new tuning run without resume=") from error
        return accepted(values - before)

    def _space(self) -> dict[str, RangeSettings]:
        """Return the ranges of the settings that can be tuned, and print those that cannot."""
        ranges = search_space(self.config)
        reasons = {key: "the selected option has no such setting" for key in self.config.head.search
                   if key not in ranges}
        reasons |= {key: why for key in ranges if (why := _missing(key, self.data)) is not None}
        unused = build(self.config).unused_settings(self.data)
        reasons |= {key: why for key, why in unused.items() if key in ranges}
        for key, why in reasons.items():
            print(f"{self.name}: {key} is not tuned: {why}", file=sys.stderr)
        space = {key: tried for key, tried in ranges.items() if key not in reasons}
        if not space:
            raise NothingToTuneError(f"{self.settings.setting}: {self.name} has nothing to tune on this data: "
                                     + "; ".join(f"{key}: {why}" for key, why in reasons.items()))
        self.context.log("search", part=self.name, settings=list(space), left_out=reasons)
        return space

    def _trial(self, place: int) -> None:
        seed = np.random.SeedSequence([self.context.seed, zlib.crc32(self.name.encode()), place]).generate_state(1)
        sampler: optuna.samplers.BaseSampler = optuna.samplers.TPESampler(
            seed=int(seed[0]), n_startup_trials=self.settings.num_startup)
        values = {key: setting.value(self.config) for key, setting in places(self.config).items() if key in self.space}
        space = self.space
        if place == 0:
            # Given values inside their range are recorded as parameters, so that the estimator learns from them.
            space = {key: tried for key, tried in space.items() if _contains(tried, values[key])}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                sampler = optuna.samplers.PartialFixedSampler({key: values[key] for key in space}, sampler)
        self.study.sampler = sampler
        trial = self.study.ask()
        suggestions = {key: self._suggest(trial, key, tried) for key, tried in space.items()}
        values = proposal(self.config, suggestions) if place else values
        trial.set_user_attr("place", place)
        trial.set_user_attr("settings", values)
        started = time.monotonic()
        state, value = self._outcome(trial, place, values)
        # With the search for the settings, which takes longer than the fit of a small head.
        now = time.process_time()
        trial.set_user_attr(_CPU_SECONDS, now - self.cpu_before)
        self.cpu_before = now
        self.study.tell(trial, value if state is TrialState.COMPLETE else None, state=state)
        self._report(place, state, value, time.monotonic() - started, values)

    def _suggest(self, trial: optuna.Trial, key: str, tried: RangeSettings) -> Any:
        if tried.choices is not None:
            return trial.suggest_categorical(key, tried.choices)
        assert tried.low is not None
        assert tried.high is not None
        if places(self.config)[key].is_whole:
            return trial.suggest_int(key, int(tried.low), int(tried.high), log=tried.log)
        value = trial.suggest_float(key, tried.low, tried.high, log=tried.log)
        # Four digits are enough and easier to type.
        return min(max(float(f"{value:.4g}"), tried.low), tried.high)

    def _outcome(self, trial: optuna.Trial, place: int, values: dict[str, Any]) -> tuple[TrialState, float | None]:
        """Fit and validate the settings of a trial."""
        config, problems = with_values(self.config, values)
        validation = self.context.validation
        assert validation is not None
        epochs: list[float] = []
        context = replace(self.context, log=partial(_without_steps, self.context.log, self.name, place),
                          validation=self._pruning_validation(validation, trial, epochs))
        try:
            if problems:
                raise ConfigError(problems)
            head = fit(config, self.data, context, quiet=place > 0)
            values_Q = validation.values(head.score)
            trial.set_user_attr(_VALUES, _pack(values_Q))
            return TrialState.COMPLETE, float(values_Q.mean())
        except optuna.TrialPruned:
            return TrialState.PRUNED, epochs[-1]
        except LlmrecError as error:
            # An error of the given settings is the user's to mend; a proposal may fail.
            if place == 0 and not isinstance(error, DivergedError):
                raise
            trial.set_user_attr("reason", f"{error.kind}: {error}")
            return TrialState.FAIL, None

    def _pruning_validation(self, validation: Validation, trial: optuna.Trial, epochs: list[float]) -> Validation:
        """Return a validation that reports to the pruner; unchanged if pruning is off or the head has no epochs.

        The value of each epoch is appended to `epochs`.
        """
        if not self.settings.pruning or "optim" not in self.config.head.uses():
            return validation

        def report(value: float) -> None:
            epochs.append(value)
            trial.report(value, len(epochs))
            if trial.should_prune():
                raise optuna.TrialPruned

        return _PruningValidation(**{f.name: getattr(validation, f.name) for f in fields(validation)}, report=report)

    def _report(self, place: int, state: TrialState, value: float | None, seconds: float,
                values: dict[str, Any]) -> None:
        self.context.log("trial", part=self.name, trial=place, state=state.name.lower(), value=value,
                         seconds=round(seconds, 3), settings=values)
        best = max((t.value for t in finished_trials(self.study)
                    if t.state is TrialState.COMPLETE and t.value is not None), default=None)
        outcome = "failed" if value is None else f"{value:.4f}" + (", pruned" if state is TrialState.PRUNED else "")
        print(f"{self.name}: trial {place + 1}{self._of_trials('/')}, {outcome}"
              + ("" if best is None else f", best so far {best:.4f}")
              + f", {seconds:.1f} s: {format_settings(values)}",
              file=sys.stderr)


def _pack(values_Q: np.ndarray) -> str:
    """Return the metric of each query as text for the journal, compressed: most values are 0."""
    return base64.b85encode(zlib.compress(values_Q.astype("<f4").tobytes())).decode()


def _unpack(text: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b85decode(text)), "<f4").astype(np.float64)


def _study(storage: optuna.storages.BaseStorage, name: str, settings: TuneSettings) -> optuna.Study:
    pruner = optuna.pruners.MedianPruner(n_startup_trials=min(5, settings.num_startup), n_warmup_steps=_WARMUP_EPOCHS)
    return optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True,
                               pruner=pruner)


def _without_steps(log: Callable[..., None], part: str, place: int, event: str, **values: Any) -> None:
    # Logging every step of every trial would make the log too long.
    if event != "step":
        log(event, **{"part": part, "trial": place} | values)


def _contains(tried: RangeSettings, value: Any) -> bool:
    if tried.choices is not None:
        return value in tried.choices
    assert tried.low is not None
    assert tried.high is not None
    return value is not None and tried.low <= value <= tried.high


def _missing(key: str, data: TrainingData) -> str | None:
    """Return the reason why a setting has no effect on this data, or None if it has one."""
    has = {"features.text": (any(data.items.texts), "texts"), "features.words": (any(data.items.texts), "texts"),
           "features.attributes": (data.items.attributes.nnz > 0, "attributes"),
           "features.knowledge": (data.knowledge is not None, "knowledge"),
           "features.two_hops": (data.knowledge is not None, "knowledge"),
           "features.documents": (data.documents is not None, "documents")}
    if key == "weight" and (value := data.interactions.value).min(initial=1) == value.max(initial=1):
        return "all interactions of the prepared data have the same value"
    if key == "weight" and data.value_kind == "rating":
        return "the values of the prepared data are ratings (dataset.values), which are not used as weights"
    if key in ("recency", "recency_half_life") and not data.has_order:
        return "the prepared data has no times, so histories have no order"
    if key == "decay" and not data.has_moments:
        return "the prepared data has no times"
    is_there, feature = has.get(key, (True, ""))
    return None if is_there else f"the items of the prepared data have no {feature}"
