"""Engines for the tables of `prepare`."""

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
    """DuckDB inside the process; tables larger than memory are spilled to the disk of the output folder."""

    implementation: ClassVar[str] = "llmrec_cli.ingest.engine.duckdb_engine"
    kind: str = "duckdb"
    memory: str = "2GB"
    """Memory for tables, for example 500MB or 8GB; reading and writing files takes up to 1 GB more."""
    threads: int = 0
    """Number of threads, at least 0; 0 for one per core."""

    def problems(self) -> Iterator[str]:
        yield from self.check("threads", least=0)
        if not re.fullmatch(_MEMORY, self.memory):
            yield f"memory={self.memory}: write a whole number and its unit, for example 500MB or 8GB"


@dataclass
class SparkSettings(EngineSettings):
    """Apache Spark, for data beyond one machine; needs the extra `spark` and Java. Gives the same rows as DuckDB."""

    implementation: ClassVar[str] = "llmrec_cli.ingest.engine.spark_engine"
    kind: str = "spark"
    master: str = "local[*]"
    """Spark master: local[2], spark://host:7077, yarn, ..."""
    conf: dict[str, str] = field(default_factory=dict)
    """Spark settings, for example {spark.executor.memory: 8g}."""


ENGINES = {"duckdb": DuckDbSettings, "spark": SparkSettings}
