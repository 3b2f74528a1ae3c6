"""Tuning: settings tried one after the other on the validation metric, the given ones first.

A tree-structured Parzen estimator (Bergstra et al. 2011; Optuna's) proposes, and a trial of a head trained by epochs is
given up where it is below the median of the earlier ones (Golovin et al. 2017). Differs: the estimator is seeded anew
for each trial by the run's seed and the trial's place, so that a run that was killed and is gone on with proposes what
it would have. Each trial is in a journal; one that was interrupted is done again. The best trial replaces the given
settings only if it gains more than its standard error over the validation queries.
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
"""Attribute of a trial with the metric of each validation query, so that trials are compared in pairs."""
_WARMUP_EPOCHS = 2
"""Epochs in which no trial is given up: a learning rate that is still rising says little."""


@dataclass(frozen=True)
class Tuned:
    """Outcome of tuning a head.

    Attributes
    ----------
    name : the head, or the member of a fusion
    given : the model config as it was given
    best : the model config with the settings of the best trial, or as given where that gains too little
    settings : those settings
    value : their metric on validation
    tried_value : the metric of the best trial
    gain : of the best trial over the given settings; None where the given ones are best or came to no value
    space : what could be chosen
    trials : all that came to an end: complete, pruned or failed
    """

    name: str
    given: ModelConfig
    best: ModelConfig
    settings: dict[str, Any]
    value: float
    tried_value: float
    gain: Acceptance | None
    space: dict[str, RangeSettings]
    trials: list[FrozenTrial]


@dataclass(frozen=True)
class _Watched(Validation):
    """The validation as a trial sees it, which may end the trial."""

    report: Callable[[float], None]

    def __call__(self, score: Any) -> float:
        """Return the metric of a scorer, or raise optuna.TrialPruned where it is not worth going on."""
        value = super().__call__(score)
        self.report(value)
        return value


def tune(config: ModelConfig, settings: TuneSettings, data: TrainingData, context: Context,
         journal: Path) -> list[Tuned]:
    """Return the best settings of a head, or of each member of a fusion by itself."""
    if context.validation is None:
        raise DataError(f"tune.trials={settings.trials}: the prepared data holds nothing out for validation, on which "
                        f"settings are compared; prepare with split.valid=0.1, or leave out tune.trials")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_journal(journal)
    studies = {name: _study(storage, name, settings) for name in tuned_parts(config)}
    for study in studies.values():
        for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            study.tell(trial.number, state=TrialState.FAIL)

    def is_late() -> bool:
        if settings.timeout_s is None:
            return False
        return sum(seconds_of(t) for study in studies.values() for t in ended(study)) >= settings.timeout_s

    return [_Search(name, part, settings, data, context, studies[name], is_late).run()
            for name, part in tuned_parts(config).items()]


def with_tuned(config: ModelConfig, tuned: list[Tuned]) -> ModelConfig:
    """Return the model config with the best settings in place, ready to be fitted."""
    if not config.head.combines:
        return tuned[0].best
    members = config.members | {each.name: each.best for each in tuned}
    return without_search(replace(config, head=config.head.with_members(members)))


def ended(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials of a study that came to an end of their own, in order; what was interrupted is none."""
    return [t for t in study.get_trials(deepcopy=False) if t.state in (TrialState.COMPLETE, TrialState.PRUNED)
            or (t.state is TrialState.FAIL and "reason" in t.user_attrs)]


def seconds_of(trial: FrozenTrial) -> float:
    """Return how long a trial took."""
    return 0.0 if trial.duration is None else trial.duration.total_seconds()


def in_words(settings: dict[str, Any]) -> str:
    """Return settings as a person types them."""
    return " ".join(f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
                    for key, value in settings.items())


