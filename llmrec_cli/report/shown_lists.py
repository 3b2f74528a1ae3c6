"""Lists of recommendations for people: tables on a terminal, the same without colours where there is none."""

import sys
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llmrec_cli.data.entities import Entities
from llmrec_cli.report.terminal import printable
from llmrec_cli.requests.answers import Answers

LATEST = 3
"""Titles of the newest history that are shown."""
MOST_MEMBERS = 8
"""Members of a group that are named."""
WIDTH = 10_000
"""Where there is no terminal to be as wide as, so that nothing is cut."""
MADE_FROM = {"model": "from the history the model knows", "history": "from the history given",
             "group": "from the members and what the group did together", "text": "from the words given",
             "popularity": "what most users have: nothing is known to go by"}


def show_lists(answers: Answers, items: Entities) -> None:
    """Print a table per query to stdout, without control codes if that is not a terminal."""
    terminal = sys.stdout is not None and sys.stdout.isatty()
    console = Console(force_terminal=terminal, width=None if terminal else WIDTH, emoji=False, highlight=False)
    # Captured, for rich would turn a reader who has left into an exit of its own.
    with console.capture() as captured:
        for query in range(len(answers.sources)):
            console.print(_heading(answers, query, items))
            console.print(_table(answers, query, items))
            console.print()
    print(captured.get(), end="")


def _table(answers: Answers, query: int, items: Entities) -> Table | str:
    places = np.flatnonzero(answers.lists.items_QK[query] >= 0)
    if not len(places):
        return "  no item is left to recommend"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name, justify in (("#", "right"), ("title", "left"), ("item_id", "left"), ("score", "right")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    if answers.reasons is not None:
        table.add_column("because", overflow="fold")
    # A count is a whole number, a score is not.
    digits = 0 if answers.sources[query] == "popularity" else 3
    for place in places:
        item = answers.lists.items_QK[query, place]
        table.add_row(str(place + 1), _plain(items.titles[item]), _plain(items.ids[item]),
                      f"{answers.lists.scores_QK[query, place]:.{digits}f}",
                      *([] if answers.reasons is None else [_because(answers.reasons[query][place])]))
    return table


def _because(reasons: list[dict[str, Any]]) -> str:
    """Return the reasons of a place, a line each: what members add, those who add most first, then the others."""
    added = sorted((one for one in reasons if one["kind"] in ("member", "history")), key=lambda one: -one["amount"])
    others = [one for one in reasons if one["kind"] not in ("member", "history")]
    more = f", {len(added) - MOST_MEMBERS} more" if len(added) > MOST_MEMBERS else ""
    parts = [", ".join(_plain(one["text"]) for one in added[:MOST_MEMBERS]) + more] if added else []
    return "\n".join([*parts, *(_plain(one["text"]) for one in others)]) or "–"


def _heading(answers: Answers, query: int, items: Entities) -> str:
    """Return who is asking, in what words, with what history, and what the list was made from."""
    queries, source = answers.queries, str(answers.sources[query])
    name, user, text = queries.ids[query], queries.user_ids[query], queries.texts[query]
    history = queries.history[[query]].indices
    together = queries.groups
    asks = [_plain(name)] if name not in (user, "query") else []
    asks += [f"user {_plain(user)}"] if user else []
    asks += [f"“{_plain(text)}”"] if text else []
    if together is not None and together.is_group[query]:
        who = [_plain(together.members.ids[member]) for member in together.rows[[query]].indices]
        more = f" and {len(who) - MOST_MEMBERS} more" if len(who) > MOST_MEMBERS else ""
        asks += [f"group of {', '.join(who[:MOST_MEMBERS])}{more}" if who else "a group of nobody that is known"]
    made_from = MADE_FROM[source] + (", and from the words" if answers.with_text[query] else "")
    lines = [f"[bold]{' · '.join(asks) or 'a new user'}[/bold]", f"  [dim]{source}:[/dim] {made_from}"]
    if len(history):
        newest = " · ".join(_plain(items.titles[item]) for item in history[::-1][:LATEST])
        more = f" and {len(history) - LATEST:,} more" if len(history) > LATEST else ""
        lines.append(f"  [dim]after:[/dim] {newest}{more}")
    return "\n".join(lines)


def _plain(text: str) -> str:
    return escape(printable(str(text)))
