"""Phrases that are English text everywhere, and that a page can translate when it is rendered.

A `Phrase` is a string: terminal messages, logs and JSON files get the English text. The page's language is applied by
the template engine (`report.pages`), so the code that writes a phrase needs no language argument.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

ENGLISH, CHINESE = "en", "zh"
LANGUAGES = (ENGLISH, CHINESE)
"""Values of the setting `language`."""
_SEPARATORS = {", ": "、", "; ": "；", " ": "", " and ": "和", " + ": " + "}
"""Separators of enumerations and sentences in English -> in Chinese."""


class Phrase(str):
    """English text from a template with placeholders, as of `str.format`; a page shows the template's translation.

    Values that are phrases are translated too; other values, such as names from the data, stay as they are.
    """

    template: str
    values: dict[str, Any]

    def __new__(cls, template: str, /, **values: Any) -> "Phrase":
        self = super().__new__(cls, template.format(**values))
        self.template, self.values = template, values
        return self

    def translated(self, language: str) -> str:
        """Return the text in a language."""
        values = {name: translate(value, language) for name, value in self.values.items()}
        return _table(language).get(self.template, self.template).format(**values)


class Joined(str):
    """Texts with a separator, such as an enumeration; phrases among them are translated."""

    parts: list[str]
    separator: str

    def __new__(cls, parts: Iterable[str], separator: str = ", ") -> "Joined":
        texts = list(parts)
        self = super().__new__(cls, separator.join(texts))
        self.parts, self.separator = texts, separator
        return self

    def translated(self, language: str) -> str:
        """Return the text in a language."""
        separator = self.separator if language == ENGLISH else _SEPARATORS[self.separator]
        return separator.join(translate(part, language) for part in self.parts)


def translate(value: Any, language: str) -> Any:
    """Return a phrase in a language, as plain text; every other value is returned unchanged."""
    return value.translated(language) if isinstance(value, Phrase | Joined) else value


def fixed_phrase(text: str) -> Phrase:
    """Return a phrase without placeholders from a text that is stored as data; braces are taken literally.

    A text that is a phrase already is returned as it is.
    """
    return text if isinstance(text, Phrase) else Phrase(text.replace("{", "{{").replace("}", "}}"))


@cache
def _table(language: str) -> Mapping[str, str]:
    """Return English template -> template in a language; empty for English."""
    if language == ENGLISH:
        return {}
    from llmrec_cli.language import chinese  # Imported for Chinese pages only.

    return chinese.TABLE
