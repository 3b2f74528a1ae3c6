"""Experiment trackers in addition to TensorBoard, which is always written. Nothing leaves the machine."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.base import OptionSettings


@dataclass
class TrackerSettings(OptionSettings):
    """Settings of every tracker; `implementation` is a function (settings, run directory) -> accelerate's tracker."""

    packages: ClassVar[tuple[str, ...]] = ()
    """Packages that must be installed."""
    kind: str = ""
    """The option's name; choose with tracker=<name>."""


@dataclass
class NoTrackerSettings(TrackerSettings):
    """TensorBoard only."""

    implementation: ClassVar[str] = "llmrec_cli.training.tracking.no_tracker"
    kind: str = "none"


@dataclass
class WandbSettings(TrackerSettings):
    """Weights & Biases, offline: the run is written to <run directory>/wandb; `wandb sync` uploads it."""

    implementation: ClassVar[str] = "llmrec_cli.training.tracking.wandb_tracker"
    packages: ClassVar[tuple[str, ...]] = ("wandb",)
    kind: str = "wandb"
    project: str = "llmrec"
    """Project of the run."""

    def problems(self) -> Iterator[str]:
        if not self.project:
            yield "project: empty; name one"


@dataclass
class MlflowSettings(TrackerSettings):
    """MLflow with a database in a file."""

    implementation: ClassVar[str] = "llmrec_cli.training.tracking.mlflow_tracker"
    packages: ClassVar[tuple[str, ...]] = ("mlflow", "sqlalchemy", "alembic")
    kind: str = "mlflow"
    experiment: str = "llmrec"
    """Experiment of the run."""
    database: str = ""
    """sqlite:///<file>; empty for mlflow.db in the run directory. Use the same file in several runs to compare them."""

    def problems(self) -> Iterator[str]:
        if not self.experiment:
            yield "experiment: empty; name one"
        if self.database and not self.database.startswith("sqlite:///"):
            yield (f"database={self.database}: write sqlite:///<file>; MLflow no longer supports plain folders, and "
                   f"llmrec sends nothing to servers")


TRACKERS = {"none": NoTrackerSettings, "wandb": WandbSettings, "mlflow": MlflowSettings}
