"""`llmrec-retrain`: the packaged scripts/retrain.sh, for installations without a checkout."""

import os
import signal
import sys
from pathlib import Path


def main() -> None:
    """Replace this process by the script, run by /bin/sh with the same arguments, process id and signals."""
    if not os.environ.get("LLMREC") and (command := command_beside(Path(sys.argv[0]), Path(sys.executable))):
        os.environ["LLMREC"] = str(command)
    # Python ignores these two signals, and a program started by it would inherit that.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.execv("/bin/sh", ["sh", str(script_file()), *sys.argv[1:]])


def command_beside(*programs: Path) -> Path | None:
    """Return the `llmrec` in the folder of one of these programs, since cron has no PATH to it; None if there is
    none."""
    candidates = [program.absolute().parent / "llmrec" for program in programs]
    return next((command for command in candidates if os.access(command, os.X_OK)), None)


def script_file() -> Path:
    """Return the script: in the checkout, or in the installed package."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / "scripts" / "retrain.sh"
    return checkout if (package.parent / "pyproject.toml").is_file() else package / "scripts" / "retrain.sh"


if __name__ == "__main__":
    main()
