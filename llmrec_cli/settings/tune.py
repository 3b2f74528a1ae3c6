"""Tuning: how much is tried. What may be tried is said by the heads, see `search.py`."""

from collections.abc import Iterator
from dataclasses import dataclass

from llmrec_cli.settings.base import Settings


@dataclass
class Tune(Settings):
    """A search for better settings on the validation metric, before the head is fitted."""

    trials: int = 0
    """Settings tried, the given ones first, at least 0; 0 fits the given ones alone. A fusion tries as many for each
    member. The ranges are in head.search."""
    timeout_s: float | None = None
    """Seconds of tuning after which no further trial begins, above 0; null for no limit."""
    num_startup: int = 10
    """Trials drawn at random before those that learn from the ones so far, at least 1."""
    pruning: bool = True
    """Give up a trial of a head trained by epochs that is below the median of the earlier ones after an epoch."""

    def problems(self) -> Iterator[str]:
        yield from self.check("trials", least=0)
        yield from self.check("timeout_s", above=0)
        yield from self.check("num_startup", least=1)
        if self.trials == 0:
            for key in ("timeout_s", "num_startup", "pruning"):
                if (value := getattr(self, key)) != getattr(Tune, key):
                    shown = str(value).lower() if isinstance(value, bool) else value
                    yield f"{key}={shown}: has no effect without tuning; set tune.trials=<number>"
