"""Numbers with a decimal comma, '4,5', which are not read: the words that name the cause and what to write."""

import re

DECIMAL_COMMA = r"^ *[+-]?[0-9]{1,3}([.]?[0-9]{3})*[0-9]*,[0-9]+ *$"
"""Matches 4,5, 1700000000,5 and 1.234,5."""
HAS_DECIMAL_COMMA = ": it has a decimal comma"
_DECIMAL_COMMA = re.compile(DECIMAL_COMMA)


def decimal_point_advice(text: str) -> str:
    """Return how to write a number with a decimal comma, as a clause; "" for any other text."""
    if not _DECIMAL_COMMA.match(text):
        return ""
    number = text.strip().replace(".", "").replace(",", ".")
    # 1,234 may be a thousand and some; only a person can say so.
    thousands = f", or {text.strip().replace(',', '')} where the comma groups thousands" \
        if re.search(r"^[+-]?[1-9][0-9]{0,2},[0-9]{3}$", text.strip()) else ""
    return f"export numbers with a decimal point: {number} for '{text.strip()}'{thousands}"
