"""Plain text from HTML: comments, scripts and tags go, entities become what they stand for.

Only what is a tag counts: the name of an element of HTML, closed by `>`. "x<3", "a < b", "List<String>" and "AT&T"
stay as they are. The standard library's parser is not used, since what it makes of broken HTML changes with Python's
minor releases, and prepared data must not.
"""

import re
from functools import lru_cache
from html import unescape
from html.entities import html5

_INLINE = ("a abbr acronym area b base bdi bdo big blink cite code col colgroup data del dfn em embed font i ins kbd "
           "label link map mark marquee meta nobr noscript param picture q rp rt ruby s samp small source span strike "
           "strong style script sub sup template time track tt u var wbr")
_BLOCK = ("address article aside audio blockquote body br button canvas caption center dd details dialog dir div dl dt "
          "fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html iframe "
          "img input legend li main menu nav object ol optgroup option output p pre progress search section select "
          "summary svg table tbody td textarea tfoot th thead title tr ul video")
# What follows the name are attributes, in which a quoted '>' does not end the tag. No two alternatives begin alike, so
# a text of a million '<a "' takes a moment, not a day. No possessive quantifiers, which Python 3.11.2 gets wrong.
_ATTRIBUTES = r"(?:[\s/](?:[^<>\"']|\"[^\"]*\"|'[^']*')*)?"
_TAG = re.compile(rf"<(?:/?([a-z][a-z0-9]*(?:[:-][a-z0-9]+)*){_ATTRIBUTES}|!doctype\s[^<>]*|\?xml\s[^<>]*)>", re.I)
_UNSEEN = [(re.compile("<!--"), re.compile("--!?>"))]
_UNSEEN += [(re.compile(rf"<{name}(?:\s[^<>]*)?>", re.I), re.compile(rf"</{name}\s*>", re.I))
            for name in ("script", "style")]
_GAPS = frozenset(_BLOCK.split())
_PARTS = frozenset(_INLINE.split())
_ENTITY = re.compile("&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


def strip_html(text: str) -> str:
    """Return `text` without tags and comments, and with entities read, once.

    A block element or a line break is a space. White space collapses in a text that has tags, as it does in HTML; a
    text without any keeps its own.
    """
    if "<" in text:
        plain = text
        for opening, closing in _UNSEEN:
            plain = _cut(plain, opening, closing)
        plain = _TAG.sub(_space, plain)
        if plain != text:
            text = " ".join(plain.split())
    return _ENTITY.sub(_read, text) if "&" in text else text


def _cut(text: str, opening: re.Pattern[str], closing: re.Pattern[str]) -> str:
    """Leave out what is from an opening to the next closing; an opening without one is left."""
    kept = []
    at = 0
    while (start := opening.search(text, at)) and (end := closing.search(text, start.end())):
        kept.append(text[at:start.start()])
        at = end.end()
    kept.append(text[at:])
    return "".join(kept)


def _space(tag: re.Match[str]) -> str:
    """Return what takes the place of a tag: a space, nothing, or itself where it is no tag of HTML."""
    name = (tag[1] or "html").lower()
    # Own elements have a '-' in their names, and those of Word a ':'.
    return " " if name in _GAPS else "" if name in _PARTS or "-" in name or ":" in name else tag[0]


def _read(entity: re.Match[str]) -> str:
    return _meaning(entity[0])


@lru_cache(4096)
def _meaning(entity: str) -> str:
    """Return what an entity stands for; a name that is none stays: html.unescape would read the start of it."""
    return unescape(entity) if entity[1] == "#" or entity[1:] in html5 else entity
