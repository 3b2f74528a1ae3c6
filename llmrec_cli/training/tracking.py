"""A run's curves in Weights & Biases or MLflow, by accelerate's trackers and without a network."""

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
"""Events with numbers that change while training."""


@contextmanager
def tracked(settings: TrackerSettings, run_dir: RunDir, config: Any) -> Iterator[None]:
    """Let the tracker hear of all that `run_dir` logs in the block. `config` are the run's settings.

    Raises ConfigError where the tracker is not installed.
    """
    if missing := [name for name in settings.packages if find_spec(name) is None]:
        raise ConfigError(f"tracker={settings.kind}: needs {' and '.join(missing)}; pip install "
                          f"'llmrec-cli[{settings.kind}]', or choose tracker=none")
    tracker = implementation_of(settings)(settings, run_dir)
    if tracker is None:
        yield
        return
    from accelerate import PartialState

    PartialState()  # Its trackers ask which process they are in.
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
    """Tells a tracker of curves: `loss` of the events `step` becomes `step/loss`, that of a part `<part>/step/loss`.

    Trackers want steps that never fall, so a part begins where the one before it ended.
    """

    def __init__(self, tell: Callable[..., None]) -> None:
        self.tell = tell
        self.step = 0
        self.part, self.start = "", 0

    def __call__(self, event: str, part: str = "", **values: Any) -> None:
        """Hear of an event."""
        if event not in _CURVES:
            return
        if part != self.part:
            self.part, self.start = part, self.step
        if "step" in values:
            self.step = max(self.step, self.start + values.pop("step"))
        values.pop("epoch", None)
        name = f"{part}/{event}" if part else event
        self.tell({f"{name}/{key}": value for key, value in values.items()}, step=self.step)


def flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested settings as `optim.batch_size: 1024`; what is neither a number nor a text is written as one."""
    if not isinstance(settings, dict):
        return {prefix: settings if isinstance(settings, int | float | str) else str(settings)}
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def no_tracker(settings: NoTrackerSettings, run_dir: RunDir) -> None:
    """Return no tracker."""


def wandb_tracker(settings: WandbSettings, run_dir: RunDir) -> Any:
    """Return a tracker that writes the run for `wandb sync`."""
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    import wandb
    from accelerate.tracking import WandBTracker

    # What is written beside the curves says nothing of the machine, its user or the repository.
    quiet = wandb.Settings(mode="offline", console="off", silent=True, disable_git=True, save_code=False, host="-",
                           x_disable_meta=True, x_disable_machine_info=True, x_disable_stats=True)
    return WandBTracker(settings.project, dir=str(run_dir.path), name=run_dir.path.name, settings=quiet)


def mlflow_tracker(settings: MlflowSettings, run_dir: RunDir) -> Any:
    """Return a tracker that writes to a database in a file."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import mlflow
    from accelerate.tracking import MLflowTracker

    mlflow.set_tracking_uri(settings.database or f"sqlite:///{run_dir.file('mlflow.db').resolve()}")
    return MLflowTracker(settings.experiment, logging_dir=str(run_dir.file("mlflow").resolve()),
                         run_name=run_dir.path.name)
