"""Engines of the relational work of `prepare`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.base import OptionSettings

_MEMORY = "[1-9][0-9]{0,5}(MB|GB|TB)"


@dataclass
class EngineSettings(OptionSettings):
    """Settings of every engine; `implementation` is a context manager (settings, scratch folder) -> connection."""

    kind: str = ""
    """The option's name; choose with engine=<name>."""


@dataclass
class DuckDbSettings(EngineSettings):
    """DuckDB inside the process: what does not fit into memory goes to the disk that the output is on."""

    implementation: ClassVar[str] = "llmrec_cli.ingest.engine.duckdb_engine"
    kind: str = "duckdb"
    memory: str = "2GB"
    """Memory for tables, 500MB or 8GB; what reads and writes files takes up to 1 GB beside it."""
    threads: int = 0
    """Threads, at least 0; 0 for as many as there are cores."""

    def problems(self) -> Iterator[str]:
        yield from self.check("threads", least=0)
        if not re.fullmatch(_MEMORY, self.memory):
            yield f"memory={self.memory}: write a whole number and its unit, 500MB or 8GB"


@dataclass
class SparkSettings(EngineSettings):
    """Apache Spark, with the extra `spark` and Java: prepared data beyond one machine, the same rows as DuckDB's."""

    implementation: ClassVar[str] = "llmrec_cli.ingest.engine.spark_engine"
    kind: str = "spark"
    master: str = "local[*]"
    """Where Spark runs: local[2], spark://host:7077, yarn, ..."""
    conf: dict[str, str] = field(default_factory=dict)
    """Any Spark settings, {spark.executor.memory: 8g}."""


ENGINES = {"duckdb": DuckDbSettings, "spark": SparkSettings}
