"""Titles, texts and attributes of users, items and groups rendered from their columns.

Only what is a tag counts: the name of an element of HTML, closed by `>`. "x<3", "a < b", "List<String>" and "AT&T"
stay as they are. The standard library's parser is not used, since what it makes of broken HTML changes with Python's
minor releases, and prepared data must not.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from html import unescape
from html.entities import html5
from typing import NamedTuple

from llmrec_cli.ingest.readers.array_texts import UnclearArray, parsed
from llmrec_cli.ingest.texts.attributes import class_of, number_of
from llmrec_cli.ingest.texts.templates import Template, join_all, json_array, values_of

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


HISTORY = "history"
_NOT_JOINED = "timestamp"  # When an item was described: says nothing of it.
_OF_A_MODEL = ("category", "list", "number")


@dataclass(frozen=True)
class TextRules:
    """Rules that make titles, texts and attributes from columns.

    Attributes
    ----------
    kind : item | user | group; a text without a template is all columns, but a user's is empty
    template : over the columns; None without one
    attributes : column -> category | list | number | text | image
    edges : column that is a number -> where its classes end
    """

    kind: str
    template: Template | None
    attributes: Mapping[str, str]
    list_separator: str
    max_length: int
    strip_html: bool
    edges: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def needs_history(self) -> bool:
        """True if the text names the titles of the training history."""
        return self.kind == "user" and self.template is not None and HISTORY in self.template.fields

    def used(self, names: Iterable[str]) -> list[str]:
        """Return those of the columns `names` that titles, texts or attributes are made of."""
        fields = self.template.fields if self.template is not None else ()
        return [name for name in names if self.attributes.get(name) != "image" and (
            name == "title" or self.attributes.get(name) in _OF_A_MODEL or name in fields or self.joins(name))]

    def joins(self, name: str) -> bool:
        """Return whether a column is part of the text that is made without a template."""
        return (self.template is None and self.kind != "user" and name != _NOT_JOINED
                and self.attributes.get(name) != "image")


class Told(NamedTuple):
    """Titles, texts and attributes, one of each per entity."""

    titles: list[str]
    texts: list[str]
    attributes: list[list[str]]


def tell(ids: list[str], columns: Mapping[str, Sequence[str | None]], rules: TextRules,
         histories: Iterable[str] | None = None) -> Told:
    """Return what is told of the entities `ids`; `columns` has a value for each of them, None or "" for none.

    `histories` has the text of each one's training history, where the template names it.
    """
    attributes: list[list[str]] = [[] for _ in ids]
    shown = {name: _shown(name, columns[name], rules, attributes) for name in rules.used(columns)}
    most = rules.max_length
    titles = [title.strip()[:most] or name for title, name in zip(shown.get("title", ids), ids, strict=True)]
    if rules.template is not None:
        values = {**shown, f"{rules.kind}_id": ids, **({HISTORY: histories} if histories is not None else {})}
        nothing = [""] * len(ids)
        rows = zip(*(values.get(name, nothing) for name in rules.template.fields), strict=True)
        texts = [rules.template.fill(row)[:most] for row in (rows if rules.template.fields else [()] * len(ids))]
    elif joined := [_without_objects(columns[name], values) for name, values in shown.items() if rules.joins(name)]:
        texts = [join_all(row)[:most] for row in zip(*joined, strict=True)]
    else:
        texts = [""] * len(ids)
    return Told(titles, texts, [sorted(own) for own in attributes])


def has_objects(value: str) -> bool:
    """Return whether a value is an object, or an array of objects or arrays: no text that a person reads."""
    if not value.lstrip().startswith(("{", "[")):
        return False
    try:
        found = parsed(value)
    except UnclearArray:
        return False
    return isinstance(found, dict) or (found is not None and any(isinstance(part, (dict, list)) for part in found))


def _without_objects(values: Sequence[str | None], shown: Sequence[str]) -> list[str]:
    return ["" if value and has_objects(value) else text for value, text in zip(values, shown, strict=True)]


def _shown(column: str, values: Sequence[str | None], rules: TextRules, attributes: list[list[str]]) -> list[str]:
    """Return the values of a column for reading, and add to each entity's attributes."""
    kind = rules.attributes.get(column, "")
    if kind == "number":
        return _numbers(column, values, rules.edges[column], attributes)
    clean = strip_html if rules.strip_html else str
    if kind not in _OF_A_MODEL:
        return [_text(value, rules.list_separator, clean) if value else "" for value in values]
    shown = []
    # A category has few values, so each is read once.
    known: dict[str, tuple[str, list[str]]] = {}
    for value, own in zip(values, attributes, strict=True):
        if not value:
            shown.append("")
            continue
        if value not in known:
            text = _text(value, rules.list_separator, clean, listed=kind == "list")
            known[value] = text, [f"{column}={part}" for part in _parts(value, text, kind, rules, clean)]
        shown.append(known[value][0])
        own += known[value][1]
    return shown


def _text(value: str, separator: str, clean: Callable[[str], str], listed: bool = False) -> str:
    """Return a value for reading: a list's values with commas, HTML taken out."""
    if listed or (value[0] == "[" and json_array(value) is not None):
        return ", ".join(values_of(value, separator, clean))
    return clean(value)


def _parts(value: str, text: str, kind: str, rules: TextRules, clean: Callable[[str], str]) -> list[str]:
    """Return what is an attribute of its own in a value of a category or list."""
    if kind == "list" or json_array(value) is not None:
        return values_of(value, rules.list_separator, clean)
    return [text.strip()] if text.strip() else []


def _numbers(column: str, values: Sequence[str | None], edges: Sequence[float],
             attributes: list[list[str]]) -> list[str]:
    for value, own in zip(values, attributes, strict=True):
        if value and value.strip():
            number = number_of(value)
            own += [f"{column}=q{class_of(number, edges)}"] if number is not None else []
    return [value or "" for value in values]
