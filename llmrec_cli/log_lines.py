"""Lines with times for a log file: what a scheduled run writes to stderr."""

import os
import stat
import sys
import time
from collections.abc import Iterable
from typing import Any, TextIO

_FORMAT = "%Y-%m-%d %H:%M:%S "


class TimedLines:
    """A text stream whose lines begin with the local time; everything else is that of the stream itself."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._at_start = True

    def write(self, text: str) -> int:
        """Write text; each line begins with the time at which its first character is written."""
        stamp = time.strftime(_FORMAT)
        for n, line in enumerate(text.split("\n")):
            if n > 0:
                self._stream.write("\n")
                self._at_start = True
            if line:
                self._stream.write(stamp + line if self._at_start else line)
                self._at_start = False
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of the texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def time_lines() -> None:
    """Add times to the lines of stderr if it is a file. A terminal needs none, and what reads a pipe adds its own."""
    try:
        is_file = stat.S_ISREG(os.fstat(sys.stderr.fileno()).st_mode)
    except (OSError, ValueError):
        return
    if is_file:
        sys.stderr = TimedLines(sys.stderr)
