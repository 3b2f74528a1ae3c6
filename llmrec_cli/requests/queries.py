"""Queries from a file, from the command line, or for all known users.

A query file has any of the columns query_id, user_id, history and text, and for groups group_id and members. history is
a list of item ids, oldest first; members is a list of user ids. In JSONL and Parquet these columns are lists. In CSV
and TSV they are JSON lists, `["50", "172"]`, or ids separated by '|', `50|172`; spaces around an id are removed. Ids
that contain a '|' need the JSON list.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.file_rules import FileRules, prepared_columns, rules_for
from llmrec_cli.data.groups import KnownGroups
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.readers.sources import is_path
from llmrec_cli.requests.files import Rows, read_rows
from llmrec_cli.settings.base import nearest
from llmrec_cli.settings.recommend import QuerySettings

QUERY_COLUMNS = ("query_id", "user_id", "history", "text", "group_id", "members")
_DEFAULT_ID = "query"
"""Id of a query without query_id, group_id or user_id; in a file, followed by the row number."""

# Ids written as numbers keep the digits they were written with.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


@dataclass(frozen=True)
class RawQueries:
    """Queries with ids from the input, not yet looked up in a model.

    Attributes
    ----------
    ids : object array (num_queries,) of str, unique
    user_ids, texts : object arrays (num_queries,) of str, "" if missing
    history : object array (H,) of item ids, the histories of all queries concatenated, each oldest first
    offsets : int64 (num_queries + 1,), start and end of each history
    group_ids : object array (num_queries,) of str, "" if missing
    members : object array of user ids, the members of all queries concatenated
    member_offsets : int64 (num_queries + 1,), start and end of the members of each query
    """

    ids: np.ndarray
    user_ids: np.ndarray
    texts: np.ndarray
    history: np.ndarray
    offsets: np.ndarray
    group_ids: np.ndarray
    members: np.ndarray
    member_offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, start: int, stop: int) -> "RawQueries":
        """Return the queries from `start` up to, not including, `stop`."""
        offsets, who = self.offsets[start:stop + 1], self.member_offsets[start:stop + 1]
        return RawQueries(self.ids[start:stop], self.user_ids[start:stop], self.texts[start:stop],
                     self.history[offsets[0]:offsets[-1]], offsets - offsets[0], self.group_ids[start:stop],
                     self.members[who[0]:who[-1]], who - who[0])


def raw_queries(user_ids: list[str], texts: list[str] | None = None, histories: list[list[str]] | None = None,
                ids: list[str] | None = None, group_ids: list[str] | None = None,
                members: list[list[str]] | None = None) -> RawQueries:
    """Build queries from lists, one entry per query; without `ids` a query has the id of its group or user."""
    size = len(user_ids)
    groups = group_ids or [""] * size
    names = ids or [group or user for group, user in zip(groups, user_ids, strict=True)]
    return RawQueries(_column(names), _column(user_ids), _column(texts or [""] * size), *_ragged(histories, size),
                      _column(groups), *_ragged(members, size))


def _ragged(lists: list[list[str]] | None, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate lists; return the entries and the offsets, int64 (size + 1,)."""
    lengths = [len(one) for one in lists] if lists else [0] * size
    return (_column([entry for one in lists or [] for entry in one]),
            np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64))


