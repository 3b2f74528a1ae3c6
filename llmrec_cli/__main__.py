"""`python -m llmrec_cli`: the same as `llmrec`, for launchers that start modules, such as torchrun."""

import sys
from pathlib import Path

# `python -m` imports from the current folder first, but files there (a yaml.py, a hydra_plugins/) are data, not code.
if not sys.flags.safe_path and sys.path and sys.path[0] in ("", str(Path.cwd())):
    del sys.path[0]

from llmrec_cli.cli import main

if __name__ == "__main__":
    main()
