"""Lists of texts in the syntax of the command line, dataset.drop_users=[guest,"a, b"]: parsed, and printed for pasting.
"""

import re
import shlex
import unicodedata
from collections.abc import Sequence

_ENTRY = re.compile(r'\s*"(?P<quoted>(?:[^"]|"")*)"\s*(?=,|\Z)|[^,]*')
_NEEDS_QUOTES = re.compile(r'\A\Z|\A\s|\s\Z|\A"|,')
_NO_SHELL_QUOTES = re.compile(r"[\w.,:=@%+/\[\]-]+", re.ASCII)
_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")


def entries_of(text: str) -> list[str]:
    """Return the entries of a comma-separated list.

    Blanks around an entry are ignored. An entry in double quotes is literal; a double quote inside is written twice.
    """
    entries: list[str] = []
    place = 0
    while text.strip():
        match = _ENTRY.match(text, place)
        assert match is not None
        entries.append(match[0].strip() if match["quoted"] is None else match["quoted"].replace('""', '"'))
        if match.end() == len(text):
            break
        place = match.end() + 1  # after the comma
    return entries


def list_setting(key: str, entries: Sequence[str]) -> str:
    """Return `key=[...]`, quoted so that it can be pasted into a shell (bash)."""
    written = ['"' + entry.replace('"', '""') + '"' if _NEEDS_QUOTES.search(entry) else entry for entry in entries]
    return f"{key}={_for_shell('[' + ','.join(written) + ']')}"


def _for_shell(text: str) -> str:
    if _NO_SHELL_QUOTES.fullmatch(text):
        return text
    if not any(unicodedata.category(char) in _INVISIBLE for char in text):
        return shlex.quote(text)
    # Terminals do not show these characters, so they are escaped; only $'...' decodes the escapes.
    return "$'" + "".join(_escaped(char) for char in text) + "'"


def _escaped(char: str) -> str:
    if unicodedata.category(char) in _INVISIBLE:
        return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
    return f"\\{char}" if char in "\\'" else char
