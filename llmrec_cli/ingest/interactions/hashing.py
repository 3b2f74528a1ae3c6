"""The hash by which what is held out is drawn: of content and a salt, so that the order of rows decides nothing."""

import ibis
from ibis.expr.types import StringValue, Table

_SHARE_DIGITS = 8


def salted(seed: int, text: StringValue) -> StringValue:
    """Return the hexadecimal MD5 of the text with its salt."""
    return (ibis.literal(f"{seed}\x1f") + text).hexdigest("md5")


def of_pair(seed: int, rows: Table) -> StringValue:
    """Return the hash of user_id and item_id."""
    return salted(seed, rows.user_id + "\x1f" + rows.item_id)


def end_of(share: float) -> str:
    """Return the text below which this share (0 to 1) of all hashes is, by their first eight digits."""
    return f"{int(share * 16 ** _SHARE_DIGITS):08x}" if share < 1 else "g"


def start_of(hashed: StringValue) -> StringValue:
    """Return what of a hash is compared with `end_of`."""
    return hashed.left(_SHARE_DIGITS)
