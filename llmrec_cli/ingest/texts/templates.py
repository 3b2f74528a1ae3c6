"""Texts from templates over columns: '{title} ({year}). {genres}'."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.base import nearest

_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")
_SEPARATORS = " \t\n,;:.|/·–—-"
_LABEL = re.compile(r"[^.;,|\n]*:\s*$")
_BRACKETS = {"(": ")", "[": "]", "（": "）", "【": "】", "«": "»", "“": "”", '"': '"'}


class Template:
    """A parsed template.

    A field without a value leaves nothing stray: brackets around nothing go, and so do the separator before it and a
    label that ends in a colon. A full stop after a value that ends in one is left out. `{{` and `}}` stand for braces.
    """

    def __init__(self, template: str, columns: Mapping[str, str], key: str) -> None:
        """Parse. `columns` maps what a template may name to the key of its value; `key` is the setting's name.

        Raises ConfigError for unbalanced braces and for a column that is not among `columns`.
        """
        self.literals, self.fields = [""], []
        end = 0
        for found in _FIELD.finditer(template):
            self.literals[-1] += template[end:found.start()]
            end = found.end()
            if found[1] is not None:
                if found[1] not in columns:
                    raise ConfigError(f"{key}={template}: no column '{found[1]}'{nearest(found[1], columns)}; there "
                                      f"are {', '.join(columns)}")
                self.fields.append(columns[found[1]])
                self.literals.append("")
            elif len(found[0]) == 2:
                self.literals[-1] += found[0][0]
            else:
                raise ConfigError(f"{key}={template}: a '{found[0]}' without its partner; a column is written "
                                  f"{{name}}, a brace itself twice")
        self.literals[-1] += template[end:]

    def render(self, values: Mapping[str, str]) -> str:
        """Return the text for one row; a column that is absent or blank has no value. "" when no field has one."""
        return self.fill([values.get(field, "") for field in self.fields])

    def fill(self, values: Sequence[str]) -> str:
        """Return the text for one row from the value of each of `fields`, a blank one for none."""
        before = self.literals[0]
        text = ""
        filled = False
        for value, after in zip(values, self.literals[1:], strict=True):
            if value and not value.isspace():
                text += before + value
                # One full stop after a title that ends in its own: "Mrs. Doubtfire!. Comedy" reads badly.
                before = after[1:] if value[-1] in ".!?。！？" and after.startswith(".") else after
                filled = True
            else:
                before = _without(before, after, at_start=not filled)
        text += before
        return text.strip() if filled or not self.fields else ""


def _without(before: str, after: str, at_start: bool) -> str:
    """Return the literal that takes the place of `before`, a missing value and `after`."""
    opened = before.rstrip()
    if opened and opened[-1] in _BRACKETS:
        after = after.lstrip(_SEPARATORS)
        return opened[:-1].rstrip() + after[1:] if after.startswith(_BRACKETS[opened[-1]]) else before + after
    kept = _LABEL.sub("", before).rstrip(_SEPARATORS)
    return kept + (after.lstrip(_SEPARATORS) if at_start and not kept else after)


def columns_of(template: str) -> list[str]:
    """Return the columns that a template names, each once."""
    return list(dict.fromkeys(found[1] for found in _FIELD.finditer(template) if found[1] is not None))


def join_all(values: Iterable[str]) -> str:
    """Return all values of a row as sentences, links left out: the text when there is no template."""
    told = [v.strip().rstrip(".") for v in values if not v.startswith(("http://", "https://"))]
    return ". ".join(v for v in told if v)


def values_of(text: str, separator: str, clean: Callable[[str], str] = str) -> list[str]:
    """Return the values of a list: a JSON array's, or what `separator` divides; without blanks and repeats.

    `clean` takes out HTML: of each of an array's values, but of other lists before they are divided, since tags and
    entities may have the separator in them.
    """
    parts = json_array(text)
    values = [clean(part) for part in parts] if parts is not None else clean(text).split(separator)
    return list(dict.fromkeys(value for part in values if (value := part.strip())))


def json_array(text: str) -> list[str] | None:
    """Return the items of a JSON array as text, or None when `text` is not one."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return [v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in found if v is not None]
