"""docs/settings.md: complete, and equal to the code."""

import dataclasses
from pathlib import Path

from llmrec_cli.cli import SUMMARIES
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.stages import COMMANDS
from llmrec_cli.settings_page import _escaped, markdown

PAGE = Path(__file__).parent.parent / "docs/settings.md"


def test_the_page_of_settings_is_current():
    assert markdown().splitlines() == PAGE.read_text("utf-8").splitlines(), "docs/settings.md differs; run `make docs`"


def test_the_page_has_every_command_option_and_field():
    page = PAGE.read_text("utf-8")
    sections = dict(section.partition("\n")[::2] for section in page.replace("\n### ", "\n## ").split("\n## "))
    assert {f"llmrec {command}" for command in SUMMARIES} <= set(sections)
    for group, table in CONFIG_GROUPS.items():
        for name, cls in table.items():
            names = [field.name for field in dataclasses.fields(cls) if field.name not in ("kind", "search")
                     and "group" not in field.metadata and cls.has_setting(field.name)]
            missing = [key for key in names if f"| `{group}.{key}" not in sections[f"{group}={name}"]]
            assert missing == [], f"{group}={name}"
    everywhere = sections["Every command"]
    for command, cls in COMMANDS.items():
        missing = [field.name for field in dataclasses.fields(cls) if "group" not in field.metadata
                   and f"| `{field.name}" not in sections[f"llmrec {command}"] + everywhere]
        assert missing == [], command


def test_bars_and_brackets_of_a_docstring_are_no_markup():
    assert _escaped("a | <b>, `c|d`") == "a \\| &lt;b&gt;, `c\\|d`"
