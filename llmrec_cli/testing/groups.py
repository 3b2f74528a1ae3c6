"""Conformance checks of heads for groups, on the tiny shop with groups of users of similar taste."""

import torch

from llmrec_cli.scoring.scorer import recommend_lists
from llmrec_cli.scoring.topk import item_hash_ranks
from llmrec_cli.testing.heads import LIST_LENGTH, HeadCase
from llmrec_cli.testing.suite import Check


def scores_of_groups_are_finite_and_do_not_depend_on_the_other_queries(case: HeadCase) -> None:
    """`score` gives (Q, N) finite float32 for groups, independent of the block, and the same bits again."""
    head, queries = case.head, case.shop.all_groups()
    together = head.score(queries).clone()
    assert tuple(together.shape) == (len(queries), case.shape[1]), f"{tuple(together.shape)}"
    assert together.dtype == torch.float32, f"{together.dtype}"
    assert torch.isfinite(together).all(), "some are NaN or infinite"
    for block in (slice(0, 1), slice(4, 11)):
        torch.testing.assert_close(head.score(queries.rows(block)), together[block], rtol=1e-4, atol=1e-5)
    assert torch.equal(head.score(queries), together), "the second scores differ"


def a_group_of_one_gets_its_members_list(case: HeadCase) -> None:
    """A group of one gets its member's list, unless the head learns groups apart from users or is not personal."""
    if not case.head.is_personal or case.head.learns_groups:
        return
    shop, ids = case.shop, case.shop.data.users.ids[:20]
    ranks = item_hash_ranks(shop.data.items.ids)
    ours, theirs = (recommend_lists(case.head.score, queries, 10, ranks, exclude_seen=False).items_QK for queries in (
        shop.queries(*({"members": [key]} for key in ids)), shop.queries(*({"user_id": key} for key in ids))))
    # Scaling may make two nearly equal scores equal.
    assert (ours == theirs).mean() > 0.98, f"only {(ours == theirs).mean():.0%} of the places are the same"
    assert (ours[:, 0] == theirs[:, 0]).all(), "the first item differs"


def members_count_once_in_any_order_and_unknown_ones_not_at_all(case: HeadCase) -> None:
    """Members are a set of known users."""
    scores = case.head.score(case.shop.queries({"members": ["u1", "u2", "u9"]}, {"members": ["u9", "u1", "u2"]},
                                               {"members": ["u2", "nobody", "u9", "u1", "u2"]}))
    torch.testing.assert_close(scores[0], scores[1])
    torch.testing.assert_close(scores[0], scores[2])


def a_group_of_unknown_members_gets_finite_scores(case: HeadCase) -> None:
    """A group without known members gets scores too."""
    scores = case.head.score(case.shop.queries({"members": ["nobody", "no one"]}, {"members": ["u1"]}))
    assert torch.isfinite(scores).all(), "some are NaN or infinite"


def users_and_groups_in_one_block_get_the_scores_that_they_get_apart(case: HeadCase) -> None:
    """A block may mix users and groups."""
    queries, score = case.shop.queries, case.head.score
    mixed = score(queries({"user_id": "u3"}, {"members": ["u1", "u2"]}, {"user_id": "u4"}))
    users = score(queries({"user_id": "u3"}, {"user_id": "u4"}))
    torch.testing.assert_close(mixed[[0, 2]], users, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mixed[1], score(queries({"members": ["u1", "u2"]}))[0], rtol=1e-4, atol=1e-5)


def people_of_one_taste_are_recommended_what_goes_with_it(case: HeadCase) -> None:
    """Lists for four users who love one genre have twice as much of it as by chance."""
    if not (case.head.is_personal and case.config.head.learns_in_a_second):
        return
    shop = case.shop
    queries = shop.queries(*({"members": [f"u{genre + 4 * n}" for n in range(4)]} for genre in range(4)))
    lists = recommend_lists(case.head.score, queries, LIST_LENGTH, item_hash_ranks(shop.data.items.ids))
    own = shop.num_of_own_genre(lists.items_QK)
    assert own > 14, f"{own} of 32 items have the genre that the members love; 8 would by chance"


GROUP_CHECKS: tuple[Check[HeadCase], ...] = (
    scores_of_groups_are_finite_and_do_not_depend_on_the_other_queries, a_group_of_one_gets_its_members_list,
    members_count_once_in_any_order_and_unknown_ones_not_at_all, a_group_of_unknown_members_gets_finite_scores,
    users_and_groups_in_one_block_get_the_scores_that_they_get_apart,
    people_of_one_taste_are_recommended_what_goes_with_it)
