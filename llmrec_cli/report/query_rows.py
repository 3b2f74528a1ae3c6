"""Notes on a file of queries: the rows and items of it that were not ranked as given."""

from typing import Any

from llmrec_cli.language.phrases import Phrase

QUERY_ROW_NOTES = (
    ("rows_left_out", "{n:,} of {rows:,} rows left out: none of their relevant items is an item of the data"),
    ("rows_not_ranked", "{n:,} of {rows:,} rows left out: none of their relevant items may be recommended"),
    ("unknown_relevant", "{n:,} relevant items ignored: not items of the data"),
    ("repeated_relevant", "{n:,} relevant items are repeated in their row; each counts once"),
    ("unknown_history", "{n:,} items of histories ignored: not items of the data"),
    ("repeated_history", "{n:,} items are repeated in their history; each counts at its last place"))
"""Key of `queries` in the protocol of metrics.json -> sentence for a count above 0."""
_FALLBACKS = (
    ("text", "{n:,} rows without a known history are ranked by their text"),
    ("popularity", "{n:,} rows without a history or text that the model reads are ranked by popularity"))


def query_row_notes(protocol: dict[str, Any]) -> list[Phrase]:
    """Return a sentence for each count above 0 in `protocol`, the protocol of metrics.json."""
    counts = protocol.get("queries", {})
    notes = [Phrase(sentence, n=counts[key], rows=counts["rows"])
             for key, sentence in QUERY_ROW_NOTES if counts.get(key)]
    if number := counts.get("relevant_in_history"):
        notes.append(Phrase("{n:,} relevant items are in their row's history and cannot be recommended "
                            "(exclude_seen=true)", n=number) if protocol["exclude_seen"] else
                     Phrase("{n:,} relevant items are in their row's history and are ranked as given; set "
                            "exclude_seen=true to leave out what is in the history", n=number))
    sources = counts.get("ranked_by", {})
    return notes + [Phrase(sentence, n=sources[key]) for key, sentence in _FALLBACKS if sources.get(key)]


def query_row_lines(protocol: dict[str, Any]) -> list[str]:
    """Return the notes for a terminal, each with the name of the file before it."""
    return [f"queries={protocol['queries']['file']}: {note}" for note in query_row_notes(protocol)]
