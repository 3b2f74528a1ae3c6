"""Sentences on a file of candidates: its content, and the rows that were not ranked as given."""

from typing import Any

_LEFT_OUT = (
    ("unknown_items", "{n:,} of {candidates:,} candidates are not items of the data and are left out"),
    ("repeated", "{n:,} candidates are repeated in their list; each counts once"),
    ("equal_to_target", "{n:,} candidates equal the held-out item of their row; they count once"),
    ("lists_of_unknown_users", "{n:,} lists of unknown users are left out"),
    ("lists_of_unknown_groups", "{n:,} lists of unknown groups are left out"),
    ("lists_without_candidates", "{n:,} lists have no known candidate beside the held-out item and are left out"),
    ("lists_not_held_out", "{n:,} rows are about interactions that the split does not hold out and are left out"),
    ("lists_repeated", "{n:,} rows repeat the held-out item of an earlier row of their user or group; each is "
                       "measured"),
    ("held_out_without_list", "{n:,} held-out interactions have no row and are not measured"),
    ("users_without_list", "{n:,} users with held-out interactions have no candidates and are not measured"),
    ("groups_without_list", "{n:,} groups with held-out interactions have no candidates and are not measured"),
    ("held_out_added", "{n:,} held-out items are not in their own list and are added to it"),
    ("held_out_not_candidates", "{n:,} held-out interactions are with items that are not candidates, so they cannot be "
                                "found"),
    ("users_with_fewer", "{n:,} users have fewer than {drawn:,} items left to draw"),
    ("groups_with_fewer", "{n:,} groups have fewer than {drawn:,} items left to draw"),
    ("seen_held_out", "{n:,} held-out items are also in their user's or group's history; they are ranked as given, "
                      "exclude_seen=true leaves them out"))
"""Count in `candidate_counts` of metrics.json -> sentence if it is not 0."""


def candidate_notes(protocol: dict[str, Any]) -> list[str]:
    """Return a sentence for each count above 0 in `protocol`, the protocol of metrics.json."""
    counts = protocol.get("candidate_counts", {})
    said = [sentence.format(n=counts[key], **{name: counts.get(name, 0) for name in ("candidates", "drawn")})
            for key, sentence in _LEFT_OUT if counts.get(key)]
    if counts.get("seen"):
        what = ("are left out (exclude_seen=true)" if counts["seen_left_out"] else
                "are ranked as given (exclude_seen=true leaves them out)")
        said.append(f"{counts['seen']:,} candidates are in their user's or group's history and {what}")
    begin = f"candidates={counts.get('file', protocol['candidates'])}: "
    return [begin + sentence for sentence in said]


def measured_on(protocol: dict[str, Any]) -> str:
    """Return what the metrics are means over: `943 users`, or `1,450 rows of 290 groups`."""
    whom = str(protocol.get("audience", "users"))
    queries = f"{protocol['num_queries']:,} {whom}"
    return f"{protocol['num_rows']:,} rows of {queries}" if "num_rows" in protocol else queries
