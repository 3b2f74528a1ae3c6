"""Recommendation lists printed to stdout: folded tables on a terminal, plain text elsewhere."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.plain_text import columns, printable
from llmrec_cli.requests.answers import Answers

if TYPE_CHECKING:
    from rich.table import Table

_NUM_LATEST = 3
"""Number of the newest history items in a heading."""
_MAX_MEMBERS = 8
"""Maximum number of members named per group."""
_NOTHING = "  no items left to recommend"
_SOURCES = {"model": "from the known history of the user or group",
            "history": "from a history given in the query, or of a new user",
            "group": "from the members and the group's joint interactions", "text": "from the query text",
            "popularity": "the most popular items, because no history, profile or text can be used"}


def show_lists(answers: Answers, items: Catalogue) -> None:
    """Print a table per query to stdout, with control codes only on a terminal."""
    if sys.stdout is not None and sys.stdout.isatty():
        _show_on_terminal(answers, items)
        return
    for query in range(len(answers.sources)):
        name, source, meaning, latest = _heading(answers, query, items)
        rows = list(_rows(answers, query, items))
        table = columns(_header(answers), [[cell.replace("\n", "; ") for cell in row] for row in rows], align="rllrl")
        print("\n".join([name, f"  {source}: {meaning}", *([f"  latest items: {latest}"] if latest else []),
                         table if rows else _NOTHING, ""]))


def _show_on_terminal(answers: Answers, items: Catalogue) -> None:
    # Only here: rich takes a tenth of a second to import.
    from rich.console import Console
    from rich.markup import escape

    console = Console(force_terminal=True, emoji=False, highlight=False)
    # Captured, since rich handles a closed pipe with an exit of its own.
    with console.capture() as captured:
        for query in range(len(answers.sources)):
            name, source, meaning, latest = map(escape, _heading(answers, query, items))
            console.print(f"[bold]{name}[/bold]\n  [dim]{source}:[/dim] {meaning}")
            if latest:
                console.print(f"  [dim]latest items:[/dim] {latest}")
            rows = list(_rows(answers, query, items))
            console.print(_folded_table(_header(answers), rows) if rows else _NOTHING)
            console.print()
    print(captured.get(), end="")


def _folded_table(header: list[str], rows: list[list[str]]) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in header:
        table.add_column(name, justify="right" if name in ("#", "score") else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _header(answers: Answers) -> list[str]:
    return ["#", "title", "item_id", "score", *([] if answers.reasons is None else ["because"])]


def _rows(answers: Answers, query: int, items: Catalogue) -> Iterator[list[str]]:
    """Yield the cells of each place; reasons have a line each."""
    # Popularity scores are counts.
    digits = 0 if answers.sources[query] == "popularity" else 3
    for place in np.flatnonzero(answers.lists.items_QK[query] >= 0):
        item = answers.lists.items_QK[query, place]
        yield [str(place + 1), printable(str(items.titles[item])), printable(str(items.ids[item])),
               f"{answers.lists.scores_QK[query, place]:.{digits}f}",
               *([] if answers.reasons is None else [_because(answers.reasons[query][place])])]


def _because(reasons: list[dict[str, Any]]) -> str:
    """Return the reasons of a list place, one per line: members' contributions, largest first, then the others."""
    contributions = sorted((one for one in reasons if one["kind"] in ("member", "history")),
                           key=lambda one: -one["amount"])
    others = [one for one in reasons if one["kind"] not in ("member", "history")]
    more = f", {len(contributions) - _MAX_MEMBERS} more" if len(contributions) > _MAX_MEMBERS else ""
    parts = [", ".join(printable(one["text"]) for one in contributions[:_MAX_MEMBERS]) + more] if contributions else []
    return "\n".join([*parts, *(printable(one["text"]) for one in others)]) or "–"


def _heading(answers: Answers, query: int, items: Catalogue) -> tuple[str, str, str, str]:
    """Return the query, the source of its list, the meaning of the source, and the newest history."""
    queries, source = answers.queries, str(answers.sources[query])
    name, user, text = queries.ids[query], queries.user_ids[query], queries.texts[query]
    history = queries.history[[query]].indices
    together = queries.groups
    parts = [_text(name)] if name not in (user, "query") else []
    parts += [f"user {_text(user)}"] if user else []
    parts += [f"“{_text(text)}”"] if text else []
    if together is not None and together.is_group[query]:
        members = [_text(together.members.ids[member]) for member in together.rows[[query]].indices]
        more = f" and {len(members) - _MAX_MEMBERS} more" if len(members) > _MAX_MEMBERS else ""
        parts += [f"group of {', '.join(members[:_MAX_MEMBERS])}{more}" if members else "a group without known members"]
    made_from = _SOURCES[source] + (", and from the query text" if answers.with_text[query] else "")
    latest = ""
    if len(history):
        newest = " · ".join(_text(items.titles[item]) for item in history[::-1][:_NUM_LATEST])
        latest = newest + (f" and {len(history) - _NUM_LATEST:,} more" if len(history) > _NUM_LATEST else "")
    return " · ".join(parts) or "a new user", source, made_from, latest


def _text(value: Any) -> str:
    return printable(str(value))
