"""DuckDB and Spark give the same rows for any split, dialect and order."""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pytest
from ibis.backends import BaseBackend

from llmrec_cli.errors import ConfigError, ResourceError
from llmrec_cli.ingest.engine import collect, engine
from llmrec_cli.ingest.interactions.build import (
    filter_interactions,
    filter_unknown_dislikes,
    read_raw,
    stage_interactions,
)
from llmrec_cli.ingest.interactions.id_codes import number
from llmrec_cli.ingest.interactions.splits import build_split
from llmrec_cli.ingest.interactions.writing import write_rows
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.readers.sources import Source
from llmrec_cli.ingest.texts.attributes import is_number, number_of, number_text
from llmrec_cli.settings.dataset import DatasetSettings, FilesSettings
from llmrec_cli.settings.engine import DuckDbSettings, SparkSettings
from llmrec_cli.settings.split import (
    ColdItemsSplitSettings,
    LeaveLastOutSettings,
    RandomSettings,
    SplitSettings,
    TemporalSettings,
)
from tests.ingest.preparing import write

pytest.importorskip("pyspark")
pytestmark = pytest.mark.skipif(shutil.which("java") is None and "JAVA_HOME" not in os.environ, reason="needs Java")
# Compiling a query takes longer than processing a hundred rows; test_spark.py uses Spark's defaults.
LOCAL = SparkSettings(master="local[2]",
                      conf={"spark.sql.shuffle.partitions": "1", "spark.sql.codegen.wholeStage": "false",
                                               "spark.sql.codegen.factoryMode": "NO_CODEGEN"})


@pytest.fixture(scope="module")
def connections(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, BaseBackend]]:
    """Yield both engines; Spark is started once, since that takes ten seconds."""
    with (engine(DuckDbSettings(), tmp_path_factory.mktemp("duckdb")) as embedded,
          engine(LOCAL, tmp_path_factory.mktemp("spark")) as cluster):
        yield {"duckdb": embedded, "spark": cluster}


TIMES = ("2020-01-01", "2020-01-01 00:00", "2020-01-01T00:00:01Z", "2020-01-01T00:00:00.123", "2020-02-30",
         "2020-01-01T02:00:00+02:00", "2019-12-31 18:30:00-0530", "2020-01-01T01:00:00 +01", "1969-12-31", "x", "")
VALUES = ("1", "5", " 2.5 ", "3", "nan", "4.0", "1e1", "1_0", "4d", "Infinity", "-2", ".5", "", "1e400")


def table(rows: int, seed: int) -> str:
    """Return CSV with all content that engines might treat differently."""
    rng = random.Random(seed)
    lines = ["user_id,item_id,value,timestamp,event"]
    for _ in range(rows):
        user = rng.choice(("007", "7", "é", "e\u0301", "Ω", "null", "NA"))
        item = f"{rng.choice('ÄaAzß字')}{rng.randrange(4)}"
        time = rng.choice(TIMES) if rng.random() < 0.3 else f"2020-01-{rng.randrange(1, 28):02}T10:00:00"
        lines.append(f"{user},{item},{rng.choice(VALUES)},{time},{rng.choice(('view', 'buy', 'skip'))}")
    return "\n".join(lines) + "\n"


def rows_of(connection: BaseBackend, folder: Path, split: SplitSettings, sources: list[Source],
            settings: DatasetSettings) -> tuple[Any, ...]:
    """Return all results of an engine for these files: rows, negatives, filtered, rejects, counts, cutoff, hashes."""
    account = Account()
    folder.mkdir()
    staged = stage_interactions(sources, folder, "", bool(settings.event_weights))
    remaining = filter_interactions(read_raw(connection, staged, settings), staged, settings, account)
    divided = build_split(split).divide(remaining.coded, remaining.unit, settings.timestamp_unit)
    users, items = (number(divided.rows, codes, kind) for codes, kind in ((remaining.coded.users, "user"),
                                                                         (remaining.coded.items, "item")))
    remaining = filter_unknown_dislikes(remaining, users, items)
    digest = [write_rows(folder / "rows.parquet", divided.rows, users, items, True)]
    if remaining.negatives is not None:
        negatives = build_split(split).divide_negatives(remaining.negatives, remaining.coded, divided)
        digest.append(write_rows(folder / "negatives.parquet", negatives, users, items, True))
    filtered = sorted(map(str, collect(remaining.filtered.inner_join(remaining.coded.users, "user")
                                       .inner_join(remaining.coded.items, "item")
                                       .select("user_id", "item_id", "value", "timestamp", "reason")).to_pylist()))
    return digest, filtered, [str(reject) for reject in staged.rejects], account.counts, divided.cutoff


