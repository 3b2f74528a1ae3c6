"""Training curves in Weights & Biases or MLflow, offline, by accelerate's trackers."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from llmrec_cli.errors import ConfigError
from llmrec_cli.run_dir import RunDir
from llmrec_cli.settings.base import implementation_of, to_plain
from llmrec_cli.settings.tracker import MlflowSettings, NoTrackerSettings, TrackerSettings, WandbSettings

_CURVES = ("step", "validation")
"""Events with values that change while training."""


@contextmanager
def track_run(settings: TrackerSettings, run_dir: RunDir, config: Any) -> Iterator[None]:
    """Send the curves that `run_dir` logs in the block to the tracker; `config` are the run's settings.

    Raises ConfigError if the tracker is not installed.
    """
    if missing := [name for name in settings.packages if find_spec(name) is None]:
        raise ConfigError(f"tracker={settings.kind}: needs {' and '.join(missing)}; pip install "
                          f"'llmrec-cli[{settings.kind}]', or choose tracker=none")
    tracker = implementation_of(settings)(settings, run_dir)
    if tracker is None:
        yield
        return
    from accelerate import PartialState

    PartialState()  # accelerate's trackers need the process state.
    tracker.start()
    tracker.store_init_configuration(flat(to_plain(config)))
    listener = Listener(tracker.log)
    run_dir.listeners.append(listener)
    try:
        yield
    finally:
        run_dir.listeners.remove(listener)
        tracker.finish()


class Listener:
    """Passes curves to a tracker: `loss` of `step` events becomes `step/loss`, or `<part>/step/loss` for a part.

    Trackers need steps that never decrease, so the steps of a part continue those of the part before.
    """

    def __init__(self, log: Callable[..., None]) -> None:
        self.log = log
        self.step = 0
        self.part, self.start = "", 0

    def __call__(self, event: str, part: str = "", **values: Any) -> None:
        """Log an event if it belongs to a curve."""
        if event not in _CURVES:
            return
        if part != self.part:
            self.part, self.start = part, self.step
        if "step" in values:
            self.step = max(self.step, self.start + values.pop("step"))
        values.pop("epoch", None)
        name = f"{part}/{event}" if part else event
        self.log({f"{name}/{key}": value for key, value in values.items()}, step=self.step)


def flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested settings with dotted keys (`optim.batch_size: 1024`); values are numbers or strings."""
    if not isinstance(settings, dict):
        return {prefix: settings if isinstance(settings, int | float | str) else str(settings)}
    values: dict[str, Any] = {}
    for key, value in settings.items():
        values |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return values


def no_tracker(settings: NoTrackerSettings, run_dir: RunDir) -> None:
    """Return None: no tracker."""


def wandb_tracker(settings: WandbSettings, run_dir: RunDir) -> Any:
    """Return a tracker that writes an offline run for `wandb sync`."""
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    import wandb
    from accelerate.tracking import WandBTracker

    # No metadata about the machine, its user or the repository is written.
    quiet = wandb.Settings(mode="offline", console="off", silent=True, disable_git=True, save_code=False, host="-",
                           x_disable_meta=True, x_disable_machine_info=True, x_disable_stats=True)
    return WandBTracker(settings.project, dir=str(run_dir.path), name=run_dir.path.name, settings=quiet)


def mlflow_tracker(settings: MlflowSettings, run_dir: RunDir) -> Any:
    """Return a tracker that writes to an SQLite file or to the given database."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import mlflow
    from accelerate.tracking import MLflowTracker

    mlflow.set_tracking_uri(settings.database or f"sqlite:///{run_dir.file('mlflow.db').resolve()}")
    return MLflowTracker(settings.experiment, logging_dir=str(run_dir.file("mlflow").resolve()),
                         run_name=run_dir.path.name)
