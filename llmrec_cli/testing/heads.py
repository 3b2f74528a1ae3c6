"""Conformance checks of heads, on the tiny shop.

Shapes: Q queries, N items.
"""

import contextlib
import tempfile
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.heads.artifact import load_recommender, save_recommender
from llmrec_cli.heads.base import Head
from llmrec_cli.scoring.scorer import recommend_lists
from llmrec_cli.scoring.topk import item_hash_ranks
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.testing.shop import Shop, copies
from llmrec_cli.testing.suite import Check

LIST_LENGTH = 8
_BY_CHANCE = 8
"""Expected items of the own genre on four random lists of LIST_LENGTH."""


@dataclass(frozen=True)
class HeadCase:
    """An example of a head, fitted once."""

    shop: Shop
    config: ModelConfig

    @cached_property
    def head(self) -> Head:
        """The fitted head. Checks must not change it; use `copy` to add items."""
        return self.fit(self.config)

    def fit(self, config: ModelConfig, **context: object) -> Head:
        """Fit a head on the training split, with validation on users or groups as usual for the head."""
        return self.shop.fit(config, **({"audience": config.head.default_audience()} | context))

    def copy(self) -> Head:
        """Return a copy of the fitted head."""
        return deepcopy(self.head)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of users and of items."""
        return len(self.shop.data.users), len(self.shop.data.items)


def scores_are_finite_float32_of_every_query_with_every_item(case: HeadCase) -> None:
    """`score` gives (Q, N) finite float32."""
    scores = case.head.score(case.shop.known_users())
    assert tuple(scores.shape) == case.shape, f"{tuple(scores.shape)} instead of {case.shape}"
    assert scores.dtype == torch.float32, f"{scores.dtype}"
    assert torch.isfinite(scores).all(), "some are NaN or infinite"


def scores_differ_between_items_and_between_users(case: HeadCase) -> None:
    """No query gets equal scores for all items; users get different ones, unless the head is not personal."""
    scores = case.head.score(case.shop.known_users())
    assert (scores.std(dim=1) > 0).all(), "a user's items all have one score"
    assert bool((scores.std(dim=0) > 0).any()) == case.head.is_personal, \
        f"is_personal={case.head.is_personal} contradicts the scores"


def a_query_without_a_history_gets_finite_scores(case: HeadCase) -> None:
    """A user without a history gets scores too."""
    scores = case.head.score(case.shop.new_users([[], ["i0"]]))
    assert tuple(scores.shape) == (2, case.shape[1]), f"{tuple(scores.shape)}"
    assert torch.isfinite(scores).all(), "some are NaN or infinite"


def scores_do_not_depend_on_the_other_queries(case: HeadCase) -> None:
    """A query in another block gets the same scores."""
    queries = case.shop.known_users()
    together = case.head.score(queries)
    for block in (slice(0, 1), slice(7, 20), slice(len(queries) - 1, len(queries))):
        torch.testing.assert_close(case.head.score(queries.rows(block)), together[block], rtol=1e-4, atol=1e-5)


def scores_do_not_depend_on_what_is_left_out_of_the_list(case: HeadCase) -> None:
    """`queries.seen` is only left out of lists; scores come from `queries.history`."""
    queries = case.shop.known_users()
    usual = case.head.score(queries).clone()
    for fill in (np.zeros, np.ones):
        seen = sp.csr_array(fill(queries.seen.shape, np.float32))
        assert torch.equal(case.head.score(replace(queries, seen=seen)), usual), "seen items change the scores"


def scoring_twice_gives_the_same_bits(case: HeadCase) -> None:
    """Scoring is deterministic."""
    queries = case.shop.known_users()
    assert torch.equal(case.head.score(queries).clone(), case.head.score(queries)), "the second scores differ"


def scoring_leaves_the_queries_as_they_are(case: HeadCase) -> None:
    """Other heads score the same queries, those of a fusion for instance."""
    queries = case.shop.known_users()
    before = deepcopy(queries)
    case.head.score(queries)
    for name in ("history", "seen"):
        ours, theirs = getattr(queries, name), getattr(before, name)
        assert np.array_equal(ours.data, theirs.data), f"`score` changed queries.{name}.data"
        assert np.array_equal(ours.indices, theirs.indices), f"`score` changed queries.{name}.indices"
    assert np.array_equal(queries.user, before.user), "`score` changed queries.user"


def values_and_ages_of_interactions_change_the_scores(case: HeadCase) -> None:
    """`weight` and `decay` have an effect, or the settings class says `weighs = False` and refuses them."""
    settings = case.config.head
    if not settings.weighs or settings.weight is not None or settings.decay is not None:
        return
    queries = case.shop.known_users_with_values()
    usual = case.fit(case.config, validation=None).score(queries)
    weighted, decayed = replace(settings, weight="value"), replace(settings, decay=1.0)
    for key, changed in (("weight=value", weighted), ("decay=1", decayed)):
        head = case.fit(replace(case.config, head=changed), validation=None)
        assert not torch.equal(head.score(queries), usual), \
            (f"head.{key} changes no score; fit with `llmrec_cli.data.weights.fit_weights`, score from "
             f"`self.history(queries)`, or set `weighs = False` in the settings class")


def fitting_twice_with_a_seed_gives_the_same_bits(case: HeadCase) -> None:
    """All randomness comes from `context.seed`."""
    first, again = case.head.state(), case.fit(case.config).state()
    assert first.keys() == again.keys(), f"{sorted(first.keys() ^ again.keys())}"
    for name, value in first.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)


def a_saved_head_scores_the_same_bits_from_its_folder_alone(case: HeadCase) -> None:
    """`state` and `read` restore everything, also from a moved folder; the loaded head accepts new items."""
    shop, head = case.shop, case.head
    with tempfile.TemporaryDirectory() as folder:
        save_recommender(Path(folder) / "model", head, shop.data, ("train",), {"metrics": {}})
        elsewhere = Path(folder) / "elsewhere"
        elsewhere.mkdir()
        (Path(folder) / "model").rename(elsewhere / "copy")
        with contextlib.chdir(elsewhere):
            loaded = load_recommender(elsewhere / "copy", shop.context(validation=None)).head
            assert torch.equal(loaded.score(shop.known_users()), head.score(shop.known_users())), \
                "the scores of the loaded head differ"
            assert loaded.tuned_config().head.kind == head.tuned_config().head.kind, "the loaded head has another kind"
            if head.supports_text_queries:
                texts = np.array(["robots on the moon", ""], object)
                torch.testing.assert_close(loaded.score_text(texts), head.score_text(texts))
            ours = case.copy()
            for each in (ours, loaded):
                each.add_items(copies(shop.data.items))
            queries = shop.known_users(num_added=3)
            torch.testing.assert_close(loaded.score(queries), ours.score(queries))


def a_new_user_gets_the_scores_of_a_known_user_with_the_same_history(case: HeadCase) -> None:
    """Scores come from the history only, unless the head has uses_identity."""
    if case.head.uses_identity:
        return
    rows = [0, 7, 33]
    new, old = case.shop.new_users(case.shop.histories(rows)), case.shop.known_users(rows)
    assert torch.equal(case.head.score(new), case.head.score(old)), \
        "a known user's scores differ; set uses_identity if they depend on more than the history"


def a_new_user_is_recommended_what_goes_with_the_history(case: HeadCase) -> None:
    """Users love one genre; lists for histories of one genre have twice as much of it as by chance."""
    if not (case.head.is_personal and case.config.head.learns_in_a_second) or case.config.head.ranks_seen_only:
        return
    shop = case.shop
    queries = shop.new_users(shop.lovers())
    lists = recommend_lists(case.head.score, queries, LIST_LENGTH, item_hash_ranks(shop.data.items.ids))
    own = shop.num_of_own_genre(lists.items_QK)
    assert own > 14, f"{own} of 32 items have the genre of the history; {_BY_CHANCE} would by chance"


def added_items_get_scores_and_leave_those_of_the_others_alone(case: HeadCase) -> None:
    """`add_items` appends, also repeatedly, and leaves other scores unchanged."""
    (num_users, num_items), items, head = case.shape, case.shop.data.items, case.copy()
    before = head.score(case.shop.known_users()).clone()
    head.add_items(copies(items))
    after = head.score(case.shop.known_users(num_added=3))
    assert tuple(after.shape) == (num_users, num_items + 3), f"{tuple(after.shape)}"
    assert torch.isfinite(after).all(), "some are NaN or infinite"
    if not head.members:  # Members' scores are scaled by the mean and deviation over the whole catalogue.
        torch.testing.assert_close(after[:, :num_items], before, rtol=1e-4, atol=1e-5)
    head.add_items(copies(items, (5,)))
    assert tuple(head.score(case.shop.known_users(num_added=4)).shape) == (num_users, num_items + 4), "the second time"


def an_added_item_is_scored_by_what_is_known_of_it_or_is_never_ahead(case: HeadCase) -> None:
    """New items with equal texts and attributes get equal scores.

    A head that uses neither gives new items 0, or at most the lowest score of a known item.
    """
    head, num_items = case.copy(), case.shape[1]
    head.add_items(copies(case.shop.data.items, (0, 1, 0)))
    scores = head.score(case.shop.known_users(num_added=3))
    new, lowest = scores[:, num_items:], scores[:, :num_items].min(dim=1, keepdim=True).values
    torch.testing.assert_close(new[:, 0], new[:, 2])
    is_scored = bool((new.std(dim=0) > 0).all() and (new[:, 0] != new[:, 1]).any())
    if head.item_texts is not None:
        assert is_scored, "the head uses item texts, but items with different texts get the same score"
    assert is_scored or (new == 0).all() or (new <= lowest).all(), \
        "an item without text and attributes ranks above known items"


def texts_are_answered_with_scores_of_their_own(case: HeadCase) -> None:
    """`score_text` gives finite scores, equal only for equal texts, if the head supports text queries."""
    if not case.head.supports_text_queries:
        return
    texts = np.array([*case.shop.data.items.texts[:10], "", case.shop.data.items.texts[0]], object)
    scores = case.head.score_text(texts)
    assert tuple(scores.shape) == (12, case.shape[1]), f"{tuple(scores.shape)}"
    assert scores.dtype == torch.float32, f"{scores.dtype}"
    assert torch.isfinite(scores).all(), "some are NaN or infinite"
    torch.testing.assert_close(scores[11], scores[0])
    different = (scores[:10, None] != scores[None, :10]).any(dim=2).sum()
    assert different == 90, "two different texts get the same scores"


def making_lists_does_not_change_what_is_scored_next(case: HeadCase) -> None:
    """Making lists does not change the head."""
    queries = case.shop.known_users()
    before = case.head.score(queries).clone()
    recommend_lists(case.head.score, queries, 5, item_hash_ranks(case.shop.data.items.ids))
    assert torch.equal(case.head.score(queries), before), "scores changed after a list was made"


def what_validation_chose_can_be_fitted_without_validation(case: HeadCase) -> None:
    """`tuned_config()` is the model config of a refit, which leaves nothing to choose."""
    config = case.head.tuned_config()
    head = case.fit(config, validation=None)
    assert torch.isfinite(head.score(case.shop.known_users())).all(), "some scores are NaN or infinite"
    assert head.tuned_config() == config, "the refit has another config"


def stated_memory_is_at_least_half_of_what_is_learned(case: HeadCase) -> None:
    """`estimate_memory` covers the fitted tensors: a lower bound independent of the machine's load."""
    estimate = case.head.estimate_memory(case.shop.data.training("train"))
    num_bytes = sum(array.nbytes for array in case.head.state().values())
    assert estimate > 0, "estimate_memory is 0"
    assert estimate >= num_bytes / 2, f"estimate_memory is {estimate:,} bytes, fitted tensors have {num_bytes:,}"


HEAD_CHECKS: tuple[Check[HeadCase], ...] = (
    scores_are_finite_float32_of_every_query_with_every_item, scores_differ_between_items_and_between_users,
    a_query_without_a_history_gets_finite_scores, scores_do_not_depend_on_the_other_queries,
    scores_do_not_depend_on_what_is_left_out_of_the_list, scoring_twice_gives_the_same_bits,
    scoring_leaves_the_queries_as_they_are, values_and_ages_of_interactions_change_the_scores,
    fitting_twice_with_a_seed_gives_the_same_bits, a_saved_head_scores_the_same_bits_from_its_folder_alone,
    a_new_user_gets_the_scores_of_a_known_user_with_the_same_history,
    a_new_user_is_recommended_what_goes_with_the_history, added_items_get_scores_and_leave_those_of_the_others_alone,
    an_added_item_is_scored_by_what_is_known_of_it_or_is_never_ahead, texts_are_answered_with_scores_of_their_own,
    making_lists_does_not_change_what_is_scored_next, what_validation_chose_can_be_fitted_without_validation,
    stated_memory_is_at_least_half_of_what_is_learned)
