"""The prepared tiny shop, with model configs, contexts, fits and queries for it."""

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.config import compose
from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.groups import KnownGroups
from llmrec_cli.data.histories import widened
from llmrec_cli.data.prepared import PreparedData, read_prepared
from llmrec_cli.data.queries import Queries, known_users
from llmrec_cli.heads.base import Context, Head, build
from llmrec_cli.requests.queries import raw_queries
from llmrec_cli.requests.resolve import resolve
from llmrec_cli.run_dir import NoRunDir
from llmrec_cli.scoring.validation import validation_of
from llmrec_cli.settings.adversarial import NoAdversarySettings
from llmrec_cli.settings.encoder import EncoderSettings, HuggingFaceSettings, TfIdfSettings
from llmrec_cli.settings.head import HeadSettings, ModelConfig
from llmrec_cli.settings.loss import SoftmaxSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.settings.peft import FrozenSettings
from llmrec_cli.stages import prepare
from llmrec_cli.testing.tiny_shop import write_tiny

CPU = torch.device("cpu")
GROUPS = ["dataset.synthetic_groups=similar", "dataset.num_groups=30", "dataset.group_size=[2,5]"]
"""Settings that generate 30 groups of users of similar taste."""


@dataclass(frozen=True)
class Shop:
    """The tiny shop's data, with model configs and contexts for it.

    Attributes
    ----------
    data : 60 users and 44 items, 4 of them cold; a user's favourite genre and an item's genre are `number % 4`
    encoder : a small text encoder for heads that use one
    """

    data: PreparedData
    encoder: EncoderSettings

    def config(self, head: HeadSettings, **changed: object) -> ModelConfig:
        """Return a model config that trains in a second, with the settings in `changed`."""
        usual = {"encoder": self.encoder, "peft": FrozenSettings(), "adversarial": NoAdversarySettings(),
                 "loss": SoftmaxSettings(),
                 "optim": AdamWSettings(epochs=8, batch_size=128, learning_rate=0.02)}
        return ModelConfig(head=head, **(usual | changed))

    def context(self, audience: str = "users", **changed: object) -> Context:
        """Return a context with validation, with the attributes in `changed`."""
        usual = {"device": CPU, "seed": 1, "validation": validation_of(self.data, "ndcg@10", audience)}
        return Context(**(usual | changed))  # type: ignore[arg-type]

    def fit(self, config: ModelConfig, **context: object) -> Head:
        """Fit a head on the training interactions."""
        head = build(config)
        head.fit(self.data.training("train"), self.context(**context))  # type: ignore[arg-type]
        return head

    def known_users(self, users: object = None, num_added: int = 0) -> Queries:
        """Return queries of known users (default all), for a head with `num_added` added items."""
        history = widened(self.data.part("train").matrix, len(self.data.items) + num_added)
        rows = np.arange(len(self.data.users)) if users is None else np.array(users)
        return known_users(rows, self.data.users.ids, history, history)

    def known_users_with_values(self, users: object = None) -> Queries:
        """Return queries of known users (default all) whose histories have values and times."""
        train = self.data.part("train")
        rows = np.arange(len(self.data.users)) if users is None else np.array(users)
        return known_users(rows, self.data.users.ids, train.values, train.matrix, times=train.times)

    def new_users(self, histories: list[list[str]]) -> Queries:
        """Return queries of unknown users with these items as history."""
        train = self.data.part("train").matrix
        names = [f"new {n}" for n in range(len(histories))]
        return resolve(raw_queries(names, histories=histories), self.data.users, self.data.items, train, train)[0]

    def histories(self, users: object) -> list[list[str]]:
        """Return the training items of known users, as ids."""
        matrix = self.data.part("train").matrix
        return [list(self.data.items.ids[matrix.indices[matrix.indptr[u]:matrix.indptr[u + 1]]])
                for u in np.array(users)]

    @cached_property
    def known_groups(self) -> KnownGroups:
        """The groups with their training interactions; only for a shop made with groups."""
        groups = self.data.groups("train")
        assert groups is not None, "the shop was made without groups"
        history = groups.interactions.matrix
        return KnownGroups(groups.entities, groups.members, history, history)

    def queries(self, *queries: Mapping[str, object]) -> Queries:
        """Return queries of users and groups from user_id, group_id, members and history, as `recommend` does."""

        def each(key: str, default: Any) -> list[Any]:
            return [query.get(key, default) for query in queries]

        train = self.data.part("train").matrix
        ids = [f"q{n}" for n in range(len(queries))]
        raw = raw_queries(each("user_id", ""), histories=each("history", []), ids=ids, group_ids=each("group_id", ""),
                          members=each("members", []))
        return resolve(raw, self.data.users, self.data.items, train, train, self.known_groups)[0]

    def all_groups(self) -> Queries:
        """Return a query of each group."""
        return self.queries(*({"group_id": key} for key in self.known_groups.entities.ids))

    def lovers(self) -> list[list[str]]:
        """Return four histories, each of three items of one genre."""
        return [[f"i{n}" for n in range(genre, 12, 4)] for genre in range(4)]

    def num_of_own_genre(self, items_QK: np.ndarray) -> int:
        """Count the items on four lists, one per genre, that have the list's genre."""
        ids = self.data.items.ids
        return sum(int(ids[item][1:]) % 4 == genre for genre, items in enumerate(items_QK) for item in items)


def make_shop(folder: Path, encoder: str | Path | None = None, groups: bool = False) -> Shop:
    """Prepare the tiny shop in `folder`.

    `encoder` is the folder of a small Hugging Face model, for heads that train its layers; None for TF-IDF.
    """
    write_tiny(folder / "files")
    files = folder.resolve() / "files"
    typed = ["dataset=files", "dataset.name=tiny", f"dataset.interactions={files / 'interactions.csv'}",
             f"dataset.items={files / 'items.csv'}", "dataset.item_text={title} ({year}). {genres}",
             "dataset.attributes.genres=list", "dataset.min_value=4", *(GROUPS if groups else [])]
    with contextlib.chdir(folder), contextlib.redirect_stderr(io.StringIO()):
        prepare.run(compose("prepare", typed), NoRunDir())
    return shop_of(folder / "data" / "prepared" / "tiny", encoder)


def shop_of(prepared: Path, encoder: str | Path | None = None) -> Shop:
    """Return the shop of prepared data."""
    small: EncoderSettings = HuggingFaceSettings(path=str(encoder),
                                                 max_length=24) if encoder else TfIdfSettings(embedding_size=64)
    return Shop(read_prepared(prepared), small)


def copies(items: Catalogue, numbers: tuple[int, ...] = (0, 1, 2), has_content: bool = True) -> Catalogue:
    """Return new items, copies of these items with new ids; without text and attributes unless `has_content`."""
    rows = np.array(numbers)
    ids = np.array([f"new {n} {place}" for place, n in enumerate(rows)], object)
    new = Catalogue(ids, items.titles[rows], items.texts[rows], items.attributes[rows], items.attribute_names)
    if has_content:
        return new
    empty = np.full(len(rows), "", object)
    no_attributes = sp.csr_array(np.zeros(new.attributes.shape, np.float32))
    return replace(new, titles=empty, texts=empty, attributes=no_attributes)
