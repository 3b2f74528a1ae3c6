"""Pages of HTML that need no network and no script, from the templates beside this file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from llmrec_cli import __version__

_FOLDER = Path(__file__).parent
# One for the process: a template is compiled where it is first asked for, which takes longer than most pages.
_TEMPLATES = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True)


def page(template: str, values: Mapping[str, Any]) -> str:
    """Return the page; everything that comes from data is escaped, `style` and `version` are added."""
    # The style is ours, not the data's.
    style = Markup((_FOLDER / "style.css").read_text("utf-8"))
    return _TEMPLATES.get_template(template).render(values, version=__version__, style=style)
