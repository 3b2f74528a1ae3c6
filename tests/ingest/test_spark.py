"""engine=spark on local[2] gives the same rows as DuckDB."""

import os
import random
import shutil
from pathlib import Path

import duckdb
import pytest

from llmrec_cli.settings.dataset import FilesSettings
from llmrec_cli.settings.engine import DuckDbSettings, EngineSettings, SparkSettings
from llmrec_cli.settings.split import GivenSettings, RandomSettings
from tests.ingest.preparing import Prepared, prepare_with, write

pytest.importorskip("pyspark")
pytestmark = pytest.mark.skipif(shutil.which("java") is None and "JAVA_HOME" not in os.environ, reason="needs Java")


def different(one: Prepared, other: Prepared, name: str) -> list[int]:
    """Return the number of rows that only one table has, for both tables."""
    files = [f"'{prepared.folder / name}.parquet'" for prepared in (one, other)]
    query = "SELECT count(*) FROM (FROM {} EXCEPT ALL FROM {})"
    return [duckdb.connect().execute(query.format(*pair)).fetchall()[0][0] for pair in (files, files[::-1])]


@pytest.mark.slow
def test_a_hundred_thousand_rows_are_the_same_on_both(tmp_path: Path) -> None:
    rng = random.Random(5)
    lines = [f"u{int(rng.paretovariate(1)) % 3000},i{int(rng.paretovariate(0.7)) % 900},{rng.randrange(1, 6)},"
             f"{1_500_000_000 + rng.randrange(10**8)}" for _ in range(99_990)]
    lines += [f"u{n},i{n},five,1500000000" for n in range(10)]
    clicks = write(tmp_path, "user_id,item_id,value,timestamp\n" + "\n".join(lines) + "\n")
    items = write(tmp_path, "item_id,title,price\n" + "".join(f"i{n},<b>No. {n}</b>,{n % 7}.5\n" for n in range(1000)),
                  "items.csv")
    dataset = FilesSettings(name="x", interactions=str(clicks), items=str(items), attributes={"price": "number"},
                            user_text="{history}", min_user_interactions=2, min_value=2.0)
    local = SparkSettings(master="local[2]", conf={"spark.sql.shuffle.partitions": "2"})
    engines: dict[str, EngineSettings] = {"duckdb": DuckDbSettings(), "spark": local}
    done = {name: prepare_with(tmp_path / name, dataset, RandomSettings(), engine) for name, engine in engines.items()}
    one, other = done["duckdb"], done["spark"]
    for name in ("interactions", "filtered", "items", "users", "rejects"):
        assert different(one, other, name) == [0, 0], name
    assert one.manifest["fingerprint"] == other.manifest["fingerprint"]
    assert one.counts == other.counts
    assert one.counts["rejected"] == 10


@pytest.mark.faults
def test_groups_are_the_same_on_both(tmp_path: Path) -> None:
    rng = random.Random(6)
    users = "".join(f"u{rng.randrange(40)},i{rng.randrange(30)}\n" for _ in range(400))
    test = [*users.splitlines(keepends=True)[:20], "u1,new\n"]
    together = "".join(f"g{rng.randrange(25)},i{rng.randrange(30)}\n" for _ in range(150))
    members = "".join(f"g{n // 4},u{rng.randrange(45)}\n" for n in range(110))
    contents = {"train": "user_id,item_id\n" + users, "test": "user_id,item_id\n" + "".join(test),
                "groups": "group_id,user_id\n" + members, "group_train": "group_id,item_id\n" + together,
                "group_test": "group_id,item_id\n" + together[:60].rpartition("\n")[0] + "\ng3,new\n",
                "group_info": "group_id,name,age\n" + "".join(f"g{n},Gruppe Ä{n},{n}\n" for n in range(35))}
    files = {key: str(write(tmp_path, content, f"{key}.csv")) for key, content in contents.items()}
    settings_ = FilesSettings(name="x", group_text="{name}", group_attributes={"age": "number"}, **files)
    split = GivenSettings(valid=0.2, group_valid=0.4, leaks="drop")
    local = SparkSettings(master="local[2]", conf={"spark.sql.shuffle.partitions": "1"})
    one, other = (prepare_with(tmp_path / name, settings_, split, engine) for name, engine in
                  (("duckdb", DuckDbSettings()), ("spark", local)))
    for name in ("interactions", "filtered", "groups", "group_interactions", "group_texts"):
        assert different(one, other, name) == [0, 0], name
    assert one.manifest["fingerprint"] == other.manifest["fingerprint"]
    assert one.counts == other.counts
    assert one.counts["group_valid"] > 10


@pytest.mark.faults
def test_times_in_every_form_are_the_same_on_both(tmp_path: Path) -> None:
    forms = {"%d/%m/%Y %I:%M %p": "01/01/2023 02:05 PM", "%a, %d %b %Y %H:%M:%S %z": "Sun, 01 Jan 2023 16:05:00 +0200",
             "%y%m%d %H:%M:%S.%f": "230101 14:05:00.000999", "us": "1672581900000999", "ns": "1672581900000999000",
             "excel": "44927.5868055556", "iso": "2023-01-01 14:05:00.000999999 UTC"}
    local = SparkSettings(master="local[1]", conf={"spark.sql.shuffle.partitions": "1"})
    for number, (unit, text) in enumerate(forms.items()):
        rows = f'user_id,item_id,timestamp\nu,i,"{text}"\nu,j,"{text}"\nu,k,"31/02/2023 02:05 PM"\n'
        message = {"timestamp_format": unit} if "%" in unit else {"timestamp_unit": unit}
        dataset = FilesSettings(name="x", interactions=str(write(tmp_path / str(number), rows)), max_reject_share=0.5,
                                **message)
        one, other = (prepare_with(tmp_path / str(number) / name, dataset, engine=engine) for name, engine in
                      (("duckdb", DuckDbSettings()), ("spark", local)))
        assert one.column("interactions", "timestamp") == [1672581900000] * 2, unit
        for name in ("interactions", "rejects"):
            assert different(one, other, name) == [0, 0], unit
