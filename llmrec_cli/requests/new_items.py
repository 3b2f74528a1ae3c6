"""New items and users for a model, with texts and attributes made like the model's own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.file_rules import FileRules, rules_for
from llmrec_cli.data.prepared import attribute_matrix
from llmrec_cli.errors import ArtifactError, DataError, format_count
from llmrec_cli.ingest.readers.sources import is_path
from llmrec_cli.ingest.texts.attributes import number_of
from llmrec_cli.ingest.texts.templates import Template, columns_of
from llmrec_cli.ingest.texts.text_rendering import HISTORY, TextRules, render_texts, strip_html
from llmrec_cli.requests.files import Rows, read_rows
from llmrec_cli.settings.base import nearest

_MAX_SHOWN = 60


@dataclass(frozen=True)
class NewCatalogue:
    """New items or users of a file, with notes for stderr.

    `known_rows` are the model's rows, int64, of the file's items or users that the model already knows.
    """

    catalogue: Catalogue
    notes: list[str]
    known_rows: np.ndarray


def new_items(named: str, texts: dict[str, Any] | None, catalogue: Catalogue,
              refuse_known: bool = False, rules: Mapping[str, FileRules] | None = None) -> NewCatalogue:
    """Return the items in the file `items=` that the model does not know.

    `texts` is the entry `texts` of the model's manifest. The model keeps its own texts for items that it knows; with
    `refuse_known` such items raise DataError. `rules` say how `prepare` read its files.
    """
    rows, text_rules, notes = _read(named, "item", texts, rules)
    ids = rows.ids("item_id")
    place = catalogue.find(np.array(ids, object))
    known_rows, fresh = np.flatnonzero(place >= 0), np.flatnonzero(place < 0)
    if len(known_rows) and refuse_known:
        more = f", and {len(known_rows) - 1:,} more of the file's items" if len(known_rows) > 1 else ""
        raise DataError(f"{rows.where(known_rows[0])}: the model already knows item '{ids[known_rows[0]]}'{more}; "
                        f"remove known items from the file, or leave out on_unknown=error")
    if len(known_rows):
        known = format_count(len(known_rows), [ids[n] for n in known_rows])
        notes.append(f"items={named}: the model already knows {known} of "
                     f"{len(ids):,} items and keeps their features from training; train again if they have changed")
    new = _catalogue(rows, [ids[n] for n in fresh], fresh.tolist(), "item", text_rules)
    mute = int((new.texts == "").sum())
    if mute:
        notes.append(f"items={named}: {mute:,} of {len(fresh):,} new items have no text, so only their attributes "
                     f"are used")
    return NewCatalogue(new, notes, place[known_rows])


def new_users(named: str, texts: dict[str, Any] | None, catalogue: Catalogue,
              rules: Mapping[str, FileRules] | None = None) -> NewCatalogue:
    """Return the users in the file `users=` that the model does not know.

    Their texts are made with the model's template, without {history}, since new users have no history. If the template
    names no columns, the texts are those in the file's column `text`.
    """
    rows, text_rules, notes = _read(named, "user", texts, rules)
    if text_rules.template is None and "text" not in rows.columns:
        raise DataError(f"users={named}: these users have no text, and the model scores new users by their text: "
                        f"add a column 'text', or prepare and train with dataset.user_text=<template of columns>")
    ids = rows.ids("user_id")
    place = catalogue.find(np.array(ids, object))
    fresh = np.flatnonzero(place < 0)
    if len(fresh) < len(ids):
        notes.append(f"users={named}: the model already knows {len(ids) - len(fresh):,} of {len(ids):,} users and uses "
                     f"their history")
    new = _catalogue(rows, [ids[n] for n in fresh], fresh.tolist(), "user", text_rules)
    if text_rules.template is None:
        clean, texts_of_rows = strip_html if text_rules.strip_html else str, rows.texts("text")
        new.texts[:] = [clean(texts_of_rows[n]).strip()[:text_rules.max_length] for n in fresh]
    return NewCatalogue(new, notes, place[place >= 0])


def _read(named: str, kind: str, texts: dict[str, Any] | None,
          rules: Mapping[str, FileRules] | None) -> tuple[Rows, TextRules, list[str]]:
    """Return the rows with the column names of the text rules, the rules, and notes about missing columns."""
    if texts is None:
        raise ArtifactError(f"{kind}s={named}: the model has no text rules, since its data was prepared by an older "
                            f"llmrec; prepare the data and train again")
    text_facts = texts[kind]
    inside = tuple(name for name in (*columns_of(text_facts["template"]), *text_facts["attributes"]) if is_path(name))
    of_kind = rules_for(rules, f"{kind}s", "interactions")[:1]
    rows = read_rows(named, f"{kind}s", (f"{kind}_id", "title"), inside, of_kind)
    aliases = {theirs: ours for theirs, ours in text_facts["columns"].items() if ours not in rows.columns}
    rows = replace(rows, columns={aliases.get(name, name): values for name, values in rows.columns.items()})
    # A new user has no training history, and an item none at all.
    historic = kind == "user" and HISTORY in columns_of(text_facts["template"])
    template_columns = [name for name in columns_of(text_facts["template"]) if not (historic and name == HISTORY)]
    names = {name: text_facts["columns"].get(name, name) for name in (*template_columns, *text_facts["attributes"])}
    missing = [name for name, ours in names.items() if ours not in rows.columns]
    if template_columns and all(name in missing for name in template_columns):
        raise DataError(f"{rows.paths[0]}: no column of the model's text template '{text_facts['template']}'; "
                        f"there are {', '.join(rows.columns)}"
                        f"{nearest(template_columns[0], rows.columns)}")
    notes = [f"{kind}s={named}: no column '{name}'; texts and attributes are made without it" for name in missing]
    columns = names | ({HISTORY: f"{{{HISTORY}}}"} if historic else {})
    template = Template(text_facts["template"], columns, "the model's template") if template_columns else None
    attributes = {names[name]: what for name, what in text_facts["attributes"].items()}
    notes += _unread_numbers(rows, attributes, f"{kind}s={named}")
    # Models of an older llmrec lack these two, and their texts contain HTML.
    return rows, TextRules(kind, template, attributes, text_facts["list_separator"], text_facts["max_length"],
                           text_facts.get("strip_html", False), text_facts.get("edges", {})), notes


def _unread_numbers(rows: Rows, attributes: dict[str, str], named: str) -> Iterator[str]:
    """Yield a note for each column that should be numbers and has something else, which is then no attribute."""
    for column in (name for name, what in attributes.items() if what == "number" and name in rows.columns):
        bad = [row for row, value in enumerate(rows.texts(column)) if value.strip() and number_of(value) is None]
        if bad:
            yield (f"{named}: {len(bad):,} values of '{column}' ignored as attributes: not numbers; the "
                   f"first is '{rows.texts(column)[bad[0]][:_MAX_SHOWN]}' ({rows.where(bad[0])})")


def _catalogue(rows: Rows, ids: list[str], file_rows: Sequence[int], kind: str, rules: TextRules) -> Catalogue:
    columns = {name: [values[row] for row in file_rows] for name, values in rows.columns.items()
               if name != f"{kind}_id"}
    rendered = render_texts(ids, columns, rules)
    lists = pa.chunked_array([pa.array(rendered.attributes, pa.list_(pa.string()))])
    return Catalogue(_strings(ids), _strings(rendered.titles), _strings(rendered.texts), *attribute_matrix(lists))


def _strings(values: list[str]) -> np.ndarray:
    return np.array([*values, None], object)[:-1]
