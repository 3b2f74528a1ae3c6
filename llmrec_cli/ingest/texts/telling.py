"""Titles, texts and attributes of users, items and groups, from their columns."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from llmrec_cli.ingest.readers.array_texts import UnclearArray, parsed
from llmrec_cli.ingest.texts.attributes import class_of, number_of
from llmrec_cli.ingest.texts.html import strip_html
from llmrec_cli.ingest.texts.templates import Template, join_all, json_array, values_of

HISTORY = "history"
_NOT_JOINED = "timestamp"  # When an item was described: says nothing of it.
_OF_A_MODEL = ("category", "list", "number")


@dataclass(frozen=True)
class TextRules:
    """How titles, texts and attributes are made from columns.

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
        """Whether the text names the titles of the training history."""
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
