"""Currency signs and units around numbers, as in 66,12 €, ¥ 1,299.00, 7 460 Kč, CHF 5.- and 500 g.

Patterns work in Python, pyarrow, DuckDB and Spark.
"""

import re

_SIGNS = {
    "EUR": "€ EUR Euro", "USD": "US$ $ USD", "GBP": "£ GBP", "¥": "¥ ￥", "CNY": "CN¥ CNY RMB 元", "JPY": "JP¥ JPY 円",
    "CHF": "CHF Fr. Fr SFr. SFr", "CAD": "C$ CA$ CAD", "AUD": "A$ AU$ AUD", "NZD": "NZ$ NZD", "HKD": "HK$ HKD",
    "TWD": "NT$ TWD", "SGD": "S$ SGD", "BRL": "R$ BRL", "MXN": "MX$ MXN", "INR": "₹ INR Rs. Rs", "KRW": "₩ KRW 원",
    "RUB": "₽ RUB", "UAH": "₴ UAH", "TRY": "₺ TRY TL", "ILS": "₪ ILS", "VND": "₫ VND", "THB": "฿ THB",
    "PHP": "₱ PHP", "IDR": "Rp. Rp IDR", "PLN": "zł PLN", "CZK": "Kč CZK", "HUF": "Ft HUF", "SEK": "SEK", "NOK": "NOK",
    "DKK": "DKK", "kr": "kr. kr", "RON": "lei RON", "BGN": "BGN", "ZAR": "ZAR", "AED": "AED", "SAR": "SAR"}
"""Name of a currency -> its signs. The signs ¥ and kr are of several currencies, so they have names of their own."""
_NAMES = {sign.rstrip("."): name for name, signs in _SIGNS.items() for sign in signs.split()}
_MEASURES = "% kg g mg l L ml cl m cm mm km W kW MB GB TB"


def _any_of(texts: list[str]) -> str:
    """Return a pattern of the texts; [$] in place of an escape, since SQL reads backslashes too."""
    longest_first = sorted(texts, key=lambda text: (-len(text), text))
    return "(?:" + "|".join(re.sub("[$.]", r"[\g<0>]", text) for text in longest_first) + ")"


_ALL = [sign for signs in _SIGNS.values() for sign in signs.split()]
_SIGN = _any_of(_ALL)
BLANK = "[ \u00a0\u202f]"
"""Matches a blank, also one that does not break a line: between a number and its unit, and between thousands."""
_SPACE = f"{BLANK}*"
_BEFORE = f"(?:[+-]{_SIGN}{_SPACE}|{_SIGN}{_SPACE}[+-]?)"
_AFTER = f"{_SPACE}(?:{_SIGN}|{_any_of(_MEASURES.split())})"
_GROUPED = "[1-9][0-9]{0,2}(?:[,'’][0-9]{3})+"
BLANK_GROUPED = f"[1-9][0-9]{{0,2}}(?:{BLANK}[0-9]{{3}})+"
"""Matches an integer with blanks between thousands: 12 500."""
_POINT = f"(?:(?:[0-9]+|{_GROUPED}|{BLANK_GROUPED})(?:[.][0-9]*|[.,][–-]+)?|[.][0-9]+)"
_COMMA = f"(?:[0-9]+|[0-9]{{1,3}}(?:[.][0-9]{{3}})+|{BLANK_GROUPED})(?:,(?:[0-9]+|[–-]+))?"


def _around(number: str) -> str:
    return f"{_BEFORE}{number}(?:{_AFTER})?|[+-]?{number}{_AFTER}"


POINT_NUMBER = f"^ *(?:{_around(_POINT)}|[+-]?(?:{_GROUPED}[.][0-9]+|{BLANK_GROUPED}(?:[.][0-9]+)?)) *$"
"""Matches numbers with a decimal point and a sign or unit, and numbers with separators of thousands: 1,299.00, 12 500.
"""
COMMA_NUMBER = f"^ *(?:{_around(_COMMA)}|[+-]?{BLANK_GROUPED}(?:,[0-9]+)?) *$"
"""Matches numbers with a decimal comma, or without decimals, and a sign or unit (1.299,50 €), or with blanks between
thousands (7 460,00)."""
SEPARATOR = f"[,'’][0-9]|[0-9]{BLANK}[0-9]"
"""Matches a separator of thousands in a match of POINT_NUMBER."""
_DOTTED = _any_of([sign for sign in _ALL if sign.endswith(".")])
NO_DIGIT = f"{_DOTTED}|[.,][–-]+|[^0-9.+-]"
"""Matches what is removed from a match of POINT_NUMBER for the number."""
NO_UNIT = "[0-9.,'’+ \u00a0\u202f–-]"
"""Matches what is removed from a match of POINT_NUMBER for the unit."""


_NOT_BARE = re.compile(f"{_DOTTED}|[.,][–-]+|[^0-9.,+-]")


def bare(text: str) -> str:
    """Return a match of COMMA_NUMBER without its sign or unit, with its decimal comma."""
    return _NOT_BARE.sub("", text)


def name_of(unit: str) -> str:
    """Return one name for all signs of a currency, and the unit itself for a measure."""
    return _NAMES.get(unit, unit)


def is_currency(unit: str) -> bool:
    """Return True for the sign of a currency."""
    return unit in _NAMES
