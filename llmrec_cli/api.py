"""llmrec from Python: the commands as functions, with tables of pandas in and out (docs/python.md).

Each function composes the settings of its command, runs the same stage and writes the same run directory in the current
folder. Settings are keyword arguments with the keys of the command line, `seed=2` or `**{"head.l2": 300}`. Their values
are data: texts are literal, and a table stands for a file with its rows. Errors are those of `llmrec_cli.errors`.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from llmrec_cli import distributed as processes
from llmrec_cli import plugins
from llmrec_cli.config import compose
from llmrec_cli.errors import ConfigError, DataError, is_out_of_memory, out_of_memory
from llmrec_cli.stage_runs import run_stage

if TYPE_CHECKING:
    import pandas as pd

PathLike: TypeAlias = "str | os.PathLike[str]"
Table: TypeAlias = "pd.DataFrame | str | os.PathLike[str]"
"""Rows: a DataFrame, or the path of a file that the commands read."""
Ids: TypeAlias = "str | int | Sequence[str | int] | pd.Series"


_WORDS = ("experiment", "settings")
"""Settings that name other settings; they are below the others, as on the command line."""


@dataclass(frozen=True)
class PreparedData:
    """Prepared data: a folder with Parquet files, which `prepare` writes and `finetune` reads.

    Attributes
    ----------
    folder : absolute path; `interactions.parquet`, `items.parquet`, `audit.html` and others are in it
    """

    folder: Path

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def manifest(self) -> dict[str, Any]:
        """The content of manifest.json: name, fingerprint, counts, split."""
        return _read_json(self.folder / "manifest.json")

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of users, items, and interactions in each split."""
        return dict(self.manifest["counts"])


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes
    ----------
    folder : run directory, absolute
    metrics : a row for each model and metric with columns model, metric, mean, low and high; low and high bound the 95%
        confidence interval and are missing for metrics of all lists together; baselines come last
    content : the content of metrics.json, with slices and comparisons
    """

    folder: Path
    metrics: "pd.DataFrame"
    content: dict[str, Any]

    @property
    def report(self) -> Path:
        """The report, a page for a browser."""
        return self.folder / "report.html"


@dataclass(frozen=True)
class Recommender:
    """A trained model: a run directory of `finetune` or a model folder.

    Attributes
    ----------
    folder : absolute path
    """

    folder: Path

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def manifest(self) -> dict[str, Any]:
        """The content of the model's manifest.json: head, data, validation metrics."""
        from llmrec_cli.heads.artifact import model_folder, read_facts

        return read_facts(model_folder(str(self.folder)))

    def recommend(self, users: "Ids | None" = None, history: "Sequence[Any] | None" = None,
                  text: str | Sequence[str] | None = None, k: int = 10, *, queries: "Table | None" = None,
                  new_users: "Table | None" = None, **settings: Any) -> "pd.DataFrame":
        """Return recommendation lists, with columns query_id, user_id, rank, item_id, score, source and title.

        Without users, history, text and queries, every user with interactions gets a list.

        Parameters
        ----------
        users : id of a user, or of several
        history : item ids of one query, oldest first, or a list of item ids for each query
        text : description of what a user likes, or one for each query
        k : length of the lists
        queries : queries with other columns, such as group_id and members (docs/recommend.md), instead of the three
            above
        new_users : users that the model does not know; the setting `users` of the command line
        settings : other settings of `llmrec recommend`, such as items, interactions, candidates and reasons
        """
        if "output" in settings:
            raise ConfigError("output: recommend() returns the lists; write them with to_parquet or to_csv, or use "
                              "`llmrec recommend output=<file>`")
        table = queries
        if any(given is not None for given in (users, history, text)):
            if queries is not None:
                raise ConfigError("queries: cannot be combined with users, history or text; add them as the columns "
                                  "user_id, history and text of queries")
            table = query_table(users, history, text)
        own = {"model": self, "queries": "all" if table is None else table, "k": k,
               **({} if new_users is None else {"users": new_users})}
        import pandas as pd

        from llmrec_cli.atomic_files import temporary_folder

        with temporary_folder() as folder:
            lists = folder / "lists.parquet"
            _run("recommend", {**own, "output": lists}, settings)
            return pd.read_parquet(lists)

    def evaluate(self, **settings: Any) -> Evaluation:
        """Measure the model on the test split and write the report; `models=[a, b]` compares recommenders."""
        folder = _run("evaluate", {} if "models" in settings else {"model": self}, settings)
        content = _read_json(folder / "metrics.json")
        return Evaluation(folder, _metrics_table(str(self.manifest["head"]), content), content)


def prepare(interactions: "Table | Sequence[PathLike] | None" = None, items: "Table | None" = None,
            users: "Table | None" = None, **settings: Any) -> PreparedData:
    """Check, filter and split interactions, and return the prepared data.

    Parameters
    ----------
    interactions : columns user_id and item_id, and optionally value and timestamp; other names with
        `**{"dataset.columns.user_id": "uid"}`
    items, users : columns item_id or user_id, and any others
    settings : other settings of `llmrec prepare`; instead of interactions, `dataset="movielens_100k"` names a public
        data set
    """
    tables = {"interactions": interactions, "items": items, "users": users}
    own = {f"dataset.{name}": table for name, table in tables.items() if table is not None}
    folder = _run("prepare", own, settings)
    return PreparedData(Path(_read_json(folder / "manifest.json")["prepared"]).resolve())


