"""Reasons in rejects.parquet: English templates, which the audit page recognises again to show them in its language."""

import re
from functools import cache

from llmrec_cli.language.phrases import Phrase, fixed_phrase

EMPTY = "is empty"
HEADER_AGAIN = "is the header again"
"""Reason for rejecting a repeated header, as concatenated files have it."""
LAST_TOTAL = "is the last row, with totals"
NOT_BAD = (HEADER_AGAIN, LAST_TOTAL)
"""Reasons of rejected rows that do not count as bad rows."""
FIELDS = "{num} fields where the header has {width}"
FIELDS_OF_FILE = "{num} fields where {file} has {width}"
BAD_QUOTE = "a quote that is misplaced or never closed"
RETURN_IN_FIELD = "a carriage return inside a field"
ESCAPED_QUOTE = "{reason} (it has a \\ before a quote)"
ESCAPED_QUOTE_ADVICE = "{reason}; if \\\" is a quote inside quotes, set {key}.escape='{escape}'"
NOT_JSON = "not JSON ({error})"
NOT_AN_OBJECT = "not a JSON object"
PYTHON_DICT = "not JSON but a Python dictionary"
SURROGATE = "half of a surrogate pair, which is not a character"
NOT_AN_ARRAY = "'{path}' is not an array"
NO_OBJECT_IN_PATH = "a part of the path '{path}' is not an object"
ARRAYS_DIFFER = "the arrays of dataset.explode differ in length: {lengths}"
NUMPY_SHORTENED = "has an array that NumPy shortened with '{dots}', so entries are missing; write it as JSON"
ARRAY_SHORTENED = "has an array with '{dots}' in it, so entries are missing; write it as JSON"
ADJACENT_STRINGS = "has an array with two strings without a comma between them; write it as JSON"
OUT_OF_RANGE = "is before 1970 or after 2100"
NOT_A_TIME = "'{value}' is not a time in '{unit}', or " + OUT_OF_RANGE
NOT_IN_ORDER = "'{value}' is not a time in '{unit}'"
NOT_A_NUMBER = "'{value}' is not a number"
HAS_DECIMAL_COMMA = ": it has a decimal comma"
DECIMAL_COMMA = "{reason}" + HAS_DECIMAL_COMMA
NO_WEIGHT = "'{value}' has no weight in dataset.event_weights"
NOT_AN_ORDER = "'{value}' is not an integer of at least 0, which dataset.columns.order needs"
NOT_A_MIND_TIME = "'{value}' is not a time like {example}"
NO_LABEL = "'{value}' does not end in -1 (clicked) or -0"
NO_NEWS = "the impression has no news"
NO_MEMBER = "a member without an id in '{members}'"
NO_ID_AFTER_COMMA = "no id after a comma"

REJECT_REASONS = (
    # Templates that end with more come first, since the beginning of a reason may be any text.
    ESCAPED_QUOTE_ADVICE, ESCAPED_QUOTE, DECIMAL_COMMA, EMPTY, HEADER_AGAIN, LAST_TOTAL, FIELDS, FIELDS_OF_FILE,
    BAD_QUOTE, RETURN_IN_FIELD, NOT_JSON, NOT_AN_OBJECT, PYTHON_DICT, SURROGATE, NOT_AN_ARRAY, NO_OBJECT_IN_PATH,
    ARRAYS_DIFFER, NUMPY_SHORTENED, ARRAY_SHORTENED, ADJACENT_STRINGS, NOT_A_TIME, NOT_IN_ORDER, NOT_A_NUMBER,
    NO_WEIGHT, NOT_AN_ORDER, NOT_A_MIND_TIME, NO_LABEL, NO_NEWS, NO_MEMBER, NO_ID_AFTER_COMMA)
"""All templates; placeholders have no format, so that a filled template matches its own pattern."""


def reason_phrase(reason: str) -> Phrase:
    """Return a reason of rejects.parquet as a phrase; a text of no template is a phrase without translation."""
    for template, pattern in _patterns():
        if match := pattern.fullmatch(reason):
            values = {name: reason_phrase(text) if name == "reason" else text
                      for name, text in match.groupdict().items()}
            return Phrase(template, **values)
    return fixed_phrase(reason)


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    """Return each template with a pattern that has a group for each placeholder."""
    return [(template, re.compile("".join(
        re.escape(part) if place % 2 == 0 else f"(?P<{part}>.*)"
        for place, part in enumerate(re.split(r"\{(\w+)\}", template))), re.DOTALL)) for template in REJECT_REASONS]
