"""The page docs/settings.md: every command, config group, option and setting, from the settings dataclasses.

`python -m llmrec_cli.settings_page` prints it; `make docs` writes it.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from llmrec_cli.cli import SUMMARIES
from llmrec_cli.config import compose_defaults
from llmrec_cli.help import brief, nested_settings, range_of
from llmrec_cli.keys import config_groups_of
from llmrec_cli.option_files import merge, option_values, values_over_options
from llmrec_cli.settings.base import OptionSettings, Settings
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.search import flat_search
from llmrec_cli.settings.stages import COMMANDS

_PAGE = """# Settings

```sh
llmrec finetune --help head=ease
```

prints the part of this page about one option. `make docs` writes the page from the code: every command with its own
settings, then every config group (`head=`, `encoder=`, ...) with its options. Settings are given as `key=value`; an
empty default is an empty text. `head.search.<setting>=` changes the ranges for tuning. `llmrec --help` lists
`experiment=`, `plugins=`, `--config-dir` and `--multirun`, which every command takes too.
"""
_EVERY_COMMAND = ("run_dir", "settings", "debug")


def markdown() -> str:
    """Return the page docs/settings.md."""
    commands = [line for command in SUMMARIES for line in _command(command)]
    options = [line for group, table in CONFIG_GROUPS.items() for line in _config_group(group, table)]
    return "\n".join([_PAGE, *_every_command(), *commands, *options]).rstrip() + "\n"


def _every_command() -> Iterator[str]:
    settings = nested_settings(COMMANDS["finetune"], compose_defaults("finetune"), "")
    yield from ("## Every command", "")
    yield from _table([row for row in settings if row[0] in _EVERY_COMMAND])


def _command(command: str) -> Iterator[str]:
    """Yield the section of a command: its config groups, and a table of the settings that are its own."""
    composed = compose_defaults(command)
    yield from (f"## llmrec {command}", "", f"{SUMMARIES[command]}.", "")
    groups = [f"[`{group}={composed[group]['kind']}`](#{group})" if composed.get(group) else f"[`{group}`](#{group})"
              for group in config_groups_of(command)]
    if groups:
        yield from (f"Config groups: {', '.join(groups)}.", "")
    yield from _table([row for row in nested_settings(COMMANDS[command], composed, "") if row[0] not in _EVERY_COMMAND])


def _config_group(group: str, table: Mapping[str, type[OptionSettings]]) -> Iterator[str]:
    """Yield the section of a config group: each option with its docstring and its settings."""
    commands = [command for command in SUMMARIES if group in config_groups_of(command)]
    yield from (f"## {group}", "", f"Used by {', '.join(commands)}.", "")
    for name, cls in table.items():
        values = merge(option_values(group, name), values_over_options(commands[0]).get(group, {}))
        yield from (f"### {group}={name}", "", _escaped(_doc(cls)), "")
        yield from _table(list(nested_settings(cls, values, f"{group}.")), flat_search(values.get("search") or {}))


def _doc(cls: type[Settings]) -> str:
    return " ".join((inspect.getdoc(cls) or "").split())


def _table(rows: list[tuple[str, Any, str]], search: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Yield a table of settings; then, if there are any, the ranges for tuning."""
    if rows:
        yield from ("| setting | default | meaning |", "|---|---|---|")
        yield from (f"| `{key}` | {_code(brief(value))} | {_escaped(meaning)} |" for key, value, meaning in rows)
        yield ""
    if search:
        ranges = "; ".join(f"`{key}` {range_of(limits)}" for key, limits in search.items())
        yield from (f"Ranges for tuning: {ranges}.", "")


def _code(text: str) -> str:
    """Return a value in backticks, as a cell of a table."""
    return f"`{text}`".replace("|", "\\|") if text else ""


def _escaped(text: str) -> str:
    """Return text for a cell: bars, angle brackets and asterisks outside of code are no markup."""
    parts = re.split(r"(`[^`]*`)", text)
    # Entities, since a backslash before a bracket < is printed by some programs.
    return "".join(part.replace("|", "\\|") if part.startswith("`") else re.sub(r"([|*_\[\]])", r"\\\1", part)
                   .replace("<", "&lt;").replace(">", "&gt;") for part in parts)


if __name__ == "__main__":
    print(markdown(), end="")
