"""Leakage of held-out titles into the texts of their users."""

import functools
import math
import unicodedata
from collections.abc import Iterator
from typing import Any

from ibis.expr.types import Table

from llmrec_cli.ingest.audit.folder import SHOWN, Folder, share
from llmrec_cli.ingest.audit.leakage import check
from llmrec_cli.ingest.engine import batches, size
from llmrec_cli.language.phrases import Phrase

_NAME = "held_out_titles_in_user_texts"
MOST_PAIRS, _SHORTEST = 200_000, 4
_WARN_FROM = 0.001
"""Smallest share of matching titles that is a warning; below it, profiles match short titles by chance."""
_BATCH = 2048

Hit = tuple[int, int, str]
"""User, item and title."""


def held_out_titles(folder: Folder) -> dict[str, Any]:
    """Return the check for titles of held-out items in their user's text.

    A title counts if it has _SHORTEST characters, stands in the text as whole words (ignoring case), and is not part of
    a title of the user's training history, since those titles may be in the text.
    """
    meaning = Phrase("Held-out items whose title appears in the text of their user, ignoring case. Not counted: titles "
                     "shorter than {num} characters, and titles that are part of a title in the user's training "
                     "history.", num=_SHORTEST)
    users, items, rows = (folder.table(name) for name in ("users", "items", "interactions"))
    with_text = users.filter(users.text != "").select("user", "text")
    if not size(with_text):
        return check(_NAME, meaning, not_checked=Phrase("No user has a text."))
    titled = items.filter(items.title.length() >= _SHORTEST).select("item", "title")
    held = rows.filter(rows.split != "train").select("user", "item").distinct().semi_join(with_text, "user")
    total = size(held.semi_join(titled, "item"))
    every = math.ceil(total / MOST_PAIRS)
    if every > 1:
        held = held.filter(held.user % every == 0)
    checked = 0
    hits: list[Hit] = []
    looked_at = held.inner_join(titled, "item").inner_join(with_text, "user").select("user", "item", "title", "text")
    for user, item, title, text in _iterate_rows(looked_at):
        checked += 1
        if contains_title(_folded(text), title.casefold()):
            hits.append((user, item, title))
    hits = _drop_history_titles(sorted(hits), rows, with_text, titled)
    bad = share(len(hits), checked) > _WARN_FROM
    examples = folder.pairs([{"user": user, "item": item} for user, item, _ in hits[:SHOWN]])
    note = Phrase("Checked for one user in {every} only, to check no more than about {most:,} titles.", every=every,
                  most=MOST_PAIRS) if every > 1 else None
    return check(_NAME, meaning, len(hits), checked, examples=examples, bad=bad, note=note)


@functools.lru_cache(maxsize=256)
def _folded(text: str) -> str:
    # Cached, since each user has several titles, and folding a long text takes long.
    return text.casefold()


def _iterate_rows(table: Table) -> Iterator[tuple[Any, ...]]:
    for batch in batches(table, _BATCH):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def contains_title(text: str, title: str) -> bool:
    """Return True if `title` is in `text` as whole words; scripts without spaces between words need no word limits."""
    at = text.find(title)
    while at >= 0:
        end = at + len(title)
        if not (at and _joined(text[at - 1], title[0])) and not (end < len(text) and _joined(title[-1], text[end])):
            return True
        at = text.find(title, at + 1)
    return False


def _joined(before: str, after: str) -> bool:
    return all(c.isalnum() and unicodedata.category(c) != "Lo" for c in (before, after))


def _drop_history_titles(hits: list[Hit], rows: Table, texts: Table, titled: Table) -> list[Hit]:
    """Return the hits that remain after the titles of the user's training history are removed from the text."""
    users = sorted({user for user, _, _ in hits})
    remaining: list[Hit] = []
    for first in range(0, len(users), 1000):
        some = users[first:first + 1000]
        history = rows.filter(rows.split == "train", rows.user.isin(some)).select("user", "item")
        trained: dict[int, list[str]] = {}
        for user, title in _iterate_rows(history.inner_join(titled, "item").select("user", "title")):
            trained.setdefault(user, []).append(title.casefold())
        text_of = {user: text.casefold() for user, text in _iterate_rows(texts.filter(texts.user.isin(some))
                                                                 .select("user", "text"))}
        for user in some:
            for title in sorted(set(trained.get(user, ())), key=lambda t: (-len(t), t)):
                text_of[user] = text_of[user].replace(title, "\x1f")
        remaining += [hit for hit in hits if hit[0] in text_of and contains_title(text_of[hit[0]], hit[2].casefold())]
    return remaining
