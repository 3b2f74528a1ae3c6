"""Members with scores in a group, and the contribution of each member."""

from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.queries import Membership, Queries, known_users
from llmrec_cli.requests.reasons import member_contributions
from llmrec_cli.scoring import groups as module
from llmrec_cli.scoring.groups import STRATEGIES, average, member_queries, score_by_members

NUM_ITEMS = 5
HISTORIES = [[0], [1, 2], [], [3]]
"""Histories of four users; the third has none."""


def csr(rows, size=NUM_ITEMS):
    indices = np.array([n for row in rows for n in row], np.int64)
    return sp.csr_array((np.ones(len(indices), np.float32), indices, np.cumsum([0, *map(len, rows)])),
                        shape=(len(rows), size))


def asked(members, own=None, group=None):
    """Queries of groups of user numbers, with joint histories."""
    size = len(members)
    history = csr(own or [[]] * size)
    ids = np.array([f"u{n}" for n in range(4)], object)
    known = csr(HISTORIES)
    users = known_users(np.arange(4), ids, known, known)
    names, nothing = np.array([f"g{n}" for n in range(size)], object), np.full(size, "", object)
    together = Membership(np.full(size, -1) if group is None else np.array(group), users, csr(members, 4),
                          np.ones(size, bool)).select(slice(None))
    return Queries(names, nothing, np.full(size, -1), history, history, nothing, together)


def score(queries):
    """Score 1 for the items of a history, and a small score for item 4 for all users."""
    scores = torch.from_numpy(queries.history.toarray())
    scores[:, 4] += 0.5
    return scores


def test_members_with_a_history_and_the_groups_own_history_each_have_one_score():
    voices, rows = member_queries(asked([[0, 1, 2], [2]], own=[[4], []]), own_history=True)
    assert voices.ids.tolist() == ["u0", "u1", "g0"]
    assert rows.toarray().tolist() == [[1, 1, 1], [0, 0, 0]]
    voices, rows = member_queries(asked([[0, 1, 2], [2]], own=[[4], []]), own_history=False)
    assert voices.ids.tolist() == ["u0", "u1"]


def test_a_group_has_the_mean_of_its_members_scaled_scores():
    result = score_by_members(score, asked([[0, 3]]), average)[0]
    one, other = (scores[0] for scores in (score(asked([[0]]).groups.members), score(asked([[3]]).groups.members)))
    expected = [(s - s.mean()) / s.std(correction=0) for s in (one, other)]
    torch.testing.assert_close(result, (expected[0] + expected[1]) / 2)


def test_a_group_without_known_members_has_the_scores_of_an_unknown_user():
    result = score_by_members(score, asked([[2], [0]]), average)
    torch.testing.assert_close(result[0], torch.tensor([0, 0, 0, 0, 0.5]))
    assert result[1].argmax() == 0


def test_the_block_size_does_not_change_group_scores(monkeypatch):
    queries = asked([[0, 1], [1, 3], [2], [0, 1, 3], [3]], own=[[4], [], [], [2], []])
    whole = {name: score_by_members(score, queries, strategy, depth=2) for name, strategy in STRATEGIES.items()}
    monkeypatch.setattr(module, "CELLS", 2 * NUM_ITEMS)
    for name, strategy in STRATEGIES.items():
        torch.testing.assert_close(score_by_members(score, queries, strategy, depth=2), whole[name])


def test_members_are_scored_with_their_profiles_and_the_groups_history_without():
    queries = asked([[0, 1]], own=[[3]])
    members = replace(queries.groups.members, attributes=csr([[0], [1, 2]], 3), profiles=np.array(["a", "b"], object))
    voices, _ = member_queries(replace(queries, groups=replace(queries.groups, members=members)), own_history=True)
    assert voices.attributes.toarray().tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert voices.profiles.tolist() == ["a", "b", ""]
    assert voices.described.tolist() == [True, True, False]


def test_users_and_groups_may_be_asked_for_at_once():
    queries = asked([[0, 3], []])
    mixed = replace(queries, groups=replace(queries.groups, is_group=np.array([True, False])))
    assert mixed.informed.tolist() == [True, False]
    assert mixed.rows(np.array([1])).groups.is_group.tolist() == [False]


def test_a_members_contribution_is_the_score_lost_without_them():
    queries = asked([[0, 1]], own=[[3]])
    lists = np.array([[0, 1, -1]])

    def of_groups(block):
        return score(block) if block.groups is None else score_by_members(score, block, average)

    result = member_contributions(of_groups, queries, lists)
    assert result.member.tolist() == [0, 1, -1]
    whole = score_by_members(score, queries, average)[0]

    def scaled(scores):
        return (scores - scores.mean()) / scores.std(correction=0)

    without_u0 = score_by_members(score, asked([[1]], own=[[3]]), average)[0]
    without_history = score_by_members(score, asked([[0, 1]]), average)[0]
    expected = torch.stack([scaled(whole) - scaled(without_u0), scaled(whole) - scaled(without_history)])[:, :2]
    np.testing.assert_allclose(result.added_EK[[0, 2], :2], expected, rtol=1e-5)
    assert result.added_EK[0, 0] > 0 > result.added_EK[0, 1]  # u0 brought item 0 in, and holds item 1 back.
    assert np.isnan(result.added_EK[:, 2]).all()
    # Alone u0 puts all four others below item 0, and item 1 level with 2 and 3: half of two others, of four.
    np.testing.assert_allclose(result.rank_EK[0, :2], [1, 0.25])
    assert np.isnan(result.rank_EK[2]).all()
