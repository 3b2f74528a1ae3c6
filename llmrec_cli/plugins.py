"""Options from other packages (`plugins=[<package>]`), added to the tables of options for this process.

A package provides settings classes: dataclasses derived from HeadSettings, LossSettings, EncoderSettings and so on,
each with its `kind` and the dotted path of its `implementation`. They are listed by its entry points in the group
`llmrec.heads`, or, without entry points, by the namespace of the package. Importing a package runs its code, so only
the command line can name packages: not a saved model, a shared config or an experiment.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, cast

from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.base import OptionSettings
from llmrec_cli.settings.groups import CONFIG_GROUPS

_SETTING = "plugins"
_ENTRY_POINTS = "llmrec.heads"
PACKAGE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


def load_plugins(typed: Sequence[str]) -> list[str]:
    """Load the packages in each `plugins=[a,b]` and return the other arguments."""
    named = [text.partition("=")[2] for text in typed if text.partition("=")[0] == _SETTING]
    for packages in named:
        for package in packages.strip("[]").split(","):
            load(package.strip(" '\""))
    return [text for text in typed if text.partition("=")[0] != _SETTING]


def load(package: str) -> None:
    """Register the options of a package, or raise ConfigError."""
    if not PACKAGE.fullmatch(package):
        what = "is not the name of a package" if package else "names no package"
        raise ConfigError(f"{_SETTING}={package}: {what}; write {_SETTING}=[my_package], or leave it out")
    classes = _options_of(package)
    if not classes:
        raise ConfigError(f"{_SETTING}={package}: has no options; import its settings classes in the package (for "
                          f"example a dataclass of HeadSettings with a kind and an implementation), or list them as "
                          f"entry points of the group {_ENTRY_POINTS}")
    for cls in classes:
        _register(cls, package)


def _options_of(package: str) -> list[Any]:
    """Return the settings classes in the entry points of a package, or without entry points those in its namespace."""
    top = package.partition(".")[0]
    try:
        points = [point for point in metadata.entry_points(group=_ENTRY_POINTS)
                  if point.module.partition(".")[0] == top]
        if points:
            return [point.load() for point in points]
        return [cls for cls in vars(import_module(package)).values()
                if _group_of(cls) and cls.implementation and cls.__module__.partition(".")[0] == top]
    except Exception as error:  # Code of others may raise anything.
        missing = isinstance(error, ModuleNotFoundError) and error.name in (package, top)
        why = ("no such package; install it, or add its folder to PYTHONPATH" if missing else
               f"cannot be imported ({type(error).__name__}: {' '.join(str(error).split())[:200]}); fix the package")
        raise ConfigError(f"{_SETTING}={package}: {why}") from error


def _register(cls: Any, package: str) -> str:
    """Add a settings class to the table of its config group and return the group, or raise ConfigError."""
    group, name, kind = _group_of(cls), getattr(cls, "__name__", str(cls)), _kind(cls)
    if group is None or not cls.implementation:
        raise ConfigError(f"{_SETTING}={package}: {name} is not a settings class of an option; derive it from "
                          f"HeadSettings, LossSettings or EncoderSettings, and give it an implementation")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", kind):
        raise ConfigError(f"{_SETTING}={package}: {name}.kind={kind}: use lower-case letters, digits and '_'")
    table = _table(group)
    if table.get(kind, cls) is not cls:
        raise ConfigError(f"{_SETTING}={package}: {group}={kind} exists already; give {name}.kind another name")
    cls.plugin = package
    table[kind] = cls
    return group


def _kind(cls: Any) -> str:
    return str(getattr(cls, "kind", ""))


def _table(group: str) -> dict[str, type[OptionSettings]]:
    """Return the table of a config group as a writable mapping."""
    return cast(dict[str, type[OptionSettings]], CONFIG_GROUPS[group])


def _group_of(cls: Any) -> str | None:
    """Return the config group whose options share a base class with `cls`, else None."""
    bases = cls.__mro__ if isinstance(cls, type) else ()
    for group, table in CONFIG_GROUPS.items():
        shared = next(base for base in next(iter(table.values())).__mro__ if OptionSettings in base.__bases__)
        if shared in bases:
            return group
    return None


@contextmanager
def registration(cls: type[OptionSettings]) -> Iterator[None]:
    """Register a settings class during the block; a class that is registered already stays registered."""
    if any(cls in table.values() for table in CONFIG_GROUPS.values()):
        yield
        return
    group = _register(cls, cls.__module__)
    try:
        yield
    finally:
        del _table(group)[_kind(cls)]


def packages_of(settings: Any) -> list[str]:
    """Return the plugin packages of the options in `settings`, sorted; [] if all options are llmrec's."""
    packages = {getattr(settings, "plugin", "")}
    for part in settings.values() if isinstance(settings, dict) else vars(settings).values():
        if isinstance(part, dict) or hasattr(part, "__dataclass_fields__"):
            packages.update(packages_of(part))
    return sorted(packages - {""})


def require_loaded(packages: Sequence[str], file: Path, problems: Sequence[str]) -> None:
    """Raise ConfigError if a problem is an option of a package that the artifact needs and that is not loaded."""
    missing = sorted(set(packages) - {cls.plugin for table in CONFIG_GROUPS.values() for cls in table.values()})
    unknown = [match[1] for problem in problems if (match := re.match(r"(\S*kind=\w+): no such ", problem))]
    if missing and unknown:
        raise ConfigError(f"{file}: {unknown[0]} is of the package {', '.join(missing)}, which is not loaded; if you "
                          f"trust the installed package of this name, add {_SETTING}=[{','.join(missing)}]")
