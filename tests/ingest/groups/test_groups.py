"""Groups: members, interactions, their split and numbering, and notes on groups that do not fit."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ibis.backends import BaseBackend
from ibis.expr.types import Table

from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.engine import collect, engine
from llmrec_cli.ingest.groups.groups import Groups, read_groups
from llmrec_cli.ingest.groups.splits import divide_groups
from llmrec_cli.ingest.groups.tables import notes, number_groups, warnings, write_groups
from llmrec_cli.ingest.interactions.splits import UserSplit
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.readers.sources import file_sources
from llmrec_cli.settings.dataset import FilesSettings
from llmrec_cli.settings.engine import DuckDbSettings
from llmrec_cli.settings.split import (
    ColdItemsSplitSettings,
    GivenSettings,
    LeaveLastOutSettings,
    NoSplitSettings,
    RandomSettings,
    SplitSettings,
    TemporalSettings,
)
from tests.ingest.preparing import write

MEMBERS = "group_id,user_id\nduo,u\nduo,v\nsolo,u\n"


@dataclass
class Read:
    """Groups read from files, with the inputs needed to write them."""

    connection: BaseBackend
    groups: Groups
    folder: Path
    account: Account = field(default_factory=Account)

    def divided(self, settings: SplitSettings, cutoff: dict[str, int] | None = None,
                users_unit: str = "", **units: str) -> dict[tuple[str, str], str]:
        """Return (group_id, item_id) -> split."""
        assert self.groups.rows is not None
        users = UserSplit(cutoff or {}, users_unit)
        rows, _ = divide_groups(self.groups.rows, settings, self.groups.unit, users, **units)
        return {(r["group_id"], r["item_id"]): r["split"] for r in collect(rows).to_pylist()}

    def written(self, users: str = "uv", items: str = "abcdef", split: SplitSettings | None = None,
                before: dict[str, list[Any]] | None = None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Write the groups against catalogues whose ids are letters; return the rows of both files."""
        self.folder.mkdir(exist_ok=True)
        groups = self.groups
        if groups.rows is not None:
            groups = replace(groups,
                             rows=divide_groups(groups.rows, split or NoSplitSettings(), groups.unit, UserSplit({}))[0])
        tables = [self.table({kind: range(len(ids)), f"{kind}_id": list(ids)})
                  for kind, ids in (("user", users), ("item", items))]
        expected_ = None if before is None else self.table(before)
        numbered = number_groups(groups, tables[0], tables[1], self.account, expected_)
        write_groups(self.folder, numbered)
        self.account.notes += notes(self.account.counts)
        self.account.warnings += warnings(self.account.counts)
        file = self.folder / "group_interactions.parquet"
        return (pq.read_table(self.folder / "groups.parquet").to_pylist(),
                pq.read_table(file).to_pylist() if file.exists() else [])

    def table(self, columns: dict[str, Any]) -> Table:
        """Return the columns as a table of the engine."""
        return self.connection.create_table(ibis.util.gen_name("test"), pa.table(columns), temp=True)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[BaseBackend]:
    """Return a running DuckDB."""
    (tmp_path / "engine").mkdir()
    with engine(DuckDbSettings(threads=1), tmp_path / "engine") as result:
        yield result


