"""Titles, texts and attributes of users, items and groups, rendered from their columns.

HTML is stripped only where it is certain: a tag must have the name of an HTML element and be closed by `>`. "x<3",
"a < b", "List<String>" and "AT&T" stay as they are. The standard library's parser is not used, since its treatment of
broken HTML changes with minor releases of Python, and prepared data must not.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from html import unescape
from html.entities import html5
from typing import NamedTuple

from llmrec_cli.ingest.readers.array_texts import UnclearArray, parse_nested
from llmrec_cli.ingest.texts.attributes import class_of, number_of
from llmrec_cli.ingest.texts.templates import Template, join_all, json_array, values_of

_INLINE = ("a abbr acronym area b base bdi bdo big blink cite code col colgroup data del dfn em embed font i ins kbd "
           "label link map mark marquee meta nobr noscript param picture q rp rt ruby s samp small source span strike "
           "strong style script sub sup template time track tt u var wbr")
_BLOCK = ("address article aside audio blockquote body br button canvas caption center dd details dialog dir div dl dt "
          "fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html iframe "
          "img input legend li main menu nav object ol optgroup option output p pre progress search section select "
          "summary svg table tbody td textarea tfoot th thead title tr ul video")
# Attributes follow the name; a quoted '>' in them does not end the tag. No two alternatives start with the same
# character, so a text of a million '<a "' takes a moment, not a day. No possessive quantifiers: a bug in Python 3.11.2.
_ATTRIBUTES = r"(?:[\s/](?:[^<>\"']|\"[^\"]*\"|'[^']*')*)?"
_TAG = re.compile(rf"<(?:/?([a-z][a-z0-9]*(?:[:-][a-z0-9]+)*){_ATTRIBUTES}|!doctype\s[^<>]*|\?xml\s[^<>]*)>", re.I)
_UNSEEN = [(re.compile("<!--"), re.compile("--!?>"))]
_UNSEEN += [(re.compile(rf"<{name}(?:\s[^<>]*)?>", re.I), re.compile(rf"</{name}\s*>", re.I))
            for name in ("script", "style")]
_GAPS = frozenset(_BLOCK.split())
_PARTS = frozenset(_INLINE.split())
_ENTITY = re.compile("&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


def strip_html(text: str) -> str:
    """Return `text` without tags and comments, and with entities decoded once.

    A block element or a line break becomes a space. White space collapses in a text with tags, as in HTML; a text
    without tags keeps it.
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
    """Remove everything from an opening to the next closing; an opening without a closing stays."""
    parts = []
    at = 0
    while (start := opening.search(text, at)) and (end := closing.search(text, start.end())):
        parts.append(text[at:start.start()])
        at = end.end()
    parts.append(text[at:])
    return "".join(parts)


def _space(tag: re.Match[str]) -> str:
    """Return the replacement of a tag: a space, nothing, or the tag itself if it is not HTML."""
    name = (tag[1] or "html").lower()
    # Custom elements have a '-' in their names, elements of Word a ':'.
    return " " if name in _GAPS else "" if name in _PARTS or "-" in name or ":" in name else tag[0]


def _read(entity: re.Match[str]) -> str:
    return _meaning(entity[0])


@lru_cache(4096)
def _meaning(entity: str) -> str:
    """Return the character of an entity; unknown names stay, while html.unescape would decode a known beginning."""
    return unescape(entity) if entity[1] == "#" or entity[1:] in html5 else entity


HISTORY = "history"
_NOT_JOINED = "timestamp"  # The time of the description, not a property of the item.
_MODEL_TYPES = ("category", "list", "number")


