"""Progress of a fit: its predicted time before, and its name in the lines that long work prints."""

import sys

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import in_time
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.pace import WORTH_A_LINE, still_working


def fit_in_sight(head: Head, name: str, data: TrainingData, context: Context, quiet: bool = False) -> None:
    """Fit a head that messages call `name`; with `quiet` its predicted time is not printed."""
    seconds = 0.0 if quiet else head.estimate_seconds(data, context.device)
    if seconds > WORTH_A_LINE:
        print(f"{name}: fitting takes about {in_time(seconds)}", file=sys.stderr)
    with still_working(f"fitting {name}"):
        head.fit(data, context)
