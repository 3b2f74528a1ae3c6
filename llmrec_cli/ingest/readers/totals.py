"""Last rows with the totals of columns, as spreadsheets and reports write them: no row of data, and no bad row."""

import re
import unicodedata
from collections.abc import Collection, Mapping

from llmrec_cli.ingest.readers import units

_WORDS = ("sum total totals subtotal grand_total summe gesamt gesamtsumme gesamtergebnis 合计 总计 小计 总和 合計 総計 "
          "小計 suma total_general totale somme total_général celkem součet spolu razem łącznie összesen итого всего "
          "totaal 합계 총계")
_NUMBER = re.compile(rf"[\W\d_]+|{units.POINT_NUMBER}|{units.COMMA_NUMBER}")


def normalized(name: str) -> str:
    """Return a name for comparison: without case, blanks and punctuation, and in one Unicode form."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())


_NAMES = {normalized(word) for word in _WORDS.split()}


def total_of(row: Mapping[str, str], keys: Collection[str]) -> str:
    """Return the name of a row of totals, such as Summe, or its numbers if it has no name; "" for any other row.

    The filled fields of a row of totals are numbers and such names; the columns `keys` (ids and times) have no number.
    """
    filled = {name: text.strip() for name, text in row.items() if text.strip()}
    names = [text for text in filled.values() if normalized(text) in _NAMES]
    numbers = {name: text for name, text in filled.items() if text not in names}
    if not filled or any(key in numbers for key in keys) or not all(map(_NUMBER.fullmatch, numbers.values())):
        return ""
    return names[0] if names else ", ".join(numbers.values())
