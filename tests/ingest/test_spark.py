"""engine=spark on local[2]: row for row what DuckDB gives."""

import os
import random
import shutil
from pathlib import Path

import duckdb
import pytest

from llmrec_cli.settings.dataset import Files
from llmrec_cli.settings.engine import DuckDb, EngineSettings, Spark
from llmrec_cli.settings.split import Random
from tests.ingest.preparing import Prepared, prepare_with, write

pytest.importorskip("pyspark")
pytestmark = pytest.mark.skipif(shutil.which("java") is None and "JAVA_HOME" not in os.environ, reason="needs Java")


def different(one: Prepared, other: Prepared, name: str) -> list[int]:
    """Return how many rows one has and not the other, both ways."""
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
    dataset = Files(name="x", interactions=str(clicks), items=str(items), attributes={"price": "number"},
                    user_text="{history}", min_user_interactions=2, min_value=2.0)
    local = Spark(master="local[2]", conf={"spark.sql.shuffle.partitions": "2"})
    engines: dict[str, EngineSettings] = {"duckdb": DuckDb(), "spark": local}
    done = {name: prepare_with(tmp_path / name, dataset, Random(), chosen) for name, chosen in engines.items()}
    one, other = done["duckdb"], done["spark"]
    for name in ("interactions", "filtered", "items", "users", "rejects"):
        assert different(one, other, name) == [0, 0], name
    assert one.manifest["fingerprint"] == other.manifest["fingerprint"]
    assert one.counts == other.counts
    assert one.counts["rejected"] == 10