@dataclass(frozen=True)
class TextRules:
    """Rules that make titles, texts and attributes from columns.

    Attributes
    ----------
    kind : item | user | group; without a template the text joins all columns, for users it is empty
    template : text template over the columns, or None
    attributes : column -> category | list | number | text | image
    edges : column of numbers -> upper edges of its classes
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
        """True if the text contains the titles of the training history."""
        return self.kind == "user" and self.template is not None and HISTORY in self.template.fields

    def used(self, names: Iterable[str]) -> list[str]:
        """Return the columns of `names` that titles, texts or attributes use."""
        fields = self.template.fields if self.template is not None else ()
        return [name for name in names if self.attributes.get(name) != "image" and (
            name == "title" or self.attributes.get(name) in _MODEL_TYPES or name in fields or self.joins(name))]

    def joins(self, name: str) -> bool:
        """Return True if a column is part of the text made without a template."""
        return (self.template is None and self.kind != "user" and name != _NOT_JOINED
                and self.attributes.get(name) != "image")


class RenderedTexts(NamedTuple):
    """Titles, texts and attributes, one of each per entity."""

    titles: list[str]
    texts: list[str]
    attributes: list[list[str]]


def render_texts(ids: list[str], columns: Mapping[str, Sequence[str | None]], rules: TextRules,
         histories: Iterable[str] | None = None) -> RenderedTexts:
    """Render titles, texts and attributes of the entities `ids`; `columns` has a value per entity, None or "" for none.

    `histories` has the text of each entity's training history, if the template uses it.
    """
    attributes: list[list[str]] = [[] for _ in ids]
    readable = {name: _render_column(name, columns[name], rules, attributes) for name in rules.used(columns)}
    most = rules.max_length
    titles = [title.strip()[:most] or name for title, name in zip(readable.get("title", ids), ids, strict=True)]
    if rules.template is not None:
        values = {**readable, f"{rules.kind}_id": ids, **({HISTORY: histories} if histories is not None else {})}
        nothing = [""] * len(ids)
        rows = zip(*(values.get(name, nothing) for name in rules.template.fields), strict=True)
        texts = [rules.template.fill(row)[:most] for row in (rows if rules.template.fields else [()] * len(ids))]
    elif joined := [_without_objects(columns[name], values) for name, values in readable.items() if rules.joins(name)]:
        texts = [join_all(row)[:most] for row in zip(*joined, strict=True)]
    else:
        texts = [""] * len(ids)
    return RenderedTexts(titles, texts, [sorted(own) for own in attributes])


def has_objects(value: str) -> bool:
    """Return True if a value is an object, or an array of objects or arrays, which is not readable text."""
    if not value.lstrip().startswith(("{", "[")):
        return False
    try:
        value_ = parse_nested(value)
    except UnclearArray:
        return False
    return isinstance(value_, dict) or (value_ is not None and any(isinstance(part, (dict, list)) for part in value_))


def _without_objects(values: Sequence[str | None], readable: Sequence[str]) -> list[str]:
    return ["" if value and has_objects(value) else text for value, text in zip(values, readable, strict=True)]


def _render_column(column: str, values: Sequence[str | None], rules: TextRules,
                   attributes: list[list[str]]) -> list[str]:
    """Return the values of a column as readable text, and add the attributes of each entity to `attributes`."""
    kind = rules.attributes.get(column, "")
    if kind == "number":
        return _numbers(column, values, rules.edges[column], attributes)
    clean = strip_html if rules.strip_html else str
    if kind not in _MODEL_TYPES:
        return [_text(value, rules.list_separator, clean) if value else "" for value in values]
    readable = []
    # A category has few values, so each is rendered once.
    rendered: dict[str, tuple[str, list[str]]] = {}
    for value, own in zip(values, attributes, strict=True):
        if not value:
            readable.append("")
            continue
        if value not in rendered:
            text = _text(value, rules.list_separator, clean, listed=kind == "list")
            rendered[value] = text, [f"{column}={part}" for part in _parts(value, text, kind, rules, clean)]
        readable.append(rendered[value][0])
        own += rendered[value][1]
    return readable


def _text(value: str, separator: str, clean: Callable[[str], str], listed: bool = False) -> str:
    """Return a value as readable text: lists with commas, HTML removed."""
    if listed or (value[0] == "[" and json_array(value) is not None):
        return ", ".join(values_of(value, separator, clean))
    return clean(value)


def _parts(value: str, text: str, kind: str, rules: TextRules, clean: Callable[[str], str]) -> list[str]:
    """Return the separate attributes in a value of a category or list."""
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
