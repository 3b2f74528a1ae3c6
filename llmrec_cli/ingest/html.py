"""Plain text from HTML: comments, scripts and tags go, entities become what they stand for.

Only what is a tag counts: the name of an element of HTML, closed by `>`. "x<3", "a < b", "List<String>" and "AT&T"
stay as they are. The standard library's parser is not used, since what it makes of broken HTML changes with Python's
minor releases, and prepared data must not.
"""

import re
from html import unescape
from html.entities import html5

_INLINE = ("a abbr acronym area b base bdi bdo big blink cite code col colgroup data del dfn em embed font i ins kbd "
           "label link map mark marquee meta nobr noscript param picture q rp rt ruby s samp small source span strike "
           "strong style script sub sup template time track tt u var wbr")
_BLOCK = ("address article aside audio blockquote body br button canvas caption center dd details dialog dir div dl dt "
          "fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html iframe "
          "img input legend li main menu nav object ol optgroup option output p pre progress search section select "
          "summary svg table tbody td textarea tfoot th thead title tr ul video")
# What follows the name are attributes, in which a quoted '>' does not end the tag. Nothing here is tried twice: a text
# of a million '<a "' takes a moment, not a day.
_ATTRIBUTES = r"(?:[\s/](?:[^<>\"']|\"[^\"]*+\"|'[^']*+')*+)?+"
_TAG = re.compile(rf"<(?:/?+([a-z][a-z0-9]*+(?:[:-][a-z0-9]++)*+){_ATTRIBUTES}|!doctype\s[^<>]*+|\?xml\s[^<>]*+)>",
                  re.I)
_UNSEEN = [(re.compile("<!--"), re.compile("--!?>"))]
_UNSEEN += [(re.compile(rf"<{name}(?:\s[^<>]*+)?+>", re.I), re.compile(rf"</{name}\s*+>", re.I))
            for name in ("script", "style")]
_GAPS = frozenset(_BLOCK.split())
_KNOWN = _GAPS | frozenset(_INLINE.split())
_ENTITY = re.compile("&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


def strip_html(text: str) -> str:
    """Return `text` without tags and comments, and with entities read, once.

    A block element or a line break leaves a space, and so does white space next to a tag; a text without tags keeps
    its white space.
    """
    if "<" in text:
        for opening, closing in _UNSEEN:
            text = _cut(text, opening, closing)
        text = _without_tags(text)
    return _ENTITY.sub(_read, text) if "&" in text else text


def _cut(text: str, opening: re.Pattern[str], closing: re.Pattern[str]) -> str:
    """Leave out what is from an opening to the next closing; an opening without one is left."""
    kept = []
    at = 0
    while (start := opening.search(text, at)) and (end := closing.search(text, start.end())):
        kept.append(text[at:start.start()])
        at = end.end()
    # An empty tag in its place, so that white space around it collapses as around any tag.
    return "<wbr>".join([*kept, text[at:]]) if kept else text


def _without_tags(text: str) -> str:
    kept: list[str] = []
    at = 0
    gap = False
    for tag in _TAG.finditer(text):
        name = (tag[1] or "br").lower()
        # Own elements have a '-' in their names, and those of Word a ':'.
        if name in _KNOWN or "-" in name or ":" in name:
            gap = _add(kept, text[at:tag.start()], gap) or name in _GAPS
            at = tag.end()
    if not at:
        return text
    _add(kept, text[at:], gap)
    return "".join(kept)


def _add(kept: list[str], piece: str, gap: bool) -> bool:
    """Add what is between two tags, after a space if there was a gap, and return whether it ends in a gap."""
    words = piece.strip()
    if not words:
        return gap or bool(piece)
    if kept and (gap or piece[0].isspace()):
        kept.append(" ")
    kept.append(words)
    return piece[-1].isspace()


def _read(entity: re.Match[str]) -> str:
    """Return what an entity stands for; a name that is none stays: html.unescape would read the start of it."""
    known = entity[0][1] == "#" or entity[0][1:] in html5
    return unescape(entity[0]) if known else entity[0]
