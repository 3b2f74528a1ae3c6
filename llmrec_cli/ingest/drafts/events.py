"""Events of a draft: their names, the weights that these suggest, and the rows that `prepare` ignores."""

from collections import Counter

from llmrec_cli.ingest.drafts.names import event_weight
from llmrec_cli.ingest.drafts.roles import Role
from llmrec_cli.ingest.drafts.samples import Column

_MOST_EVENTS = 40


def events_of(role: Role) -> list[str]:
    """Return the events in the sample, the most frequent first; [] if there is only one or the column has other values.
    """
    name = role.columns.get("event")
    column = role.sample.columns[name] if name is not None else None
    if column is None or column.is_array or not column.values or column.numbers:
        return []
    if not 1 < len(column.distinct) <= _MOST_EVENTS:
        return []
    return [event for event, _ in Counter(column.values).most_common()]


def weights_of(role: Role) -> dict[str, float | None]:
    """Return the weight of each event of `events_of`: 0 if no row of it has an item, None if its name says nothing."""
    events, item = events_of(role), role.sample.columns[role.columns["item_id"]]
    if not events or item.is_array:
        return {event: event_weight(event) for event in events}
    column, rows_of_items = role.sample.columns[role.columns["event"]], set(item.places)
    with_item = {event for event, place in zip(column.values, column.places, strict=True) if place in rows_of_items}
    return {event: event_weight(event) if event in with_item else 0.0 for event in events}


def ignored_rows(role: Role) -> set[int]:
    """Return the rows of events with weight 0, which `prepare` does not check."""
    ignored = {event for event, weight in weights_of(role).items() if weight == 0}
    column = role.sample.columns[role.columns["event"]] if ignored else Column("")
    return {place for event, place in zip(column.values, column.places, strict=True) if event in ignored}