def _column(values: list[str]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


@dataclass(frozen=True)
class IdChecker:
    """Check of ids in queries with on_unknown=error: items of histories, members, and groups.

    A user_id is not checked: an unknown user gets a list as well.
    """

    items: Catalogue
    users: Catalogue
    groups: KnownGroups | None

    def check(self, column: str, ids: list[str], where: str, has_members: bool = False) -> None:
        """Raise DataError for the first id that the model does not know; `where` is the row or the setting."""
        catalogue = {"history": self.items, "members": self.users}.get(column)
        if column == "group_id":
            if has_members:
                return
            catalogue = None if self.groups is None else self.groups.entities
        what = {"history": "an item", "members": "a user", "group_id": "a group"}[column]
        for key in ids:
            if key and (catalogue is None or key not in catalogue.index):
                raise DataError(f"{where}: {column} '{key[:60]}' is not {what} of the model; repair it, or leave out "
                                f"on_unknown=error")


def read_queries(path: str, strict: IdChecker | None = None,
                 rules: Mapping[str, FileRules] | None = None) -> RawQueries:
    """Read the queries in the file of the setting `queries`; with `strict`, unknown ids are errors.

    The file may be a file of users as `prepare` read it, by `rules`: its other columns are then not used, which is said
    on stderr.
    """
    return queries_in(query_rows(path, "queries", QUERY_COLUMNS, rules), strict)


def query_rows(path: str, key: str, ours: tuple[str, ...], rules: Mapping[str, FileRules] | None = None) -> Rows:
    """Read the rows of the file of queries in the setting `key`; `ours` are the columns that it may have.

    Columns of a file of users as `prepare` read it are named on stderr as not used; any other column is refused.
    """
    rows = read_rows(path, key, ours, rules=rules_for(rules, "users", "interactions"), mapped=("user_id", "group_id"))
    rows = _with_history(rows, rules_for(rules, "interactions", "items"))
    others = [name for name in rows.columns if name not in ours]
    of_users = prepared_columns(rules_for(rules, "users"))
    if unknown := [name for name in others if name not in of_users]:
        raise DataError(f"{rows.paths[0]}: unknown column '{unknown[0]}'{nearest(unknown[0], ours)}; queries have "
                        f"{', '.join(ours)}; rename the column or leave it out")
    if others:
        _print(f"{rows.paths[0]}: columns not used in queries: {', '.join(others)}; users=<file> adds users whom the "
               f"model does not know, with their columns")
    return rows


def queries_in(rows: Rows, strict: IdChecker | None = None) -> RawQueries:
    """Return the rows of a file as queries; with `strict`, unknown ids are errors."""
    users, groups, own = rows.texts("user_id"), rows.texts("group_id"), rows.texts("query_id")
    lists = {name: id_lists(rows, name) for name in ("history", "members")}
    if strict is not None:
        for row in range(len(rows)):
            for column, row_ids in (("history", lists["history"][row]), ("members", lists["members"][row]),
                                    ("group_id", [groups[row]])):
                strict.check(column, row_ids, rows.where(row), bool(lists["members"][row]))
    for row, user in enumerate(users):
        if user and (groups[row] or lists["members"][row]):
            raise DataError(f"{rows.where(row)}: user_id '{user[:60]}' with group_id or members: a query is for a user "
                            f"or for a group; write two rows")
    ids = [query or group or user or f"{_DEFAULT_ID}{n + 1}"
           for n, (query, group, user) in enumerate(zip(own, groups, users, strict=True))]
    column = next((name for name in ("query_id", "group_id") if name in rows.columns), "user_id")
    rows.refuse_repeated(ids, column, "give each query a query_id of its own")
    return raw_queries(users, rows.texts("text"), lists["history"], ids, groups, lists["members"])


def id_lists(rows: Rows, column: str) -> list[list[str]]:
    """Return the list of ids that each row has in a column, empty for none."""
    return [read_history(text, rows.where(row), column) for row, text in enumerate(rows.texts(column))]


def _with_history(rows: Rows, rules: Sequence[FileRules]) -> Rows:
    """Return the rows with the column of item ids, under its name in the prepared files, as their history."""
    names = [one.columns.get("item_id", "item_id") for one in rules]
    name = next((name for name in names if name in rows.columns and not is_path(name)), None)
    if name is None or "history" in rows.columns:
        return rows
    _print(f"{rows.paths[0]}: the column '{name}' is read as history, the items of each query")
    return replace(rows, columns={"history" if key == name else key: values for key, values in rows.columns.items()})


def _print(sentence: str) -> None:
    # Loaded already by the reader of the file, and slow to load for a query on the command line.
    from llmrec_cli.ingest.output.row_accounting import print_sentence

    print_sentence(sentence)


def inline_query(query: QuerySettings, strict: IdChecker | None = None) -> RawQueries:
    """Return the query of the settings `query.*`; with `strict`, unknown ids are errors."""
    user, group = query.user_id or "", query.group_id or ""
    history, members = ([key for key in values or [] if key] for values in (query.history, query.members))
    for key, values in (("query_id", [query.query_id or ""]), ("user_id", [user]), ("history", history),
                        ("text", [query.text or ""]), ("group_id", [group]), ("members", members)):
        if any("\ud800" <= c <= "\udfff" for value in values for c in value):
            raise ConfigError(f"query.{key}: is not UTF-8; set the terminal to UTF-8, or use a file with queries=")
    if strict is not None:
        for column, values in (("history", history), ("members", members), ("group_id", [group])):
            strict.check(column, values, f"query.{column}", bool(members))
    return raw_queries([user], [query.text or ""], [history], [query.query_id or group or user or _DEFAULT_ID], [group],
                       [members])


def read_history(text: str, where: str, column: str = "history") -> list[str]:
    """Parse ids from a JSON list or a text with '|'; `where` and `column` are for errors."""
    if not (text.startswith("[") and text.endswith("]")):
        return [part for piece in text.split("|") if (part := piece.strip())]
    try:
        ids = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: {column} '{text[:60]}' is not a JSON list ({error}); write [\"50\", \"172\"], or "
                        f"50|172") from error
    wrong = [item for item in ids if not isinstance(item, str)]
    if wrong:
        raise DataError(f"{where}: {column} has {json.dumps(wrong[0])} where an id should be; it is a list of ids, "
                        f"each in quotes or a number")
    return [item for item in ids if item]