def read(connection: BaseBackend, folder: Path, members: str = MEMBERS, rows: str = "", **settings: Any) -> Read:
    """Write the files and read the groups in them."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, "user_id,item_id\nu,a\n")
    write(folder, members, "members.csv")
    if rows:
        write(folder, rows, "together.csv")
        settings["group_interactions"] = "together.csv"
    files = FilesSettings(path=str(folder), interactions="clicks.csv", groups="members.csv", **settings)
    account = Account()
    groups = read_groups(connection, file_sources(files, "none", folder), files, folder, account)
    assert groups is not None
    return Read(connection, groups, folder / "out", account)


@pytest.mark.audited
def test_repeated_members_are_merged_and_groups_of_one_kept(connection: BaseBackend, tmp_path: Path) -> None:
    result = read(connection, tmp_path, MEMBERS + "duo,v\n")
    members, rows = result.written()
    assert [(m["group"], m["group_id"], m["user"], m["user_id"]) for m in members] == \
        [(0, "duo", 0, "u"), (0, "duo", 1, "v"), (1, "solo", 0, "u")]
    assert rows == []
    counts = result.account.counts
    assert [counts[k] for k in ("groups", "group_members", "groups_of_one", "group_members_repeated")] == [2, 3, 1, 1]
    assert result.account.notes == ["2 groups (0 standing, with training interactions, and 2 occasional) with 3 "
                                   "memberships of 2 users",
                                   "1 rows of dataset.groups repeat a member of a group; each member counts once",
                                   "1 groups have one member"]


def test_without_a_file_of_members_there_are_no_groups(connection: BaseBackend, tmp_path: Path) -> None:
    write(tmp_path, "user_id,item_id\nu,a\n")
    files = FilesSettings(path=str(tmp_path), interactions="clicks.csv")
    assert read_groups(connection, file_sources(files, "none", tmp_path), files, tmp_path, Account()) is None


def test_bad_rows_are_rejects_with_the_column_they_are_bad_in(connection: BaseBackend, tmp_path: Path) -> None:
    result = read(connection, tmp_path, MEMBERS + ",v\nduo,\n",
                 "group_id,item_id,value,timestamp\nduo,a,1,5\n,b,1,6\nduo,c,much,7\nduo,d,1,soon\n")
    rejects = [[(r.line, r.column, r.reason) for r in part.rejects] for part in result.groups.staged]
    assert rejects[0] == [(5, "group_id", "is empty"), (6, "user_id", "is empty")]
    assert rejects[1] == [(3, "group_id", "is empty"), (4, "value", "'much' is not a number"),
                          (5, "timestamp", "'soon' is not a time in 'order'")]
    assert result.divided(NoSplitSettings()) == {("duo", "a"): "train"}


@pytest.mark.slow
def test_duplicates_of_a_group_are_merged_as_a_user_s_are(connection: BaseBackend, tmp_path: Path) -> None:
    rows = "group_id,item_id,value,timestamp\nduo,a,1,5\nduo,a,4,9\nduo,b,2,7\n"
    for policy, value in (("keep_last", 4), ("keep_first", 1), ("sum", 5), ("max", 4)):
        result = read(connection, tmp_path / policy, rows=rows, duplicates=policy)
        remaining = result.written()[1]
        assert [(r["item_id"], r["value"]) for r in remaining if r["item_id"] == "a"] == [("a", value)]
        assert result.account.counts["group_duplicates"] == 1
    with pytest.raises(DataError, match=r"group 'duo' and item 'a' are in 2 rows, and dataset\.duplicates=error"):
        read(connection, tmp_path / "error", rows=rows, duplicates="error")


@pytest.mark.slow
def test_values_that_are_too_low_for_a_user_are_too_low_for_a_group(connection: BaseBackend, tmp_path: Path) -> None:
    rows = "group_id,item_id,value\nduo,a,1\nduo,b,4\n"
    result = read(connection, tmp_path / "1", rows=rows, min_value=4)
    assert list(result.divided(NoSplitSettings())) == [("duo", "b")]
    assert result.account.counts["group_below_min_value"] == 1
    result = read(connection, tmp_path / "2", rows="group_id,item_id\nduo,a\n", min_value=4)
    assert list(result.divided(NoSplitSettings())) == [("duo", "a")]


TEN = "group_id,item_id,timestamp\n" + "".join(f"duo,{item},{n}\n" for n, item in enumerate("abcdefghij"))


@pytest.mark.slow
def test_groups_are_divided_by_the_rule_of_the_users_or_their_own(connection: BaseBackend, tmp_path: Path) -> None:
    result = read(connection, tmp_path, rows=TEN)
    assert set(result.divided(NoSplitSettings()).values()) == {"train"}
    for split in (RandomSettings(valid=0.2, test=0.3), ColdItemsSplitSettings(valid=0.2, test=0.3),
                  LeaveLastOutSettings(group="random")):
        parts = list(result.divided(split).values())
        shares = (0.1, 0.1) if isinstance(split, LeaveLastOutSettings) else (0.2, 0.3)
        assert [parts.count("valid"), parts.count("test")] == [10 * share for share in shares]
    last = result.divided(NoSplitSettings(group="leave_last_out"))
    assert [pair for pair, part in last.items() if part == "test"] == [("duo", "j")]
    assert [pair for pair, part in last.items() if part == "valid"] == [("duo", "i")]


@pytest.mark.slow
def test_the_order_of_rows_decides_nothing(connection: BaseBackend, tmp_path: Path) -> None:
    header, *rows = TEN.splitlines()
    result = [read(connection, tmp_path / name,
                  rows="\n".join([header, *order]) + "\n").divided(RandomSettings(seed=seed))
             for name, order, seed in (("1", rows, 1), ("2", rows[::-1], 1), ("3", rows, 2))]
    assert result[0] == result[1] != result[2]


def test_one_cutoff_in_time_is_for_users_and_groups(connection: BaseBackend, tmp_path: Path) -> None:
    result = read(connection, tmp_path, rows=TEN)
    parts = result.divided(TemporalSettings(), {"valid": 3, "test": 5}, users_unit="order")
    assert [parts["duo", item] for item in "bcdefg"] == ["train", "train", "valid", "valid", "test", "test"]
    with pytest.raises(DataError, match=r"its timestamps are in 'order' and the users' in 's'"):
        result.divided(TemporalSettings(), {"valid": 3, "test": 5}, users_unit="s")


def test_a_cutoff_of_their_own_is_for_groups_when_users_have_none(connection: BaseBackend, tmp_path: Path) -> None:
    result = read(connection, tmp_path, rows=TEN)
    parts = result.divided(RandomSettings(valid=0.2, test=0.1, group="temporal"), chosen_unit="order")
    assert [pair[1] for pair, part in parts.items() if part == "test"] == ["j"]
    assert sorted(pair[1] for pair, part in parts.items() if part == "valid") == ["h", "i"]


def test_a_rule_that_needs_times_refuses_rows_without(connection: BaseBackend, tmp_path: Path) -> None:
    result = read(connection, tmp_path, rows="group_id,item_id\nduo,a\n")
    with pytest.raises(DataError, match=r"no column 'timestamp', which split\.group=leave_last_out needs"):
        result.divided(LeaveLastOutSettings())


def test_splits_given_by_the_files_are_used(connection: BaseBackend, tmp_path: Path) -> None:
    write(tmp_path, "group_id,item_id\nduo,a\n", "1.csv")
    write(tmp_path, "group_id,item_id\nduo,b\nsolo,a\n", "2.csv")
    result = read(connection, tmp_path, group_train="1.csv", group_test="2.csv")
    assert result.divided(RandomSettings()) == {("duo", "a"): "train", ("duo", "b"): "test", ("solo", "a"): "test"}
    with pytest.raises(ConfigError, match=r"split\.group=random: .* are split already"):
        result.divided(RandomSettings(group="random"))


def test_a_split_that_the_files_do_not_make_is_refused(connection: BaseBackend, tmp_path: Path) -> None:
    result = read(connection, tmp_path, rows="group_id,item_id\nduo,a\n")
    with pytest.raises(ConfigError, match=r"split=given: dataset\.group_interactions is not split"):
        result.divided(GivenSettings())
    with pytest.raises(ConfigError, match=r"split\.group=given: dataset\.group_interactions is not split"):
        result.divided(RandomSettings(group="given"))


def test_groups_with_training_interactions_come_first(connection: BaseBackend, tmp_path: Path) -> None:
    write(tmp_path, "group_id,item_id\nz,b\nz,a\n", "1.csv")
    write(tmp_path, "group_id,item_id\nb,a\nz,b\n", "2.csv")
    result = read(connection, tmp_path, "group_id,user_id\na,u\nb,u\nb,v\nz,u\nz,v\n", group_train="1.csv",
                 group_test="2.csv")
    members, rows = result.written()
    assert list(dict.fromkeys(m["group_id"] for m in members)) == ["z", "b", "a"]
    assert sorted((r["group"], r["item"], r["split"]) for r in rows) == \
        [(0, 0, "train"), (0, 1, "test"), (0, 1, "train"), (1, 0, "test")]
    counts = result.account.counts
    assert [counts[k] for k in ("group_train", "group_test", "groups_cold", "groups_without_interactions")] == \
        [2, 2, 1, 1]
    assert [counts[k] for k in ("groups_standing", "groups_occasional")] == [1, 2]


@pytest.mark.slow
def test_groups_that_were_there_before_keep_their_numbers(connection: BaseBackend, tmp_path: Path) -> None:
    result = read(connection, tmp_path, rows="group_id,item_id\nduo,a\n")
    members, _ = result.written(before={"group": [0], "group_id": ["solo"]})
    assert [(m["group"], m["group_id"]) for m in members] == [(0, "solo"), (1, "duo"), (1, "duo")]


@pytest.mark.audited
def test_unknown_members_are_dropped_and_reported(connection: BaseBackend, tmp_path: Path) -> None:
    result = read(connection, tmp_path, MEMBERS + "solo,stranger\n",
                 "group_id,item_id\nduo,a\nduo,unknown\nnobody,a\nnobody,b\n")
    members, rows = result.written()
    assert [(r["group_id"], r["item_id"]) for r in rows] == [("duo", "a")]
    assert len(members) == 3
    assert "1 members of groups ignored: not among the users" in result.account.notes
    assert any(note.startswith("1 rows of group interactions ignored: item") for note in result.account.notes)
    assert result.account.warnings == ["1 groups have interactions (2 rows, ignored) but no members in dataset.groups; "
                                      "is it the file of another data set?"]
