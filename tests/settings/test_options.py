"""Options are registered once, and no code outside the settings tests the class of an option."""

import ast
from pathlib import Path

import pytest

import llmrec_cli
from llmrec_cli.settings.base import OptionSettings
from llmrec_cli.settings.groups import CONFIG_GROUPS

PACKAGE = Path(llmrec_cli.__file__).parent


def option_classes():
    """Return the names of the settings classes of all options, including shared base classes."""
    return {cls.__name__ for table in CONFIG_GROUPS.values() for option in table.values() for cls in option.__mro__
            if issubclass(cls, OptionSettings)}


def questions(tree):
    """Yield the classes in calls of isinstance and issubclass, except in assertions (type hints for mypy)."""
    asserted = {call for node in ast.walk(tree) if isinstance(node, ast.Assert) for call in ast.walk(node.test)}
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call not in asserted \
                and call.func.id in ("isinstance", "issubclass"):
            yield from (name.id for name in ast.walk(call.args[1]) if isinstance(name, ast.Name))


def imported(tree):
    """Return the local names of option classes that a module imports."""
    return {name.asname or name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
            and str(node.module).startswith("llmrec_cli.settings") for name in node.names
            if name.name in option_classes()}


@pytest.mark.slow
def test_no_code_outside_settings_checks_the_option_name():
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.is_relative_to(PACKAGE / "settings"):
            continue
        tree = ast.parse(file.read_text("utf-8"))
        assert imported(tree) & set(questions(tree)) == set(), file


def test_every_group_has_options_and_every_option_is_in_the_table_under_its_kind():
    for group, table in CONFIG_GROUPS.items():
        assert table, group
        for name, settings in table.items():
            assert issubclass(settings, OptionSettings), (group, name)
            assert settings.kind == name