def finetune(prepared: "PreparedData | PathLike", head: str | None = "ease", **settings: Any) -> Recommender:
    """Train a recommender on prepared data and return it.

    Parameters
    ----------
    prepared : prepared data, or its folder
    head : model; docs/heads.md helps to choose. None: that of settings= or experiment=, else of `llmrec finetune`
    settings : other settings of `llmrec finetune`, such as encoder, peft and seed
    """
    if "resume" in settings:
        raise ConfigError(f"resume={settings['resume']}: run `llmrec finetune resume=<run>` in a terminal, then "
                          f"load(<run>)")
    own = {"prepared": prepared} | ({} if head is None else {"head": head})
    return Recommender(_run("finetune", own, settings))


def load(path: PathLike = "runs/finetune/latest") -> Recommender:
    """Return the recommender in a run directory of `finetune`, or in a model folder.

    A link such as runs/finetune/latest is followed once: later runs do not change the recommender.
    """
    from llmrec_cli.heads.artifact import model_folder, read_facts

    read_facts(model_folder(os.fspath(path)))
    return Recommender(Path(path).resolve())


def query_table(users: "Ids | None", history: "Sequence[Any] | None",
                text: str | Sequence[str] | None) -> "pd.DataFrame":
    """Return a table of queries, a row for each; raise ConfigError if the numbers of users, histories and texts
    differ."""
    import pandas as pd

    columns: dict[str, list[Any]] = {}
    for name, given in (("user_id", users), ("history", history), ("text", text)):
        if given is None:
            continue
        if isinstance(given, pd.DataFrame):
            raise ConfigError(f"{name.removesuffix('_id')}: is a table; give it as queries=, with columns such as "
                              f"user_id, history and text")
        columns[name] = [given] if isinstance(given, str) or not hasattr(given, "__iter__") else list(given)
    if "user_id" in columns:
        columns["user_id"] = _as_ids(columns["user_id"])
    if "history" in columns:
        several = any(_is_list(part) for part in columns["history"])
        columns["history"] = [_as_ids(ids) for ids in (columns["history"] if several else [columns["history"]])]
    if len(sizes := {name: len(values) for name, values in columns.items()}) > 1 and len(set(sizes.values())) > 1:
        raise ConfigError(f"recommend: {', '.join(f'{size} of {name}' for name, size in sizes.items())}; give one of "
                          f"each for every query")
    if not next(iter(sizes.values())):
        raise ConfigError(f"recommend: {next(iter(sizes))} has no entry; leave it out to make a list for every user")
    return pd.DataFrame(columns, dtype=object)


def _as_ids(ids: Iterable[Any]) -> list[Any]:
    """Return ids with whole numbers as texts, so that a list may hold both."""
    return [str(key) if isinstance(key, Integral) else key for key in ids]


def _is_list(value: Any) -> bool:
    return hasattr(value, "__iter__") and not isinstance(value, str)


def _run(command: str, own: Mapping[str, Any], settings: Mapping[str, Any]) -> Path:
    """Run a command and return its run directory. `own` are the settings that the caller's arguments stand for."""
    if processes.count() > 1:
        raise ConfigError(f"{command}: the functions for Python run in one process; start several with torchrun -m "
                          f"llmrec_cli {command}")
    if repeated := [key for key in settings if key in own]:
        raise ConfigError([f"{key}: is given by an argument already; leave it out of the settings" for key in repeated])
    values = {**own, **settings}
    for package in _names(values.pop("plugins", [])):
        plugins.load(package)
    words = [f"{key}={os.fspath(values.pop(key))}" for key in _WORDS if key in values]
    with _tables_as_files(values) as plain:
        try:
            return run_stage(command, compose(command, words, python_values=plain)).resolve()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise out_of_memory(command, error) from error


def _names(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


@contextmanager
def _tables_as_files(values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the settings with each DataFrame replaced by a temporary Parquet file."""
    from llmrec_cli.atomic_files import temporary_folder

    with temporary_folder() as folder:
        yield {key: _write_table(key, value, folder) if hasattr(value, "to_parquet") else value
               for key, value in values.items()}


def _write_table(key: str, table: "pd.DataFrame", folder: Path) -> Path:
    """Write a DataFrame as a Parquet file; named levels of its index become columns."""
    import pyarrow as pa

    path = folder / f"{key.rpartition('.')[2]}.parquet"
    columns = table.reset_index() if any(name is not None for name in table.index.names) else table
    nameless = [name for name in columns.columns if not isinstance(name, str)]
    if nameless:
        raise DataError(f"{key}: the column {nameless[0]!r} has no text as its name; rename the columns")
    try:
        columns.to_parquet(path, index=False)
    except (pa.ArrowException, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{key}: the table cannot be written as Parquet ({reason}); give each column a name of its own "
                        f"and values of one type") from error
    return path


def _metrics_table(name: str, content: Mapping[str, Any]) -> "pd.DataFrame":
    """Return the metrics of metrics.json, a row for each model and metric; `name` is that of the only model."""
    import pandas as pd

    models = {model: entry["metrics"] for model, entry in content.get("models", {}).items()}
    rows = [(model, metric, entry["mean"], *(entry.get("ci95") or (None, None)))
            for model, metrics in [*(models or {name: content["metrics"]}).items(), *content["baselines"].items()]
            for metric, entry in metrics.items()]
    return pd.DataFrame(rows, columns=["model", "metric", "mean", "low", "high"]).astype(
        {"mean": float, "low": float, "high": float})


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_bytes())
    return content
