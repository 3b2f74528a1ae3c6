"""Small heads, losses, encoders and adversaries, each with one fault that a check must find."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from llmrec_cli.encoders.tfidf import TfIdfEncoder
from llmrec_cli.errors import ConfigError
from llmrec_cli.heads.item_knn import ItemKnn
from llmrec_cli.settings.adversarial import FgmSettings
from llmrec_cli.settings.encoder import TfIdfSettings
from llmrec_cli.settings.heads.neighbours import ItemKnnSettings
from llmrec_cli.settings.loss import (
    CHOICES,
    VALUES,
    BprSettings,
    DistillationSettings,
    MseSettings,
    SampledSoftmaxSettings,
    SoftmaxSettings,
)
from llmrec_cli.training.adversary import GradientAttack
from llmrec_cli.training.losses.bpr import Bpr as BprLoss
from llmrec_cli.training.losses.distillation import Distillation
from llmrec_cli.training.losses.mse import Mse as MseLoss
from llmrec_cli.training.losses.sampled_softmax import SampledSoftmax
from llmrec_cli.training.losses.softmax import Softmax as SoftmaxLoss


class Sound(ItemKnn):
    """A head without a fault."""


class Doubles(ItemKnn):
    def score_users(self, queries):
        return super().score_users(queries).double()


class Impersonal(ItemKnn):
    def score_users(self, queries):
        return torch.arange(self.similarity_NN.shape[0], dtype=torch.float32).expand(len(queries), -1)


class DividesByTheHistory(ItemKnn):
    def score_users(self, queries):
        length = torch.from_numpy(np.diff(queries.history.indptr))[:, None]
        return super().score_users(queries) / length


class CentresTheBlock(ItemKnn):
    def score_users(self, queries):
        scores = super().score_users(queries)
        return scores - scores.mean()


class ReadsWhatIsSeen(ItemKnn):
    def score_users(self, queries):
        return super().score_users(replace(queries, history=queries.seen))


class WritesIntoTheHistory(ItemKnn):
    def score_users(self, queries):
        scores = super().score_users(queries)
        queries.history.data[:] = 2
        return scores


class ReadsNoWeights(ItemKnn):
    def fit(self, data, context):
        self.settings = replace(self.settings, weight="none", decay=None)
        super().fit(data, context)


class Counts(ItemKnn):
    calls = 0

    def score_users(self, queries):
        Counts.calls += 1
        return super().score_users(queries) + self.calls


class Unseeded(ItemKnn):
    def fit(self, data, context):
        super().fit(data, context)
        self.similarity_NN.data *= np.random.default_rng().random(self.similarity_NN.nnz).astype(np.float32)


class ForgetsTheScale(ItemKnn):
    def fit(self, data, context):
        super().fit(data, context)
        self.scale = 3.0

    def score_users(self, queries):
        return super().score_users(queries) * getattr(self, "scale", 1.0)


class KnowsTheUser(ItemKnn):
    def score_users(self, queries):
        return super().score_users(queries) + torch.from_numpy(queries.user.astype(np.float32))[:, None]


class WorstFirst(ItemKnn):
    def score_users(self, queries):
        return -super().score_users(queries)


class RescalesWhenItemsCome(ItemKnn):
    def add_items(self, items):
        super().add_items(items)
        self.similarity_NN.data *= 2


class NewItemsFirst(ItemKnn):
    def add_items(self, items):
        super().add_items(items)
        self.num_new = getattr(self, "num_new", 0) + len(items)

    def score_users(self, queries):
        scores = super().score_users(queries)
        if new := getattr(self, "num_new", 0):
            scores[:, -new:] = 1000.0
        return scores


class OneAnswer(ItemKnn):
    @property
    def supports_text_queries(self):
        return True

    def score_text(self, texts):
        return torch.ones(len(texts), self.similarity_NN.shape[0])


class ChoosesAgain(ItemKnn):
    def tuned_config(self):
        return replace(self.config, head=replace(self.settings, k=self.settings.k + 1))


class StatesNothing(ItemKnn):
    def estimate_memory(self, data):
        return 0


class StatesAThird(ItemKnn):
    def estimate_memory(self, data):
        return sum(array.nbytes for array in self.state().values()) // 3


class CountsGroups(ItemKnn):
    def score_groups(self, queries):
        return super().score_groups(queries) + len(queries)


class WorstFirstForGroups(ItemKnn):
    def score_groups(self, queries):
        return -super().score_groups(queries)


class ByPlace(ItemKnn):
    def score_groups(self, queries):
        return super().score_groups(queries) * torch.arange(1.0, len(queries) + 1)[:, None]


class DividesByTheMembers(ItemKnn):
    def score_groups(self, queries):
        return super().score_groups(queries) / torch.from_numpy(np.diff(queries.groups.rows.indptr))[:, None]


class OneOrTheOther(ItemKnn):
    def score(self, queries):
        scores = super().score(queries)
        mixed = queries.groups is not None and not queries.groups.is_group.all() and queries.groups.is_group.any()
        return scores * 0 if mixed else scores


def head(implementation):
    """Return settings of item-kNN with an implementation of this module."""
    @dataclass
    class Settings(ItemKnnSettings):
        implementation: ClassVar[str] = ""

    Settings.implementation = f"{__name__}.{implementation.__name__}"
    return Settings(k=10)


class Rewards(BprLoss):
    def against(self, positive_B, negative_BC, excluded_BC, weight_B=None):
        return super().against(-positive_B, -negative_BC, excluded_BC, weight_B)


class CountsTheExcluded(BprLoss):
    def against(self, positive_B, negative_BC, excluded_BC, weight_B=None):
        return super().against(positive_B, negative_BC, torch.zeros_like(excluded_BC), weight_B)


class MeanOfNothing(BprLoss):
    def against(self, positive_B, negative_BC, excluded_BC, weight_B=None):
        return torch.nn.functional.softplus(negative_BC - positive_B[:, None])[~excluded_BC].mean()


class Weightless(BprLoss):
    def against(self, positive_B, negative_BC, excluded_BC, weight_B=None):
        return super().against(positive_B, negative_BC, excluded_BC)


class TwoSums(BprLoss):
    def of_choices(self, *arguments, **named):
        return 2 * super().of_choices(*arguments, **named)


class ForgetsTheShare(BprLoss):
    def of_users(self, step):
        return super().of_users(replace(step, negative_share=1.0))


class ForgetsTheChance(SoftmaxLoss):
    def of_catalogue(self, users_PE, items_CE, target_P, log_q_C=None, weight_P=None):
        return super().of_catalogue(users_PE, items_CE, target_P, None, weight_P)


class ExpectsMore(MseLoss):
    def expected(self, scores):
        return scores + 1


class HalfANegative(MseLoss):
    def of_negatives(self, scores):
        return super().of_negatives(scores) / 2


class ForgetsTheWeights(SampledSoftmax):
    def of_positions(self, *inputs, log_q_P=None, log_q_C=None, weight_P=None):
        return super().of_positions(*inputs, log_q_P=log_q_P, log_q_C=log_q_C)


class OwnTarget(Distillation):
    def forward(self, vectors_TD, items_B):
        own = torch.eye(5)[items_B]
        return 0.5 * super().forward(vectors_TD, items_B) - 0.5 * (own * self.logits(vectors_TD, items_B)).sum(1).mean()


@dataclass
class BprOfValues(BprSettings):
    works_with: ClassVar = (CHOICES, VALUES)


def loss(implementation, base=BprSettings):
    """Return settings of a loss with an implementation of this module."""
    @dataclass
    class Settings(base):
        implementation: ClassVar[str] = ""

    Settings.implementation = f"{__name__}.{implementation.__name__}"
    return Settings()


LOSSES = {Rewards: BprSettings, CountsTheExcluded: BprSettings, MeanOfNothing: BprSettings, Weightless: BprSettings,
          TwoSums: BprSettings, ForgetsTheShare: BprSettings,
          ForgetsTheChance: SoftmaxSettings, ExpectsMore: MseSettings, HalfANegative: MseSettings,
          ForgetsTheWeights: SampledSoftmaxSettings, OwnTarget: DistillationSettings}


class Unready(TfIdfEncoder):
    @classmethod
    def open(cls, settings, device, cache):
        raise ConfigError("not today")


class DoubleVectors(TfIdfEncoder):
    def encode(self, texts, entity="item"):
        return super().encode(texts, entity).astype(np.float64)


class CentresTexts(TfIdfEncoder):
    def encode(self, texts, entity="item"):
        vectors = super().encode(texts, entity)
        return vectors - vectors.mean(axis=0) if len(vectors) else vectors


class OneVector(TfIdfEncoder):
    def encode(self, texts, entity="item"):
        return np.ones_like(super().encode(texts, entity))


class ForgetsItsScale(TfIdfEncoder):
    scale = 1.0

    def fit(self, texts):
        super().fit(texts)
        self.scale = 2.0

    def encode(self, texts, entity="item"):
        return super().encode(texts, entity) * self.scale


class OneIdentity(TfIdfEncoder):
    @property
    def identity(self):
        return "0" * 64


class OfThisProcess(TfIdfEncoder):
    def encode(self, texts, entity="item"):
        return super().encode(texts, entity) + np.float32(hash("salt") % 1000)


@dataclass
class OfThisProcessSettings(TfIdfSettings):
    implementation: ClassVar[str] = f"{__name__}.OfThisProcess"


def encoder(implementation):
    """Return settings of TF-IDF with an implementation of this module."""
    @dataclass
    class Settings(TfIdfSettings):
        implementation: ClassVar[str] = ""

    Settings.implementation = f"{__name__}.{implementation.__name__}"
    return Settings()


class Detached(GradientAttack):
    def loss_of_all(self, loss, tensors):
        return super().loss_of_all(loss, tensors).detach()


class Harmless(GradientAttack):
    def loss_of_all(self, loss, tensors):
        return loss(tensors)


class InPlace(GradientAttack):
    def loss_of_all(self, loss, tensors):
        value = super().loss_of_all(loss, tensors)
        with torch.no_grad():
            tensors[0].add_(0.1)
        return value


class OwnDice(GradientAttack):
    def loss_of_all(self, loss, tensors):
        return super().loss_of_all(loss, tensors) * float(np.random.default_rng().random() + 0.5)


@dataclass
class PerturbsAll(FgmSettings):
    perturbs: ClassVar[str] = "everything"


def adversary(implementation):
    """Return settings of FGM with an implementation of this module."""
    @dataclass
    class Settings(FgmSettings):
        implementation: ClassVar[str] = ""

    Settings.implementation = f"{__name__}.{implementation.__name__}"
    return Settings()
