"""Queries from a file, from the command line, or for everybody the model knows.

A query file has any of the columns query_id, user_id, history and text. A history is a list of item ids, oldest first:
a list in JSONL and Parquet; in CSV and TSV a JSON list, `["50", "172"]`, or ids divided by '|', `50|172`, with space
around them left out. Ids that contain a '|' need the JSON list.
"""

import json

from llmrec_cli.data.asked import Asked, asked
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.beside import Rows, read_rows
from llmrec_cli.settings.base import nearest
from llmrec_cli.settings.stages import QuerySettings

COLUMNS = ("query_id", "user_id", "history", "text")
GROUP_COLUMNS = ("group_id", "members")
UNNAMED = "query"
"""What a query without an id of its own or its user's is called, with its row's number in a file."""

# Ids written as numbers keep the digits they were written with.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


def read_queries(named: str) -> Asked:
    """Return the queries in the file that the setting `queries` names."""
    rows = read_rows(named, "queries", (*COLUMNS, *GROUP_COLUMNS))
    unknown = [name for name in rows.columns if name not in (*COLUMNS, *GROUP_COLUMNS)]
    if unknown:
        raise DataError(f"{rows.paths[0]}: unknown column '{unknown[0]}'{nearest(unknown[0], COLUMNS)}; queries have "
                        f"{', '.join(COLUMNS)}; rename the column or leave it out")
    _refuse_groups(rows)
    users, own = rows.texts("user_id"), rows.texts("query_id")
    ids = [query or user or f"{UNNAMED}{n + 1}" for n, (query, user) in enumerate(zip(own, users, strict=True))]
    column = "query_id" if "query_id" in rows.columns else "user_id"
    rows.refuse_repeated(ids, column, "give each query a query_id of its own")
    histories = [read_history(text, rows.where(row)) for row, text in enumerate(rows.texts("history"))]
    return asked(users, rows.texts("text"), histories, ids)


def inline_query(query: QuerySettings) -> Asked:
    """Return the one query that `query.user_id`, `query.history` and `query.text` describe."""
    user = query.user_id or ""
    history = [item for item in query.history or [] if item]
    for key, values in (("query_id", [query.query_id or ""]), ("user_id", [user]), ("history", history),
                        ("text", [query.text or ""])):
        if any("\ud800" <= c <= "\udfff" for value in values for c in value):
            raise ConfigError(f"query.{key}: is not UTF-8; set the terminal to UTF-8, or name a file by queries=")
    return asked([user], [query.text or ""], [history], [query.query_id or user or UNNAMED])


def read_history(text: str, where: str) -> list[str]:
    """Return the item ids in `text`, a JSON list or ids divided by '|'; `where` names the row in an error."""
    if not (text.startswith("[") and text.endswith("]")):
        return [part for piece in text.split("|") if (part := piece.strip())]
    try:
        found = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: history '{text[:60]}' is not a JSON list ({error}); write [\"50\", \"172\"], or "
                        f"50|172") from error
    wrong = [item for item in found if not isinstance(item, str)]
    if wrong:
        raise DataError(f"{where}: history has {json.dumps(wrong[0])} where an item id should be; a history is a list "
                        f"of item ids")
    return [item for item in found if item]


def _refuse_groups(rows: Rows) -> None:
    for column in GROUP_COLUMNS:
        for row, value in enumerate(rows.columns.get(column, [])):
            if value:
                raise ConfigError(f"{rows.where(row)}: {column} '{value[:60]}': recommending to groups needs a group "
                                  f"head, which this version does not have; ask for the members one by one")
