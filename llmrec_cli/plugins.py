"""Options of other people's packages, entered into the tables for this process when the command line names them.

A package brings settings classes: dataclasses of HeadSettings, LossSettings, EncoderSettings and so on, each with its
`kind` and the dotted path of its `implementation`. They are those that its entry points of the group `llmrec.heads`
name, or without entry points those in the namespace of the package itself. Importing a package runs its code, so only
the command line names one: no saved model, no shared config, no experiment.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, cast

from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.base import OptionSettings
from llmrec_cli.settings.groups import GROUPS

_SETTING = "plugins"
_ENTRY_POINTS = "llmrec.heads"
PACKAGE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


def take_plugins(typed: Sequence[str]) -> list[str]:
    """Load the packages that each `plugins=[a,b]` names, and return what else was typed."""
    named = [text.partition("=")[2] for text in typed if text.partition("=")[0] == _SETTING]
    for packages in named:
        for package in packages.strip("[]").split(","):
            load(package.strip(" '\""))
    return [text for text in typed if text.partition("=")[0] != _SETTING]


def load(package: str) -> None:
    """Enter the options of a package into the tables, or raise ConfigError."""
    if not PACKAGE.fullmatch(package):
        what = "is not the name of a package" if package else "names no package"
        raise ConfigError(f"{_SETTING}={package}: {what}; write {_SETTING}=[my_package], or leave it out")
    found = _options_of(package)
    if not found:
        raise ConfigError(f"{_SETTING}={package}: brings no options; let the package import its settings classes (such "
                          f"as a dataclass of HeadSettings with a kind and an implementation), or name them in entry "
                          f"points of the group {_ENTRY_POINTS}")
    for cls in found:
        _enter(cls, package)


def _options_of(package: str) -> list[Any]:
    """Return what the entry points of a package name, or without any the settings classes in its namespace."""
    top = package.partition(".")[0]
    try:
        points = [point for point in metadata.entry_points(group=_ENTRY_POINTS)
                  if point.module.partition(".")[0] == top]
        if points:
            return [point.load() for point in points]
        return [cls for cls in vars(import_module(package)).values()
                if _group_of(cls) and cls.implementation and cls.__module__.partition(".")[0] == top]
    except Exception as error:  # Somebody else's code may raise anything.
        missing = isinstance(error, ModuleNotFoundError) and error.name in (package, top)
        why = ("there is no such package; install it, or put the folder that it is in on PYTHONPATH" if missing else
               f"cannot be imported ({type(error).__name__}: {' '.join(str(error).split())[:200]}); mend the package")
        raise ConfigError(f"{_SETTING}={package}: {why}") from error


def _enter(cls: Any, package: str) -> str:
    """Put a settings class into the table of its group and return the group, or raise ConfigError."""
    group, name, kind = _group_of(cls), getattr(cls, "__name__", str(cls)), _kind(cls)
    if group is None or not cls.implementation:
        raise ConfigError(f"{_SETTING}={package}: {name} is no settings class of an option; derive it from "
                          f"HeadSettings, LossSettings or EncoderSettings, and give it an implementation")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", kind):
        raise ConfigError(f"{_SETTING}={package}: {name}.kind={kind}: must be made of small letters, digits and '_'")
    table = _table(group)
    if table.get(kind, cls) is not cls:
        raise ConfigError(f"{_SETTING}={package}: there is a {group}={kind} already; give {name}.kind another name")
    cls.plugin = package
    table[kind] = cls
    return group


def _kind(cls: Any) -> str:
    return str(getattr(cls, "kind", ""))


def _table(group: str) -> dict[str, type[OptionSettings]]:
    """Return the table of a config group, to be written to."""
    return cast(dict[str, type[OptionSettings]], GROUPS[group])


def _group_of(cls: Any) -> str | None:
    """Return the config group whose options share a base with a class, None for anything else."""
    bases = cls.__mro__ if isinstance(cls, type) else ()
    for group, table in GROUPS.items():
        shared = next(base for base in next(iter(table.values())).__mro__ if OptionSettings in base.__bases__)
        if shared in bases:
            return group
    return None


@contextmanager
def entered(cls: type[OptionSettings]) -> Iterator[None]:
    """Have a settings class in the table of its group for a while; one that is there stays there."""
    if any(cls in table.values() for table in GROUPS.values()):
        yield
        return
    group = _enter(cls, cls.__module__)
    try:
        yield
    finally:
        del _table(group)[_kind(cls)]


def packages_of(settings: Any) -> list[str]:
    """Return the packages that the options in settings are of, sorted; none where all options are ours."""
    found = {getattr(settings, "plugin", "")}
    for part in settings.values() if isinstance(settings, dict) else vars(settings).values():
        if isinstance(part, dict) or hasattr(part, "__dataclass_fields__"):
            found.update(packages_of(part))
    return sorted(found - {""})


def require_loaded(packages: Sequence[str], file: Path, problems: Sequence[str]) -> None:
    """Raise ConfigError if one of the problems is an option of a package that the artifact needs and nobody loaded."""
    missing = sorted(set(packages) - {cls.plugin for table in GROUPS.values() for cls in table.values()})
    unknown = [match[1] for problem in problems if (match := re.match(r"(\S*kind=\w+): no such ", problem))]
    if missing and unknown:
        raise ConfigError(f"{file}: {unknown[0]} is of the package {', '.join(missing)}, which is not loaded; if you "
                          f"trust what is installed by that name, add {_SETTING}=[{','.join(missing)}]")
