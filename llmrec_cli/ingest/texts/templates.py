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

    A field without a value is removed together with brackets around it, the separator before it, and a label that ends
    in a colon. A full stop after a value that ends in one is removed. `{{` and `}}` stand for braces.
    """

    def __init__(self, template: str, columns: Mapping[str, str], key: str) -> None:
        """Parse a template. `columns` maps allowed field names to keys of values; `key` is the name of the setting.

        Raises ConfigError for unbalanced braces and for a field that is not in `columns`.
        """
        self.literals, self.fields = [""], []
        end = 0
        for match in _FIELD.finditer(template):
            self.literals[-1] += template[end:match.start()]
            end = match.end()
            if match[1] is not None:
                if match[1] not in columns:
                    raise ConfigError(f"{key}={template}: no column '{match[1]}'{nearest(match[1], columns)}; there "
                                      f"are {', '.join(columns)}")
                self.fields.append(columns[match[1]])
                self.literals.append("")
            elif len(match[0]) == 2:
                self.literals[-1] += match[0][0]
            else:
                raise ConfigError(f"{key}={template}: unbalanced '{match[0]}'; write a column as {{name}}, and a "
                                  f"literal brace twice")
        self.literals[-1] += template[end:]

    def render(self, values: Mapping[str, str]) -> str:
        """Return the text for one row; absent and blank columns have no value. "" if no field has a value."""
        return self.fill([values.get(field, "") for field in self.fields])

    def fill(self, values: Sequence[str]) -> str:
        """Return the text for one row from the values of `fields`; a blank value counts as none."""
        before = self.literals[0]
        text = ""
        filled = False
        for value, after in zip(values, self.literals[1:], strict=True):
            if value and not value.isspace():
                text += before + value
                # No second full stop after a title with its own: "Mrs. Doubtfire!. Comedy" reads badly.
                before = after[1:] if value[-1] in ".!?。！？" and after.startswith(".") else after
                filled = True
            else:
                before = _without_field(before, after, at_start=not filled)
        text += before
        return text.strip() if filled or not self.fields else ""


def _without_field(before: str, after: str, at_start: bool) -> str:
    """Return the literal that replaces `before`, a missing value and `after`."""
    opened = before.rstrip()
    if opened and opened[-1] in _BRACKETS:
        after = after.lstrip(_SEPARATORS)
        return opened[:-1].rstrip() + after[1:] if after.startswith(_BRACKETS[opened[-1]]) else before + after
    rest = _LABEL.sub("", before).rstrip(_SEPARATORS)
    return rest + (after.lstrip(_SEPARATORS) if at_start and not rest else after)


def columns_of(template: str) -> list[str]:
    """Return the columns of a template without repeats."""
    return list(dict.fromkeys(match[1] for match in _FIELD.finditer(template) if match[1] is not None))


def join_all(values: Iterable[str]) -> str:
    """Join all values of a row, except links, as sentences; the text of an item without a template."""
    sentences = [v.strip().rstrip(".") for v in values if not v.startswith(("http://", "https://"))]
    return ". ".join(v for v in sentences if v)


def values_of(text: str, separator: str, clean: Callable[[str], str] = str) -> list[str]:
    """Return the values of a list, a JSON array or text split at `separator`, without blanks and repeats.

    `clean` removes HTML, from each value of an array, and from other lists before they are split, since tags and
    entities may contain the separator.
    """
    parts = json_array(text)
    values = [clean(part) for part in parts] if parts is not None else clean(text).split(separator)
    return list(dict.fromkeys(value for part in values if (value := part.strip())))


def json_array(text: str) -> list[str] | None:
    """Return the entries of a JSON array as text, or None if `text` is not a JSON array."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return [v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in entries if v is not None]