CASES: list[tuple[SplitSettings, dict[str, Any]]] = [
    (RandomSettings(), {"min_value": 2.0}),
    (LeaveLastOutSettings(), {"feedback": "explicit", "min_value": 3.0, "max_negative_value": 1.0}),
    (TemporalSettings(valid=0.2, test=0.2),
     {"duplicates": "sum", "min_user_interactions": 3, "min_item_interactions": 3}),
    (ColdItemsSplitSettings(valid=0.2, test=0.2),
     {"duplicates": "max", "event_weights": {"view": 0.1, "buy": 5.0, "skip": 0.0}})]


@pytest.mark.parametrize(("split", "options"), [
    pytest.param(*case, marks=pytest.mark.slow if n == 0 else pytest.mark.faults) for n, case in enumerate(CASES)],
    ids=lambda case: getattr(case, "kind", ""))
def test_every_split_and_policy_gives_the_same_on_both(connections: dict[str, BaseBackend], tmp_path: Path,
                                                       split: SplitSettings, options: dict[str, Any]) -> None:
    sources = [Source(write(tmp_path, table(120, n), f"{n}.csv")) for n in range(2)]
    settings = FilesSettings(timestamp_unit="iso", **options)
    result = {name: rows_of(connection, tmp_path / name, split, sources, settings)
             for name, connection in connections.items()}
    assert result["duckdb"] == result["spark"]
    assert result["duckdb"][2], "something must be rejected"


@pytest.mark.slow
def test_numbers_with_signs_and_units_are_the_same_on_both(connections: dict[str, BaseBackend]) -> None:
    texts = ["66.12 €", "€ 66.12", "$12.50", "￥299", "¥ 1,299.00", "12 EUR", "CHF 5.-", "CHF 1'299.50", "Fr. 5.50",
             "12\u00a0€", "-$5", "$-5", "-$-5", "3 元", "$1,299", "R$ .5", " 5 kr. ", "500 g", "20%", "1e5", "1e5 €",
             "€", "12d", "1,299", "5 €/kg", "12 zł", "5\\", "nan", "1e999", "$" + "9" * 400, " 2 ", "", None,
             "Kč 5–", "5.– Kč", "7 460.00 Kč", "1\u00a0299 Kč", "12\u202f500", "12 500", "12 50", "-1 234 567.5"]
    rows = ibis.memtable(pa.table({"text": pa.array(texts, pa.string())}))
    expected = {text: None if text is None else number_of(text) for text in texts}
    assert expected["CHF 1'299.50"] == 1299.5
    for connection in connections.values():
        table = connection.create_table("numbers", rows.to_pyarrow(), temp=True, overwrite=True) \
            if connection.name == "duckdb" else connection.create_view("numbers", rows, overwrite=True)
        values = table.select("text", value=ibis.cases((is_number(table.text),
                                                        number_text(table.text).try_cast("float64"))))
        assert {row["text"]: row["value"] for row in collect(values).to_pylist()} == expected


@pytest.mark.slow
def test_an_unavailable_engine_is_a_configuration_error(connections: dict[str, BaseBackend],
                                                                    tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"engine=spark: this process runs a Spark session already"), \
            engine(LOCAL, tmp_path):
        pass


def test_memory_that_does_not_suffice_is_a_lack_of_resources(tmp_path: Path) -> None:
    with (pytest.raises(ResourceError, match=r"the data did not fit into engine\.memory=10MB .* raise engine\.memory"),
          engine(DuckDbSettings(memory="10MB"), tmp_path) as connection):
        connection.con.execute("SELECT list(range) FROM range(10000000)").fetchall()
