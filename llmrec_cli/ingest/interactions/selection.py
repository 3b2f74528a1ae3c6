"""Rows of interactions that are sound and left out because a setting says so, before duplicates are merged."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import ibis
from ibis.expr.types import BooleanValue, Table

from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.engine import collect, materialised
from llmrec_cli.ingest.interactions.coding import Coded
from llmrec_cli.ingest.interactions.temporal import typed_time
from llmrec_cli.settings.dataset import DatasetSettings

REASONS = {"dropped_user": "user in dataset.drop_users", "dropped_item": "item in dataset.drop_items",
           "after_newest": "time after dataset.newest", "before_oldest": "time before dataset.oldest",
           "event_without_weight": "event whose weight is 0; dataset.event_weights"}
"""Reasons in filtered.parquet and their meaning. A row gets the first reason that applies."""


@dataclass(frozen=True)
class Selected:
    """Rows that are used, and the others with `reason`; None when no setting leaves any out.

    `counts` has the number of rows by reason, `absent` the dropped ids that no row has, by setting.
    """

    rows: Table
    left_out: Table | None = None
    counts: dict[str, int] = field(default_factory=dict)
    absent: dict[str, list[str]] = field(default_factory=dict)


def select(coded: Coded, settings: DatasetSettings, unit: str, names: Sequence[str],
           of_groups: bool = False) -> Selected:
    """Return the rows of `coded` that the settings leave in.

    `unit` is how timestamps are written ("" without any), `names` the columns that the files have. In groups'
    interactions, where groups have the place of users, dataset.drop_users has no meaning.
    """
    found, absent = list(_by_settings(coded.rows, settings, unit, names)), {}
    for kind, key in (("user", "drop_users"), ("item", "drop_items")):
        if getattr(settings, key) and not (of_groups and kind == "user"):
            ids = coded.users if kind == "user" else coded.items
            known = collect(ids.filter(ids[f"{kind}_id"].isin(getattr(settings, key)))).to_pylist()
            there = {row[f"{kind}_id"] for row in known}
            absent[f"dataset.{key}"] = [name for name in getattr(settings, key) if name not in there]
            if known:
                found.append((f"dropped_{kind}", coded.rows[kind].isin([row[kind] for row in known])))
    if not found:
        return Selected(coded.rows, absent=absent)
    found.sort(key=lambda pair: list(REASONS).index(pair[0]))
    marked = materialised(coded.rows.mutate(reason=ibis.cases(*((holds, reason) for reason, holds in found))))
    counts = {row["reason"]: row["size"] for row in collect(
        marked.filter(marked.reason.notnull()).group_by("reason").agg(size=lambda t: t.count())).to_pylist()}
    if not counts:
        return Selected(coded.rows, absent=absent)
    return Selected(materialised(marked.filter(marked.reason.isnull()).drop("reason")),
                    marked.filter(marked.reason.notnull()), counts, absent)


def counts_of(found: Mapping[str, int], prefix: str = "") -> dict[str, int]:
    """Return the counts by reason under the names they have in the account."""
    names = {"ignored_events": ("event_without_weight",), "dropped_ids": ("dropped_user", "dropped_item"),
             "outside_times": ("after_newest", "before_oldest")}
    return {f"{prefix}{name}": sum(found.get(reason, 0) for reason in reasons) for name, reasons in names.items()}


def _by_settings(rows: Table, settings: DatasetSettings, unit: str,
                 names: Sequence[str]) -> Iterator[tuple[str, BooleanValue]]:
    """Yield a reason and which rows it holds for, of the settings about events and times."""
    ignored = [event for event, weight in settings.event_weights.items() if weight == 0]
    if ignored and "event" in names:
        yield "event_without_weight", rows.event.isin(ignored)
    for key, reason in (("newest", "after_newest"), ("oldest", "before_oldest")):
        text = getattr(settings, key)
        if text is None:
            continue
        if not unit:
            raise ConfigError(f"dataset.{key}={text}: has no effect on interactions without a column 'timestamp'; map "
                              f"it with dataset.columns.timestamp=<name>, or leave the setting out")
        at = typed_time(text, unit, f"dataset.{key}", last=key == "newest")
        yield reason, rows.timestamp > at if key == "newest" else rows.timestamp < at
