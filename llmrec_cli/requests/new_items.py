"""Items and users that a model has never seen, described the way the model's own were."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.prepared import attribute_matrix
from llmrec_cli.errors import ArtifactError, DataError, counted
from llmrec_cli.ingest.readers.sources import is_path
from llmrec_cli.ingest.texts.attributes import number_of
from llmrec_cli.ingest.texts.templates import Template, columns_of
from llmrec_cli.ingest.texts.text_rendering import HISTORY, TextRules, render_texts, strip_html
from llmrec_cli.requests.files import Rows, read_rows
from llmrec_cli.settings.base import nearest

_MOST_SHOWN = 60


@dataclass(frozen=True)
class Newcomers:
    """Catalogue that are new, and sentences about what a person should look at.

    `known` are the places, int64, of those in the file that the model knows already.
    """

    entities: Catalogue
    notes: list[str]
    known: np.ndarray


def new_items(named: str, texts: dict[str, Any] | None, known: Catalogue, refuse_known: bool = False) -> Newcomers:
    """Return the items in the file that `items=` names and that the model does not know.

    `texts` is what the model's manifest says of texts. The model keeps its own texts of items that it knows; with
    `refuse_known` these raise DataError.
    """
    rows, rules, notes = _read(named, "item", texts)
    ids = rows.ids("item_id")
    place = known.find(np.array(ids, object))
    there, fresh = np.flatnonzero(place >= 0), np.flatnonzero(place < 0)
    if len(there) and refuse_known:
        more = f", and {len(there) - 1:,} more of the file's items" if len(there) > 1 else ""
        raise DataError(f"{rows.where(there[0])}: the model knows item '{ids[there[0]]}' already{more}; leave out of "
                        f"items= what is not new, or leave out on_unknown=error")
    if len(there):
        notes.append(f"items={named}: the model knows {counted(len(there), [ids[n] for n in there])} of {len(ids):,} "
                     f"items already and keeps their features from training; train again if they have changed")
    found = _described(rows, [ids[n] for n in fresh], fresh.tolist(), "item", rules)
    mute = int((found.texts == "").sum())
    if mute:
        notes.append(f"items={named}: {mute:,} of {len(fresh):,} new items have no text, so only attributes speak for "
                     f"them")
    return Newcomers(found, notes, place[there])


def new_users(named: str, texts: dict[str, Any] | None, known: Catalogue) -> Newcomers:
    """Return the users in the file that `users=` names, those left out that the model knows.

    Their texts are made by the model's template, without {history}, since they have none; where it names no column,
    they are what the file's column `text` says.
    """
    rows, rules, notes = _read(named, "user", texts)
    if rules.template is None and "text" not in rows.columns:
        raise DataError(f"users={named}: no text can be made of these users, and the model answers new users by text: "
                        f"add a column 'text', or prepare and train with dataset.user_text=<template of columns>")
    ids = rows.ids("user_id")
    place = known.find(np.array(ids, object))
    fresh = np.flatnonzero(place < 0)
    if len(fresh) < len(ids):
        notes.append(f"users={named}: the model knows {len(ids) - len(fresh):,} of {len(ids):,} users, and goes by "
                     f"their history")
    found = _described(rows, [ids[n] for n in fresh], fresh.tolist(), "user", rules)
    if rules.template is None:
        clean, said = strip_html if rules.strip_html else str, rows.texts("text")
        found.texts[:] = [clean(said[n]).strip()[:rules.max_length] for n in fresh]
    return Newcomers(found, notes, place[place >= 0])


def _read(named: str, kind: str, texts: dict[str, Any] | None) -> tuple[Rows, TextRules, list[str]]:
    """Return the rows under the names that the rules know, the rules, and notes about columns that are missing."""
    if texts is None:
        raise ArtifactError(f"{kind}s={named}: the model does not say how its texts were made, since its data was "
                            f"prepared by an older llmrec; prepare the data and train again")
    said = texts[kind]
    inside = tuple(name for name in (*columns_of(said["template"]), *said["attributes"]) if is_path(name))
    rows = read_rows(named, f"{kind}s", (f"{kind}_id", "title"), inside)
    aliases = {theirs: ours for theirs, ours in said["columns"].items() if ours not in rows.columns}
    rows = Rows(rows.paths, rows.file, rows.line, {aliases.get(name, name): v for name, v in rows.columns.items()})
    # A new user has no training history, and an item none at all.
    historic = kind == "user" and HISTORY in columns_of(said["template"])
    wanted = [name for name in columns_of(said["template"]) if not (historic and name == HISTORY)]
    names = {name: said["columns"].get(name, name) for name in (*wanted, *said["attributes"])}
    missing = [name for name, ours in names.items() if ours not in rows.columns]
    if wanted and all(name in missing for name in wanted):
        raise DataError(f"{rows.paths[0]}: none of the columns that a text is made of; the model's is "
                        f"'{said['template']}', and there are {', '.join(rows.columns)}"
                        f"{nearest(wanted[0], rows.columns)}")
    notes = [f"{kind}s={named}: no column '{name}', so texts and attributes go without it" for name in missing]
    known = names | ({HISTORY: f"{{{HISTORY}}}"} if historic else {})
    template = Template(said["template"], known, "the model's template") if wanted else None
    attributes = {names[name]: what for name, what in said["attributes"].items()}
    notes += _unread_numbers(rows, attributes, f"{kind}s={named}")
    # Models of an older llmrec do not say these two, and their texts have their HTML.
    return rows, TextRules(kind, template, attributes, said["list_separator"], said["max_length"],
                           said.get("strip_html", False), said.get("edges", {})), notes


def _unread_numbers(rows: Rows, attributes: dict[str, str], named: str) -> Iterator[str]:
    """Yield a note for each column that should be numbers and has something else, which is then no attribute."""
    for column in (name for name, what in attributes.items() if what == "number" and name in rows.columns):
        bad = [row for row, value in enumerate(rows.texts(column)) if value.strip() and number_of(value) is None]
        if bad:
            yield (f"{named}: {len(bad):,} values of '{column}' are no numbers, so that these have no such attribute; "
                   f"the first is '{rows.texts(column)[bad[0]][:_MOST_SHOWN]}' ({rows.where(bad[0])})")


def _described(rows: Rows, ids: list[str], chosen: Sequence[int], kind: str, rules: TextRules) -> Catalogue:
    columns = {name: [values[row] for row in chosen] for name, values in rows.columns.items() if name != f"{kind}_id"}
    told = render_texts(ids, columns, rules)
    lists = pa.chunked_array([pa.array(told.attributes, pa.list_(pa.string()))])
    return Catalogue(_strings(ids), _strings(told.titles), _strings(told.texts), *attribute_matrix(lists))


def _strings(values: list[str]) -> np.ndarray:
    return np.array([*values, None], object)[:-1]
