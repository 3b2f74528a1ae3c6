"""Notes on a candidate file: its content, and the rows that were not ranked as given."""

from typing import Any

from llmrec_cli.language.phrases import Phrase

CANDIDATE_NOTES = (
    ("unknown_items", "{n:,} of {candidates:,} candidates ignored: not items of the data"),
    ("repeated", "{n:,} candidates are repeated in their list; each counts once"),
    ("equal_to_target", "{n:,} candidates equal the held-out item of their row; they count once"),
    ("lists_of_unknown_users", "{n:,} lists ignored: unknown user"),
    ("lists_of_unknown_groups", "{n:,} lists ignored: unknown group"),
    ("lists_without_candidates", "{n:,} lists ignored: no known candidate except the held-out item"),
    ("lists_not_held_out", "{n:,} rows ignored: their interaction is not in the evaluated split"),
    ("lists_repeated", "{n:,} rows have the same user or group and held-out item as an earlier row; every row is "
                       "evaluated"),
    ("held_out_without_list", "{n:,} held-out interactions not evaluated: no row in the file"),
    ("users_without_list", "{n:,} users with held-out interactions not evaluated: no candidates"),
    ("groups_without_list", "{n:,} groups with held-out interactions not evaluated: no candidates"),
    ("held_out_added", "{n:,} held-out items added to their list of candidates"),
    ("held_out_not_candidates", "{n:,} held-out interactions are with items that are not candidates and cannot be "
                                "recommended"),
    ("users_with_fewer", "{n:,} users have fewer than {drawn:,} items to sample from"),
    ("groups_with_fewer", "{n:,} groups have fewer than {drawn:,} items to sample from"),
    ("seen_held_out", "{n:,} held-out items are in their user's or group's history and are ranked as given; set "
                      "exclude_seen=true to exclude them"))
"""Key of `candidate_counts` in metrics.json -> sentence for a count above 0."""


def candidate_notes(protocol: dict[str, Any]) -> list[Phrase]:
    """Return a sentence for each count above 0 in `protocol`, the protocol of metrics.json."""
    counts = protocol.get("candidate_counts", {})
    notes = [Phrase(sentence, n=counts[key], **{name: counts.get(name, 0) for name in ("candidates", "drawn")})
             for key, sentence in CANDIDATE_NOTES if counts.get(key)]
    if counts.get("seen"):
        notes.append(Phrase("{n:,} candidates are in their user's or group's history and are excluded "
                            "(exclude_seen=true)", n=counts["seen"]) if counts["seen_left_out"] else
                     Phrase("{n:,} candidates are in their user's or group's history and are ranked as given; set "
                            "exclude_seen=true to exclude them", n=counts["seen"]))
    return notes


def candidate_lines(protocol: dict[str, Any]) -> list[str]:
    """Return the notes for a terminal, each with the name of the candidate file before it."""
    begin = protocol.get("candidate_counts", {}).get("file", protocol["candidates"])
    return [f"candidates={begin}: {note}" for note in candidate_notes(protocol)]


def query_count(protocol: dict[str, Any]) -> Phrase:
    """Return the number of queries: `943 users`, `1,450 rows of 290 groups`, or `1,450 rows` without users."""
    if "queries" in protocol and protocol["num_rows"] == protocol["num_queries"]:
        return Phrase("{num:,} rows", num=protocol["num_rows"])
    name, num_queries = str(protocol.get("audience", "users")), protocol["num_queries"]
    name = name.removesuffix("s") if num_queries == 1 else name
    queries = Phrase("{num:,} {audience}", num=num_queries, audience=Phrase(name))
    return (Phrase("{num:,} rows of {queries}", num=protocol["num_rows"], queries=queries) if "num_rows" in protocol
            else queries)
