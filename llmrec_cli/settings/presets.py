"""Data sets by name. A new one is a YAML file over `files`, or, where the format is odd, a dataclass with a reader."""

from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.dataset import DatasetSettings, Files


@dataclass
class MovieLens100k(DatasetSettings):
    """MovieLens-100K (Harper and Konstan 2015): fetched at run time, or GroupLens's own folder."""

    kind: str = "movielens_100k"
    reader: ClassVar[str] = "llmrec_cli.ingest.movielens.movielens_100k"
    name: str = "movielens_100k"
    item_text: str = "{title}. {genres}"
    attributes: dict[str, str] = field(default_factory=lambda: {"genres": "list"})
    path: str = ""
    """GroupLens's folder `ml-100k` with u.data, u.item and u.user; empty to fetch the data."""


DATASETS = {"files": Files, "movielens_100k": MovieLens100k}
