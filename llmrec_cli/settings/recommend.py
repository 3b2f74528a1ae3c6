"""Settings of `recommend`: queries, histories, candidates and output."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.run_subject import RunSubject
from llmrec_cli.settings.base import Settings
from llmrec_cli.settings.command import FIT, LATEST, LONGEST_LIST, CacheSettings

_SUFFIXES = (".parquet", ".jsonl", ".csv")


@dataclass
class ListOutputSettings(Settings):
    """The output file of recommendation lists."""

    shorthand: ClassVar[str] = "path"
    """output=<file> means output.path=<file>."""
    path: str = ""
    """Output file (.parquet, .jsonl, .csv); empty prints the lists."""
    escape_formulas: bool = False
    """CSV only: put ' before ids that a spreadsheet would run as a formula (first character = + - @, a tab or a line
    end), as is always done for titles. To undo it, remove one ' from each value that starts with one or more ' followed
    by such a character."""

    def all_problems(self) -> Iterator[str]:
        """Yield problems under the keys of the command line, `output=` for `output.path=`."""
        if self.path and not self.path.endswith(_SUFFIXES):
            yield f"output={self.path}: the name must end in .parquet, .jsonl or .csv"
        elif self.escape_formulas and not self.path.endswith(".csv"):
            where = f"on {self.path}" if self.path else "without output="
            yield (f"output.escape_formulas=true: has no effect {where}, since only CSV files are opened in a "
                   f"spreadsheet directly; leave it out, or set output=<file>.csv")


@dataclass
class QuerySettings(Settings):
    """One query given inline."""

    opaque: ClassVar[bool] = True

    query_id: str | None = None
    """Name of the query in the output; null for its group_id or user_id, else `query`."""
    user_id: str | None = None
    """Id of a user, known to the model or new."""
    history: list[str] | None = None
    """Ids of items in the user's history, for example [50,172,181]."""
    text: str | None = None
    """Description of what the user likes, for example 'slow science fiction'."""
    group_id: str | None = None
    """Id of a group known to the model."""
    members: list[str] | None = None
    """Member user ids of an ad-hoc group; with group_id, the members present this time."""


@dataclass
class RecommendConfig(CacheSettings):
    """Recommendation lists for queries."""

    main_input: ClassVar[str] = "queries=all"
    model: str = ""
    """A finetune run directory or model folder; empty for runs/finetune/latest."""
    queries: str | None = None
    """all | a file: queries to answer. all: every user with interactions, or every group if the model is for groups. A
    file has a query per row (JSONL, CSV, TSV, Parquet), in columns such as user_id, history or text
    (docs/recommend.md)."""
    query: QuerySettings = field(default_factory=QuerySettings)
    items: str = ""
    """File of new items, unknown to the model, to recommend as well: item_id and the item's columns."""
    users: str = ""
    """File of new users, unknown to the model: user_id and the user's columns."""
    interactions: str = ""
    """File of interactions that the prepared data does not contain yet, for example today's: user_id, item_id, and
    optionally value, timestamp and event. They become the newest of each user's history."""
    history: str | None = None
    """latest | fit: history of known users and groups. latest: all interactions that the model's prepared data contains
    now, and those in interactions=; if the data has not changed since the fit, its test split is left out. fit: the
    interactions that the model was fitted on. null: latest, or fit with a message if the data is missing."""
    candidates: str = ""
    """File of item ids; only these are recommended. With a column query_id, user_id or group_id each query has its own
    candidates. Empty: all items."""
    on_unknown: str = "ignore"
    """ignore | error: rule for ids in candidates, histories, members and interactions that the model does not know, and
    for ids in items= that it already knows. ignore: count them and use the rest. error: stop at the first."""
    delisted: str = "drop"
    """drop | keep: rule for items that interactions name but the item files of the prepared data do not contain, since
    they were removed or are not yet listed. drop leaves them out of all lists."""
    k: int = 10
    """Length of the lists, at least 1."""
    exclude_seen: bool = True
    """Leave out items in the history of the query."""
    reasons: bool = False
    """Explain every recommendation: contributions of each group member and of the group's history, members who would
    rank the item low on their own, and links in the knowledge graph. The head scores again without each contributor, so
    the run takes several times longer."""
    output: ListOutputSettings = field(default_factory=ListOutputSettings)
    """Output file of the lists (.parquet, .jsonl, .csv); empty prints them."""
    block_size: int = 1024
    """Queries scored at a time, at least 1."""

    @property
    def only_prints(self) -> bool:
        return not self.output.path and not self.run_dir

    @property
    def subject(self) -> RunSubject:
        """The model."""
        return RunSubject(models=[self.model])

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("k", least=1, most=LONGEST_LIST)
        yield from self.check("block_size", least=1)
        inline = [f for f in ("user_id", "history", "text", "group_id", "members", "query_id")
                  if getattr(self.query, f) is not None]
        if "user_id" in inline and ("group_id" in inline or "members" in inline):
            yield (f"query.user_id={self.query.user_id}: cannot be combined with query.group_id or query.members; a "
                   f"query is for a user or for a group")
        if self.queries is not None and inline:
            yield f"queries={self.queries}: cannot be combined with query.{inline[0]}"
        if self.queries is None and inline in ([], ["query_id"]):
            yield ("queries: missing; set queries=all, queries=<file>, query.user_id=<id>, "
                   "query.history=[<item>,<item>], query.text='<what the user likes>', query.group_id=<id> or "
                   "query.members=[<user>,<user>]")
        yield from self.check("on_unknown", among=("ignore", "error"))
        yield from self.check("delisted", among=("drop", "keep"))
        if self.history is not None:
            yield from self.check("history", among=(LATEST, FIT))
        if self.history == FIT and self.interactions:
            yield (f"interactions={self.interactions}: has no effect with history=fit, which uses only the "
                   f"interactions that the model was fitted on; leave out one of the two")
        yield from self.output.all_problems()