class _Search:
    """The search for the best settings of one head."""

    def __init__(self, name: str, config: ModelConfig, settings: TuneSettings, data: TrainingData, context: Context,
                 study: optuna.Study, is_late: Callable[[], bool]) -> None:
        self.name, self.config, self.settings, self.data, self.study = name, config, settings, data, study
        self.is_late = is_late
        # Trials are never gone on with in the middle, so they need no checkpoints; what encoders said is shared.
        self.context = replace(context, folder=None, resumed=False, tensorboard=None)
        self.space = self._space()

    def run(self) -> Tuned:
        """Try what is left to try and return the best."""
        done = ended(self.study)
        if done:
            print(f"{self.name}: going on after {len(done)} of {self.settings.trials} trials", file=sys.stderr)
        while len(done) < self.settings.trials and not (done and self.is_late()):
            self._trial(len(done))
            done = ended(self.study)
        complete = [t for t in done if t.state is TrialState.COMPLETE]
        if not complete:
            raise DivergedError(f"tune.trials={self.settings.trials}: not one of {len(done)} trials of {self.name} "
                                f"came to an end; the last: {done[-1].user_attrs['reason']}")
        best = max(complete, key=lambda t: (t.value, -t.number))
        gain = self._gain(best, complete)
        # The given settings are the simpler choice: nothing was search_space for them.
        chosen = best if gain is None or gain.is_accepted else complete[0]
        assert best.value is not None
        assert chosen.value is not None
        settings = chosen.user_attrs["settings"]
        self.context.log("tuned", part=self.name, trials=len(done), best=best.user_attrs["place"],
                         chosen=chosen.user_attrs["place"], value=chosen.value, settings=settings,
                         **({} if gain is None else gain.facts()))
        return Tuned(self.name, self.config, with_values(self.config, settings)[0], settings, chosen.value, best.value,
                     gain, self.space, done)

    def _gain(self, best: FrozenTrial, complete: list[FrozenTrial]) -> Acceptance | None:
        """Return the paired gain of the best trial over the given settings, None where these are it or failed."""
        given = complete[0]
        if given.user_attrs["place"] > 0 or best is given:
            return None
        try:
            values, before = (_unpacked(trial.user_attrs[_VALUES]) for trial in (best, given))
        except KeyError as error:
            raise ArtifactError(f"{self.name}: the trials in tuning.journal are of an earlier version, without the "
                                f"metric of each query; tune anew, without resume") from error
        return accepted(values - before)

    def _space(self) -> dict[str, RangeSettings]:
        """Return what can be chosen here, and say what cannot."""
        known = search_space(self.config)
        reasons = {key: "the option that is chosen has no such setting" for key in self.config.head.search
                   if key not in known}
        reasons |= {key: why for key in known if (why := _missing(key, self.data)) is not None}
        unused = build(self.config).unused_settings(self.data)
        reasons |= {key: why for key, why in unused.items() if key in known}
        for key, why in reasons.items():
            print(f"{self.name}: {key} is not tuned: {why}", file=sys.stderr)
        self.context.log("search", part=self.name, settings=[key for key in known if key not in reasons],
                         left_out=reasons)
        space = {key: tried for key, tried in known.items() if key not in reasons}
        if not space:
            raise DataError(f"tune.trials={self.settings.trials}: {self.name} has nothing to tune on this data: "
                            + "; ".join(f"{key}: {why}" for key, why in reasons.items()))
        return space

    def _trial(self, place: int) -> None:
        seed = np.random.SeedSequence([self.context.seed, zlib.crc32(self.name.encode()), place]).generate_state(1)
        sampler: optuna.samplers.BaseSampler = optuna.samplers.TPESampler(
            seed=int(seed[0]), n_startup_trials=self.settings.num_startup)
        values = {key: found.value(self.config) for key, found in places(self.config).items() if key in self.space}
        space = self.space
        if place == 0:
            # What was given, noted where it is in the range, so that the estimator learns from it.
            space = {key: tried for key, tried in space.items() if _contains(tried, values[key])}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                sampler = optuna.samplers.PartialFixedSampler({key: values[key] for key in space}, sampler)
        self.study.sampler = sampler
        trial = self.study.ask()
        drawn = {key: self._draw(trial, key, tried) for key, tried in space.items()}
        values = proposal(self.config, drawn) if place else values
        trial.set_user_attr("place", place)
        trial.set_user_attr("settings", values)
        started = time.monotonic()
        state, value = self._outcome(trial, place, values)
        self.study.tell(trial, value if state is TrialState.COMPLETE else None, state=state)
        self._tell(place, state, value, time.monotonic() - started, values)

    def _draw(self, trial: optuna.Trial, key: str, tried: RangeSettings) -> Any:
        if tried.choices is not None:
            return trial.suggest_categorical(key, tried.choices)
        assert tried.low is not None
        assert tried.high is not None
        if places(self.config)[key].is_whole:
            return trial.suggest_int(key, int(tried.low), int(tried.high), log=tried.log)
        drawn = trial.suggest_float(key, tried.low, tried.high, log=tried.log)
        # Four digits, as a person would type it.
        return min(max(float(f"{drawn:.4g}"), tried.low), tried.high)

    def _outcome(self, trial: optuna.Trial, place: int, values: dict[str, Any]) -> tuple[TrialState, float | None]:
        """Fit and measure what a trial proposes."""
        config, problems = with_values(self.config, values)
        validation = self.context.validation
        assert validation is not None
        epochs: list[float] = []
        context = replace(self.context, log=partial(_without_steps, self.context.log, self.name, place),
                          validation=self._watched(validation, trial, epochs))
        try:
            if problems:
                raise ConfigError(problems)
            head = fit(config, self.data, context, quiet=place > 0)
            values_Q = validation.values(head.score)
            trial.set_user_attr(_VALUES, _packed(values_Q))
            return TrialState.COMPLETE, float(values_Q.mean())
        except optuna.TrialPruned:
            return TrialState.PRUNED, epochs[-1]
        except LlmrecError as error:
            # What was given must work, and whoever gave it is told; a proposal may be a bad one.
            if place == 0 and not isinstance(error, DivergedError):
                raise
            trial.set_user_attr("reason", f"{error.kind}: {error}")
            return TrialState.FAIL, None

    def _watched(self, validation: Validation, trial: optuna.Trial, epochs: list[float]) -> Validation:
        """Return the validation as it is, or for a head trained by epochs with the pruner behind it.

        What it finds after each epoch is appended to `epochs`.
        """
        if not self.settings.pruning or "optim" not in self.config.head.uses():
            return validation

        def report(value: float) -> None:
            epochs.append(value)
            trial.report(value, len(epochs))
            if trial.should_prune():
                raise optuna.TrialPruned

        return _Watched(**{f.name: getattr(validation, f.name) for f in fields(validation)}, report=report)

    def _tell(self, place: int, state: TrialState, value: float | None, seconds: float, values: dict[str, Any]) -> None:
        self.context.log("trial", part=self.name, trial=place, state=state.name.lower(), value=value,
                         seconds=round(seconds, 3), settings=values)
        best = max((t.value for t in ended(self.study) if t.state is TrialState.COMPLETE and t.value is not None),
                   default=None)
        shown = "failed" if value is None else f"{value:.4f}" + (", given up" if state is TrialState.PRUNED else "")
        print(f"{self.name}: trial {place + 1}/{self.settings.trials}, {shown}"
              + ("" if best is None else f", best {best:.4f}") + f", {seconds:.1f} s: {in_words(values)}",
              file=sys.stderr)


