"""Table of all config groups: config group -> option -> dataclass."""

from collections.abc import Mapping

from llmrec_cli.settings.adversarial import ADVERSARIES
from llmrec_cli.settings.base import OptionSettings
from llmrec_cli.settings.encoder import ENCODERS
from llmrec_cli.settings.engine import ENGINES
from llmrec_cli.settings.entities import ENTITIES
from llmrec_cli.settings.head import HEADS
from llmrec_cli.settings.loss import LOSSES
from llmrec_cli.settings.objective import OBJECTIVES
from llmrec_cli.settings.optim import OPTIMS
from llmrec_cli.settings.peft import PEFTS
from llmrec_cli.settings.presets import DATASETS
from llmrec_cli.settings.split import SPLITS
from llmrec_cli.settings.tracker import TRACKERS

CONFIG_GROUPS: Mapping[str, Mapping[str, type[OptionSettings]]] = {
    "dataset": DATASETS, "split": SPLITS, "engine": ENGINES, "encoder": ENCODERS, "objective": OBJECTIVES,
    "head": HEADS, "peft": PEFTS, "adversarial": ADVERSARIES, "loss": LOSSES, "optim": OPTIMS,
    "entities": ENTITIES, "tracker": TRACKERS}
