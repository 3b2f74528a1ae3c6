"""Shell completion: Hydra's, taught that the first word is a command."""

import os
import re
import sys
from collections.abc import Sequence

from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.stages import COMMANDS


def complete(arguments: Sequence[str]) -> int:
    """Answer `llmrec -sc install=bash` (print a script) and `llmrec -sc query=bash` (called by that script)."""
    if len(arguments) != 1 or arguments[0].partition("=")[0] not in ("install", "uninstall", "query"):
        raise ConfigError("-sc: write install=bash, install=zsh or install=fish (or uninstall=...)")
    command = next(iter(COMMANDS))
    if arguments[0].startswith("query="):
        line = os.environ.get("COMP_LINE", "")
        words = line.split()[1:]
        if not words or (len(words) == 1 and not line.endswith(" ")):
            print(" ".join(name for name in COMMANDS if name.startswith("".join(words))))
            return 0
        command = words[0]
        if command not in COMMANDS:
            return 0
        # Nothing of Hydra's own can be set, hydra.searchpath=[pkg://<a module to import>] for instance.
        os.environ["COMP_LINE"] = re.sub(r"(?<=\s)[+~]*hydra\S*\s", "", line.replace(command, "", 1))
    _hydra(command, arguments[0])
    return 0


def _hydra(command: str, request: str) -> None:
    import hydra

    from llmrec_cli.config import register_schemas
    from llmrec_cli.option_files import configs_dir

    def nothing(_: object) -> None:
        """Hydra answers before it would run this."""

    register_schemas()
    sys.argv = ["llmrec", "-sc", request]
    hydra.main(version_base="1.3", config_path=str(configs_dir()), config_name=command)(nothing)()