def _packed(values_Q: np.ndarray) -> str:
    """Return the metric of each query as text for the journal: most are 0, so they are small when compressed."""
    return base64.b85encode(zlib.compress(values_Q.astype("<f4").tobytes())).decode()


def _unpacked(text: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b85decode(text)), "<f4").astype(np.float64)


def _study(storage: optuna.storages.BaseStorage, name: str, settings: TuneSettings) -> optuna.Study:
    pruner = optuna.pruners.MedianPruner(n_startup_trials=min(5, settings.num_startup), n_warmup_steps=_WARMUP_EPOCHS)
    return optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True,
                               pruner=pruner)


def _without_steps(log: Callable[..., None], part: str, place: int, event: str, **values: Any) -> None:
    # Every step of every trial would make the log as long as all of them together.
    if event != "step":
        log(event, **{"part": part, "trial": place} | values)


def _contains(tried: RangeSettings, value: Any) -> bool:
    if tried.choices is not None:
        return value in tried.choices
    assert tried.low is not None
    assert tried.high is not None
    return value is not None and tried.low <= value <= tried.high


def _missing(key: str, data: TrainingData) -> str | None:
    """Return what the data would have to have for a setting to mean anything, None where it has it."""
    has = {"features.text": (any(data.items.texts), "texts"), "features.words": (any(data.items.texts), "texts"),
           "features.attributes": (data.items.attributes.nnz > 0, "attributes"),
           "features.knowledge": (data.knowledge is not None, "knowledge"),
           "features.two_hops": (data.knowledge is not None, "knowledge"),
           "features.documents": (data.documents is not None, "documents")}
    if key == "weight" and (value := data.interactions.value).min(initial=1) == value.max(initial=1):
        return "the interactions of the prepared data all have the same value"
    if key == "weight" and data.value_kind == "rating":
        return "the values of the prepared data are ratings (dataset.values), which are not used as weights"
    if key == "decay" and not data.has_moments:
        return "the prepared data has no times"
    there, what = has.get(key, (True, ""))
    return None if there else f"the items of the prepared data have no {what}"
