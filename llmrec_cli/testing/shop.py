"""The tiny shop prepared, and model configs, contexts, fits and queries for it."""

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
"""What makes 30 groups of users of like taste."""


@dataclass(frozen=True)
class Shop:
    """The tiny shop's data, and model configs and contexts for it.

    Attributes
    ----------
    data : 60 users, 44 items of which 4 are cold; both love or have the genre `number % 4`
    encoder : the small text encoder of the heads that use one
    """

    data: PreparedData
    encoder: EncoderSettings

    def config(self, head: HeadSettings, **changed: object) -> ModelConfig:
        """Return a model config that trains for a second, with what is `changed`."""
        usual = {"encoder": self.encoder, "peft": FrozenSettings(), "adversarial": NoAdversarySettings(),
                 "loss": SoftmaxSettings(),
                 "optim": AdamWSettings(epochs=8, batch_size=128, learning_rate=0.02)}
        return ModelConfig(head=head, **(usual | changed))

    def context(self, audience: str = "users", **changed: object) -> Context:
        """Return a context with validation."""
        usual = {"device": CPU, "seed": 1, "validation": validation_of(self.data, "ndcg@10", audience)}
        return Context(**(usual | changed))  # type: ignore[arg-type]

    def fit(self, config: ModelConfig, **context: object) -> Head:
        """Return a head fitted on the training interactions."""
        head = build(config)
        head.fit(self.data.training("train"), self.context(**context))  # type: ignore[arg-type]
        return head

    def known(self, users: object = None, num_added: int = 0) -> Queries:
        """Return queries of known users, all of them by default, to a head that `num_added` items were added to."""
        history = widened(self.data.part("train").matrix, len(self.data.items) + num_added)
        chosen = np.arange(len(self.data.users)) if users is None else np.array(users)
        return known_users(chosen, self.data.users.ids, history, history)

    def known_with_values(self, users: object = None) -> Queries:
        """Return queries of known users, all of them by default, whose histories have values and times."""
        train = self.data.part("train")
        chosen = np.arange(len(self.data.users)) if users is None else np.array(users)
        return known_users(chosen, self.data.users.ids, train.values, train.matrix, times=train.times)

    def new(self, histories: list[list[str]]) -> Queries:
        """Return queries of users that nobody knows, with these items as history."""
        nobody = self.data.part("train").matrix
        names = [f"new {n}" for n in range(len(histories))]
        return resolve(raw_queries(names, histories=histories), self.data.users, self.data.items, nobody, nobody)[0]

    def histories(self, users: object) -> list[list[str]]:
        """Return the training items of known users, as ids."""
        matrix = self.data.part("train").matrix
        return [list(self.data.items.ids[matrix.indices[matrix.indptr[u]:matrix.indptr[u + 1]]])
                for u in np.array(users)]

    @cached_property
    def known_groups(self) -> KnownGroups:
        """The groups and what they did in training, of a shop that has any."""
        groups = self.data.groups("train")
        assert groups is not None, "the shop was made without groups"
        history = groups.interactions.matrix
        return KnownGroups(groups.entities, groups.members, history, history)

    def asking(self, *queries: Mapping[str, object]) -> Queries:
        """Return queries of users and groups, as `recommend` makes them of user_id, group_id, members and history."""

        def each(key: str, nothing: Any) -> list[Any]:
            return [query.get(key, nothing) for query in queries]

        train = self.data.part("train").matrix
        ids = [f"q{n}" for n in range(len(queries))]
        raw = raw_queries(each("user_id", ""), histories=each("history", []), ids=ids, group_ids=each("group_id", ""),
                          members=each("members", []))
        return resolve(raw, self.data.users, self.data.items, train, train, self.known_groups)[0]

    def all_groups(self) -> Queries:
        """Return a query of each group."""
        return self.asking(*({"group_id": key} for key in self.known_groups.entities.ids))

    def lovers(self) -> list[list[str]]:
        """Return four histories, each of three items of one genre."""
        return [[f"i{n}" for n in range(genre, 12, 4)] for genre in range(4)]

    def num_of_own_genre(self, items_QK: np.ndarray) -> int:
        """Return how many of the items on four lists have the genre that the list is for."""
        ids = self.data.items.ids
        return sum(int(ids[item][1:]) % 4 == genre for genre, items in enumerate(items_QK) for item in items)


def make_shop(folder: Path, encoder: str | Path | None = None, groups: bool = False) -> Shop:
    """Return the tiny shop, prepared in `folder`.

    `encoder` is the folder of a small Hugging Face model, for heads that train its layers; None takes TF-IDF.
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


def copies(items: Catalogue, chosen: tuple[int, ...] = (0, 1, 2), known: bool = True) -> Catalogue:
    """Return new items, copies of known ones under ids of their own; if not `known`, without text and attributes."""
    which = np.array(chosen)
    ids = np.array([f"new {n} {place}" for place, n in enumerate(which)], object)
    new = Catalogue(ids, items.titles[which], items.texts[which], items.attributes[which], items.attribute_names)
    if known:
        return new
    nothing = np.full(len(which), "", object)
    without = sp.csr_array(np.zeros(new.attributes.shape, np.float32))
    return replace(new, titles=nothing, texts=nothing, attributes=without)
