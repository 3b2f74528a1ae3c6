"""Whether users without a history are measured, and how much of what they do is told."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.base import Settings


@dataclass
class ColdUsers(Settings):
    """Metrics for users whom training knows nothing of, asked for with their profile and first interactions."""

    shorthand: ClassVar[str] = "on"
    """cold_users=true means cold_users.on=true."""
    on: bool = False
    """Measure users without training interactions, and only these; prepare with split=cold_users."""
    first: list[int] = field(default_factory=lambda: [0, 1, 3, 5])
    """How many of a user's first interactions are told, each at least 0."""
    after: int | None = None
    """What comes after so many interactions is to be found, and what comes before is on no list, however many are told,
    so that all figures are about the same items; at least the largest of `first`, null for that."""

    @property
    def apart(self) -> int:
        """The interactions of a user that are not to be found."""
        return max(self.first) if self.after is None else self.after

    def problems(self) -> Iterator[str]:
        if not self.first or min(self.first) < 0 or len(set(self.first)) < len(self.first):
            yield f"first={self.first}: must be different numbers, at least one, each at least 0"
        elif self.after is not None and self.after < max(self.first):
            yield f"after={self.after}: must be at least {max(self.first)}, the most that is told"
        for key in ("first", "after"):
            if not self.on and (value := getattr(self, key)) != getattr(ColdUsers(), key):
                yield f"{key}={value}: has no effect without cold_users=true"
