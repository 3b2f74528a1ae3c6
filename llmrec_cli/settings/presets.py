"""Data sets by name. Add a new data set as a YAML file over `files`, or, for an unusual format, as a dataclass with a
reader."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.dataset import DatasetSettings, FilesSettings


@dataclass
class MovieLens100kSettings(DatasetSettings):
    """MovieLens-100K (Harper and Konstan 2015): downloaded at run time, or read from GroupLens's folder.

    With dataset.links=<file of item_id and entity_id> and no dataset.knowledge, the triples are the Freebase subgraph
    of the downloaded data.
    """

    kind: str = "movielens_100k"
    implementation: ClassVar[str] = "llmrec_cli.ingest.presets.movielens.movielens_100k"
    own_knowledge: ClassVar[bool] = True
    name: str = "movielens_100k"
    values: str = "rating"
    item_text: str = "{title}. {genres}"
    attributes: dict[str, str] = field(default_factory=lambda: {"genres": "list"})
    path: str = ""
    """GroupLens's folder `ml-100k` with u.data, u.item and u.user; empty to download the data."""


@dataclass
class MovieLens1mSettings(DatasetSettings):
    """MovieLens-1M (Harper and Konstan 2015): downloaded at run time, or read from GroupLens's folder."""

    kind: str = "movielens_1m"
    implementation: ClassVar[str] = "llmrec_cli.ingest.presets.movielens_1m.movielens_1m"
    name: str = "movielens_1m"
    values: str = "rating"
    item_text: str = "{title}. {genres}"
    attributes: dict[str, str] = field(default_factory=lambda: {"genres": "list"})
    path: str = ""
    """GroupLens's folder `ml-1m` with ratings.dat, movies.dat and users.dat; empty to download the data, where an
    item's id is its title."""


@dataclass
class AmazonReviewsSettings(DatasetSettings):
    """Amazon reviews of 2018 (Ni et al. 2019) and 2023 (Hou et al. 2024), one category or several, as published."""

    kind: str = "amazon_reviews"
    implementation: ClassVar[str] = "llmrec_cli.ingest.presets.amazon.amazon_reviews"
    name: str = "amazon_reviews"
    values: str = "rating"
    item_text: str = "{title}. {brand}. {categories}. {features}. {description}"
    attributes: dict[str, str] = field(default_factory=lambda: {"brand": "category", "categories": "list",
                                                                "price": "number"})
    path: str = ""
    """Folder with a file of reviews and its file meta_*; also the folder for relative file names."""
    reviews: str | list[str] | None = None
    """File(s) of reviews, .jsonl or .json, plain, .gz or .zst."""
    metadata: str | list[str] | None = None
    """File(s) of products, meta_*."""
    version: str = "auto"
    """auto | 2018 | 2023: format of the files; auto detects it from the keys of the first records."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("version", among=("auto", "2018", "2023"))
        if not self.path and (self.reviews is None or self.metadata is None):
            missing = "reviews" if self.reviews is None else "metadata"
            yield (f"{missing}: missing; set dataset.reviews=<file> and dataset.metadata=<its file meta_*>, or "
                   f"dataset.path=<folder with one of each>")


@dataclass
class MindSettings(DatasetSettings):
    """MIND, news of MSN (Wu et al. 2020): clicks are positives; news that were shown and not clicked are stored as
    dislikes."""

    kind: str = "mind"
    implementation: ClassVar[str] = "llmrec_cli.ingest.presets.mind.mind"
    name: str = "mind"
    item_text: str = "{title}. {abstract}"
    attributes: dict[str, str] = field(default_factory=lambda: {"category": "category", "subcategory": "category"})
    feedback: str = "explicit"
    min_value: float | None = 1.0
    duplicates: str = "max"
    timestamp_unit: str = "iso"
    path: str = ""
    """Folder with behaviors.tsv and news.tsv (MINDsmall_train), or the parent of folders *_train and *_dev."""
    dev_path: str = ""
    """Folder of the labelled behaviours of the following days (MINDsmall_dev); empty for the folder *_dev in
    dataset.path, if any."""
    dev_split: str = "test"
    """test | valid: part of the split that *_dev becomes with split=given; with other splits it only adds
    interactions."""
    click_history: bool = False
    """Also read each user's click history as interactions. It has no times: the clicks are dated one second apart,
    ending one second before the user's first impression. With split=given they are training interactions."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("dev_split", among=("test", "valid"))
        if not self.path:
            yield ("path: missing; set dataset.path=<folder MINDsmall_train, or the folder with MINDsmall_train and "
                   "MINDsmall_dev>, from https://msnews.github.io")


@dataclass
class GroupFolderSettings(DatasetSettings):
    """Group data sets in the format of AGREE (Cao et al. 2018), ConsRec and others."""

    implementation: ClassVar[str] = "llmrec_cli.ingest.presets.group_folder.group_folder"
    source: ClassVar[str] = ""
    """Source of the data."""
    values: str = "rating"
    path: str = ""
    """Folder with groupMember.txt, groupRatingTrain.txt, groupRatingTest.txt, userRatingTrain.txt and
    userRatingTest.txt. The files *Negative.txt are ignored by prepare: evaluate ranks all items, or the published
    negatives with candidates=<folder>/groupRatingNegative.txt."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if not self.path:
            yield f"path: missing; set dataset.path=<folder with groupMember.txt and its companions>, {self.source}"


@dataclass
class MafengwoSettings(GroupFolderSettings):
    """Mafengwo and Mafengwo-S: groups of travellers and the places they visited (Wu et al. 2023)."""

    kind: str = "mafengwo"
    source: ClassVar[str] = "data/Mafengwo or data/MafengwoS of https://github.com/FDUDSDE/WWW2023ConsRec (MIT)"
    name: str = "mafengwo"


@dataclass
class Camra2011Settings(GroupFolderSettings):
    """CAMRa2011: films rated 0 to 100 by households and their members (Cao et al. 2018)."""

    kind: str = "camra2011"
    source: ClassVar[str] = ("data/CAMRa2011 of https://github.com/LianHaiMiao/Attentive-Group-Recommendation (no "
                             "licence is named; it is from the challenge CAMRa 2011: for research)")
    name: str = "camra2011"
    feedback: str = "explicit"
    min_value: float | None = 0.0
    """0, since the published protocol counts ratings of 0 as positives."""


DATASETS = {"files": FilesSettings, "movielens_100k": MovieLens100kSettings, "movielens_1m": MovieLens1mSettings,
            "amazon_reviews": AmazonReviewsSettings, "mind": MindSettings, "mafengwo": MafengwoSettings,
            "camra2011": Camra2011Settings}
