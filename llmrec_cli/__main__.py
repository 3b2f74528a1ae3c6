"""`python -m llmrec_cli`: the same as `llmrec`, for launchers that start modules, such as torchrun."""

import sys
from pathlib import Path

# `python -m` looks for modules in the current folder first. What lies there (a yaml.py, a hydra_plugins/) is data.
if not sys.flags.safe_path and sys.path and sys.path[0] in ("", str(Path.cwd())):
    del sys.path[0]

from llmrec_cli.cli import main

if __name__ == "__main__":
    main()
