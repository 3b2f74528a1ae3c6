"""Two towers: text and ids on either side, trained by gradients, with the text encoder in the loop.

Shapes: Q queries, N items in training, M items now, B interactions of a step, R distinct items of a step, L items whose
text is encoded in a step, T size of a text vector, E embedding size.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.entities import Entities
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import ArtifactError
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.heads.item_texts import ItemTexts
from llmrec_cli.heads.towers import Towers, history_sums, history_vectors
from llmrec_cli.settings.base import to_plain
from llmrec_cli.settings.head import Recipe
from llmrec_cli.settings.head import TwoTower as Settings
from llmrec_cli.settings.loss import Bce, Bpr, Mse, Softmax
from llmrec_cli.training.adversary import adversarial_loss
from llmrec_cli.training.loop import Length, Surroundings, train
from llmrec_cli.training.losses import bce_loss, bpr_loss, mse_loss, softmax_loss


class TwoTower(Head):
    """Two-tower retrieval (Covington et al. 2016; Yi et al. 2019).

    A step sees B interactions. The user's vector is made of their other items, the target left out. Each distinct text
    of a step is encoded at most once, whatever number of interactions name it, and at most `encoded_items` of them with
    gradients; the other items keep the vectors of when they were last encoded.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        assert isinstance(recipe.head, Settings)
        self.settings = recipe.head
        self.stop_after: int | None = recipe.head.stop_after
        self.towers: Towers | None = None
        self.texts: ItemTexts | None = None

    @property
    def answers_text(self) -> bool:
        """Always: a text is read as a history of one item without an id."""
        return True

    @property
    def item_texts(self) -> ItemTexts | None:
        """The items' texts, trained with the towers."""
        return self.texts

    @property
    def rereads(self) -> bool:
        """Always: every item's vector is its text's, and its id's."""
        return True

    def reread(self, texts: np.ndarray) -> None:
        """Make the vectors of all items from other texts (N,)."""
        self._fitted()[1].reread(texts)

    def memory(self, data: TrainingData) -> int:
        """Return the bytes of ids, their gradients and moments, and the scores of a step; the encoder's own apart."""
        ids = 4 * 4 * self.settings.embedding_size * (len(data.users) + len(data.items))
        batch = min(self.recipe.optim.batch_size, len(data.interactions))
        return ids + 4 * 4 * batch * min(batch, len(data.items))

    def fit(self, data: TrainingData, context: Context) -> None:
        """Train towers and encoder together by the one loop."""
        recipe, device = self.recipe, context.device
        torch.manual_seed(context.seed)
        self.texts = ItemTexts.encoded(recipe.encoder, recipe.peft, data.items.texts, device, context.seed,
                                       context.memo, data.interactions.item_counts > 0, context.cache,
                                       recipe.optim.precision)
        self.towers = Towers(len(data.users), len(data.items), self.texts.size, self.settings, recipe.loss).to(device)
        step = _Step(self, data.interactions, device)
        rates = [(self.towers, recipe.optim.rate()), *self.texts.rates(recipe.optim)]
        length = Length(self.stop_after or recipe.optim.epochs, step.num_batches, recipe.optim.epochs)
        resume_from = context.folder if context.resumed else None
        surroundings = Surroundings(device, context.seed, context.log, context.folder, resume_from,
                                    context.tensorboard, "two_tower", {
                                        f"{group}.{key}": value for group, settings in to_plain(recipe).items()
                                        for key, value in settings.items() if group != "optim"})
        model = torch.nn.ModuleDict({"towers": self.towers, "texts": self.texts})
        validate = None if context.validation is None else lambda: self._validate(context)
        self.texts.plan(length.schedule_epochs * length.steps(recipe.optim.accumulate))
        trained = train(model, step.batches, step.loss, rates, recipe.optim, length, surroundings, validate,
                        after_step=self.texts.after_step, shrink=self.texts.shrink)
        self.texts.refresh()
        self.stop_after = trained.best_epoch

    def _validate(self, context: Context) -> float:
        assert self.texts is not None
        assert context.validation is not None
        self.texts.refresh()
        return context.validation(self.score)

    @torch.no_grad()
    def score(self, queries: Queries) -> torch.Tensor:
        """Return logits (Q, M) of the histories and, for known users, their ids."""
        towers, texts = self._fitted()
        device = towers.bias_N.device
        text_MT = texts.table
        items_ME = towers.items(text_MT)
        indices = torch.from_numpy(queries.history.indices.astype(np.int64)).to(device)
        indptr = torch.from_numpy(queries.history.indptr.astype(np.int64)).to(device)
        history_QE = history_vectors(history_sums(items_ME, indices, indptr), indptr.diff())
        user_Q = torch.from_numpy(queries.user).to(device)
        ids_QE = towers.user_ids(user_Q.clamp_min(0)) * (user_Q >= 0)[:, None]
        return towers.logits(towers.users(history_QE, ids_QE), items_ME, towers.bias(len(items_ME)))

    @torch.no_grad()
    def score_text(self, texts: np.ndarray) -> torch.Tensor:
        """Return logits (num_texts, M) of texts read as a history of one item without an id."""
        towers, known = self._fitted()
        items_ME = towers.items(known.table)
        history_QE = towers.text(known.vectors(list(texts)))
        no_ids = torch.zeros_like(history_QE)
        return towers.logits(towers.users(history_QE, no_ids), items_ME, towers.bias(len(items_ME)))

    def chosen(self) -> Recipe:
        """Return the recipe with the number of epochs that validation chose."""
        return replace(self.recipe, head=replace(self.settings, stop_after=self.stop_after))

    def add_items(self, items: Entities) -> None:
        """Append items by their texts; they have no id and no bias."""
        _, texts = self._fitted()
        texts.add(list(items.texts))

    def state(self) -> dict[str, np.ndarray]:
        """Return the towers, the item texts' vectors and what was trained of the encoder."""
        towers, texts = self._fitted()
        own = {f"towers.{name}": tensor.cpu().numpy() for name, tensor in towers.state_dict().items()}
        return own | texts.state()

    def load(self, state: dict[str, np.ndarray], users: Entities, items: Entities, context: Context) -> None:
        """Take what `state` returned."""
        recipe = self.recipe
        self.texts = ItemTexts.loaded(recipe.encoder, recipe.peft, state, context.device)
        self.towers = Towers(len(users), len(items), self.texts.size, self.settings, recipe.loss)
        own = {name.removeprefix("towers."): torch.from_numpy(value) for name, value in state.items()
               if name.startswith("towers.")}
        try:
            self.towers.load_state_dict(own)
        except RuntimeError as error:
            raise ArtifactError(f"model.safetensors does not fit the two_tower head of config.yaml: {error}; train the "
                                f"model again") from error
        self.towers.to(context.device).eval()

    def _fitted(self) -> tuple[Towers, ItemTexts]:
        assert self.towers is not None, "fit or load first"
        assert self.texts is not None
        return self.towers, self.texts


class _Step:
    """The batches of an epoch and the loss of a batch."""

    def __init__(self, head: TwoTower, interactions: Interactions, device: torch.device) -> None:
        self.towers, self.texts = head._fitted()
        self.settings, self.recipe, self.device = head.settings, head.recipe, device
        self.matrix = interactions.matrix
        self.user, self.item = interactions.user, interactions.item
        self.num_batches = max(1, math.ceil(len(interactions) / head.recipe.optim.batch_size))
        size = len(interactions) / self.num_batches
        share_N = interactions.item_counts / max(1, len(interactions))
        # The chance that an item is in a step of B interactions, 1 - (1 - q)^B.
        with np.errstate(divide="ignore"):
            log_chance_N = np.log(-np.expm1(size * np.log1p(-share_N)))
        self.log_chance_N = torch.from_numpy(log_chance_N.astype(np.float32)).to(device)
        self.warm_items = np.flatnonzero(interactions.item_counts)

    def batches(self, epoch: int, generator: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows of the interactions (B,) and a seed each, in an order that depends on nothing else."""
        order = generator.permutation(len(self.user))
        seeds = generator.integers(2**62, size=(self.num_batches, 2))
        # Parts of equal size: a small rest would be a step with hardly a negative in it.
        yield from zip(np.array_split(order, self.num_batches), seeds, strict=True)

    def loss(self, batch: tuple[np.ndarray, np.ndarray]) -> torch.Tensor:
        """Return the loss of a batch, under attack too where there is an adversary."""
        rows, seeds = batch
        generator = np.random.default_rng(seeds)
        user_B, item_B = self.user[rows], self.item[rows]
        negatives = self._negatives(generator)
        items_R, place = np.unique(np.concatenate([item_B, negatives]), return_inverse=True)
        target_B = torch.from_numpy(place[:len(rows)]).to(self.device)
        is_known_BR = torch.from_numpy(self.matrix[user_B][:, items_R].toarray() > 0).to(self.device)
        keep_N = self._kept(generator, len(self.log_chance_N))
        keep_B = self._kept(generator, len(rows))
        history = self._history(user_B)
        rows_R = torch.from_numpy(items_R).to(self.device)
        live_L = rows_R[torch.from_numpy(self._encoded(generator, items_R)).to(self.device)]

        def logits(text_NT: torch.Tensor) -> torch.Tensor:
            items_NE = self.towers.items(text_NT, keep_N)
            sums_BE, lengths_B = history(items_NE)
            own_BE = items_NE[rows_R[target_B]]
            history_BE = history_vectors(sums_BE - own_BE, lengths_B - 1)
            ids_BE = self.towers.user_ids(torch.from_numpy(user_B).to(self.device)) * keep_B[:, None]
            users_BE = self.towers.users(history_BE, ids_BE)
            bias_R = (self.towers.bias_N * keep_N)[rows_R]
            return self.towers.logits(users_BE, items_NE[rows_R], bias_R)

        def of(text_NT: torch.Tensor) -> torch.Tensor:
            return self._of_logits(logits(text_NT), target_B, is_known_BR, rows_R)

        return self.texts.loss_with(live_L, rows_R, of, self.recipe.adversarial, adversarial_loss, logits)

    def _of_logits(self, logits_BR: torch.Tensor, target_B: torch.Tensor, is_known_BR: torch.Tensor,
                   rows_R: torch.Tensor) -> torch.Tensor:
        loss = self.recipe.loss
        if isinstance(loss, Softmax):
            log_q_R = loss.popularity_correction * self.log_chance_N[rows_R]
            return softmax_loss(logits_BR, target_B, log_q_R, is_known_BR)
        positive_B = logits_BR.gather(1, target_B[:, None])[:, 0]
        if isinstance(loss, Bpr):
            return bpr_loss(positive_B, logits_BR, is_known_BR)
        assert isinstance(loss, Bce | Mse)
        # Positives count as much as their negatives together, so that more negatives do not drown them.
        measure = bce_loss if isinstance(loss, Bce) else mse_loss
        negative = logits_BR[~is_known_BR]
        of_positives = measure(positive_B, torch.ones_like(positive_B))
        # The mean of nothing is NaN: a last batch of one user who knows every item that was drawn.
        return of_positives + measure(negative, torch.zeros_like(negative)) if len(negative) else of_positives

    def _negatives(self, generator: np.random.Generator) -> np.ndarray:
        loss = self.recipe.loss
        if isinstance(loss, Softmax):
            return np.zeros(0, np.int64)
        return generator.choice(self.warm_items, min(loss.num_negatives, len(self.warm_items)), replace=False)

    def _kept(self, generator: np.random.Generator, size: int) -> torch.Tensor:
        kept = (generator.random(size) >= self.settings.id_dropout).astype(np.float32)
        return torch.from_numpy(kept).to(self.device)

    def _encoded(self, generator: np.random.Generator, items_R: np.ndarray) -> np.ndarray:
        most = self.settings.encoded_items
        if most is None or most >= len(items_R):
            return np.arange(len(items_R))
        return np.sort(generator.choice(len(items_R), most, replace=False))

    def _history(self, user_B: np.ndarray) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        """Return a function of item vectors (N, E) to the histories' sums (B, E) and lengths (B,)."""
        users, place = np.unique(user_B, return_inverse=True)
        rows: sp.csr_array = self.matrix[users]
        indices = torch.from_numpy(rows.indices.astype(np.int64)).to(self.device)
        indptr = torch.from_numpy(rows.indptr.astype(np.int64)).to(self.device)
        place_B = torch.from_numpy(place).to(self.device)
        return lambda items_NE: (history_sums(items_NE, indices, indptr)[place_B], indptr.diff()[place_B])
