"""loss=readers against hand-worked numbers, a brute-force oracle and finite differences."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from llmrec_cli.settings.loss import ReadersSettings
from llmrec_cli.training.losses.readers import Readers, leave_one_out, readers_loss, sample_users

CPU = torch.device("cpu")


def random_loss(seed=0, users=9, items=7, size=5, **settings):
    """Return a matrix, unit vectors float64 (items, size), and the loss with a bank of other unit vectors."""
    rng = np.random.default_rng(seed)
    matrix = (rng.random((users, items)) < 0.4).astype(np.float32)
    vectors, bank = (torch.nn.functional.normalize(torch.from_numpy(rng.standard_normal((items, size))), dim=1)
                     for _ in range(2))
    loss = Readers(sp.csr_array(matrix), ReadersSettings(**settings), CPU).double()
    loss.length_U = loss.length_U.double()
    loss.refresh(bank)
    return matrix, vectors, bank, loss


def test_the_loss_of_two_users_and_three_items_worked_by_hand():
    """User 0 read items 0 and 1, user 1 items 1 and 2; products are chosen so that exponentials are whole numbers."""
    readers = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    products = torch.tensor([[math.log(3), 0.0], [0.0, 0.0], [0.0, math.log(2)]])
    activity, scale = torch.zeros(2), torch.zeros(2)
    # Users: item 0 gives its reader 3/4, item 1 its two readers 1/2 each, item 2 its reader 2/3.
    of_users = -(math.log(3 / 4) + math.log(1 / 2) + math.log(2 / 3)) / 3
    # Items: user 0 gives items 0, 1, 2 the shares 3/5, 1/5, 1/5 and read the first two; user 1 1/4, 1/4, 1/2.
    of_items = -(math.log(3 / 5) + math.log(1 / 5) + math.log(1 / 4) + math.log(1 / 2)) / 4
    for share in (0.0, 0.3, 1.0):
        assert float(readers_loss(products, readers, activity, scale, share)) == pytest.approx(
            (1 - share) * of_users + share * of_items, rel=1e-6)


def test_scale_and_activity_of_users_worked_by_hand():
    """One item, read by user 0: 2 x product of user 0 is log 4, user 1 is three times as active: 4 / (4 + 3)."""
    value = readers_loss(torch.tensor([[math.log(2), 0.0]]), torch.tensor([[1.0, 0.0]]),
                         torch.tensor([0.0, math.log(3)]), torch.tensor([math.log(2), 0.0]), 0.0)
    assert float(value) == pytest.approx(-math.log(4 / 7), rel=1e-6)


def test_users_are_the_mean_of_the_bank_over_the_rest_of_their_history():
    matrix, vectors, bank, loss = random_loss()
    kept = np.flatnonzero(matrix.sum(axis=1) > 1)
    items = torch.from_numpy(loss.rows)
    products = loss._products(vectors, items, loss._users(items))
    for row, item in enumerate(loss.rows):
        for column, user in enumerate(kept):
            rest = [other for other in np.flatnonzero(matrix[user]) if other != item]
            expected = float(vectors[item] @ bank[rest].mean(dim=0))
            assert float(products[row, column]) == pytest.approx(expected, abs=1e-6)


def test_the_whole_loss_is_that_of_an_oracle_with_loops():
    matrix, vectors, bank, loss = random_loss(seed=3, temperature=0.2, items_share=0.3)
    kept, items = np.flatnonzero(matrix.sum(axis=1) > 1), loss.rows[::2]
    cosine = {(i, u): float(vectors[i] @ bank[[j for j in np.flatnonzero(matrix[u]) if j != i]].mean(dim=0))
              for i in items for u in kept}
    of_users, pairs = 0.0, []
    for i in items:
        weight = {u: math.exp(cosine[i, u] / 0.2) * (matrix[u].sum() + 1) for u in kept}
        own = [u for u in kept if matrix[u, i]]
        of_users -= sum(math.log(weight[u] / sum(weight.values())) for u in own) / len(own) / len(items)
        pairs += [math.log(math.exp(cosine[i, u] / 0.2) / sum(math.exp(cosine[j, u] / 0.2) for j in items))
                  for u in own]
    expected = 0.7 * of_users - 0.3 * sum(pairs) / len(pairs)
    assert loss(vectors, torch.from_numpy(items)).item() == pytest.approx(expected, rel=1e-5)


def test_gradients_of_vectors_and_temperatures_are_finite_differences():
    _, vectors, _, loss = random_loss(seed=1)
    items = torch.from_numpy(loss.rows)
    loss(vectors, items)  # Sums the bank, in float64 here.

    users = loss._users(items)
    readers = users.readers_BS.double()

    def of(vectors, log_scale):
        products = leave_one_out(vectors[items], loss.bank_TD[items], loss.sums_UD, readers, loss.length_U)
        return readers_loss(products, readers, users.log_activity_S, log_scale, 0.4)

    assert torch.autograd.gradcheck(of, (vectors.requires_grad_(True),
                                         loss.log_scale_2.detach().clone().requires_grad_(True)))


def test_the_loss_falls_when_items_of_the_same_readers_have_the_same_vector():
    matrix = sp.csr_array(np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], np.float32))
    loss = Readers(matrix, ReadersSettings(), CPU)
    values = []
    for vectors in (torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]]), torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]])):
        loss.refresh(vectors)
        values.append(loss(vectors, torch.arange(4)).item())
    # Its item's user and both items of the user are certain; each has two equal ones to share the probability.
    assert values[0] == pytest.approx(math.log(2), abs=1e-6)
    assert values[1] > 5


def test_users_of_one_item_are_left_out_and_values_count_as_one():
    matrix = sp.csr_array(np.array([[3, 2, 0], [0, 0, 1], [0, 4, 0]], np.float32))
    loss = Readers(matrix, ReadersSettings(), CPU)
    assert loss.rows.tolist() == [0, 1]
    assert loss.matrix_UT.toarray().tolist() == [[1, 1, 0]]


def test_no_gradient_reaches_the_bank_and_a_refresh_replaces_it():
    matrix = sp.csr_array(np.ones((2, 3), np.float32))
    loss, vectors = Readers(matrix, ReadersSettings(), CPU), torch.eye(3).requires_grad_(True)
    loss.refresh(vectors)
    loss(vectors, torch.tensor([0])).backward()
    assert vectors.grad[1:].abs().sum() == 0
    before = loss(vectors, torch.tensor([0, 1])).item()
    with torch.no_grad():
        vectors[2] = vectors[0]
    assert loss(vectors, torch.tensor([0, 1])).item() == before
    loss.refresh(vectors)
    assert loss(vectors, torch.tensor([0, 1])).item() != before


def test_memory_grows_with_users_items_and_the_step():
    counts, lengths, settings = np.full(100, 5), np.full(200, 5), ReadersSettings()
    usual = Readers.estimate_memory(settings, counts, lengths, 16, 8)
    # 9 arrays of 16 items x 200 users, the bank, two arrays of users' sums, and three copies of 1,000 interactions.
    assert usual == 4 * 9 * 16 * 200 + 4 * 8 * (100 + 400) + 24 * 1000
    assert Readers.estimate_memory(settings, counts, np.full(400, 5), 16, 8) > usual
    assert Readers.estimate_memory(settings, counts, lengths, 32, 8) > usual


def test_a_sample_of_users_has_readers_of_each_item_and_stands_for_all():
    rng = np.random.default_rng(0)
    shares = np.array([[0.001], [0.002], [0.01], [0.02], [0.1], [0.5]])
    readers = sp.csr_array((rng.random((6, 3000)) < shares).astype(np.float32))
    rows, log_weights = sample_users(readers, 400, np.random.default_rng(1))
    assert len(rows) == len(np.unique(rows)) == 400
    found = np.diff(readers[:, rows].indptr)
    assert (found >= np.minimum(np.diff(readers.indptr), 16)).all()
    # Those drawn for an item stand for themselves, the others for all that were not drawn.
    assert np.exp(log_weights).sum() == pytest.approx(3000, rel=1e-5)


def test_the_loss_over_a_sample_estimates_that_over_all_users():
    _, vectors, _, loss = random_loss(seed=5, users=4000, items=12, size=6, temperature=1.0)
    items = torch.from_numpy(loss.rows)
    whole = loss.logits(vectors, items).exp().sum(dim=1)
    loss.settings = ReadersSettings(max_users=600, temperature=1.0)
    assert loss.logits(vectors, items).shape[1] == 600
    estimates = []
    for order in range(40):
        # Other orders of the same items draw other users.
        permuted = torch.from_numpy(np.random.default_rng(order).permutation(loss.rows))
        estimates.append(loss.logits(vectors, permuted).exp().sum(dim=1)[permuted.argsort()])
    torch.testing.assert_close(torch.stack(estimates).mean(dim=0), whole, rtol=0.01, atol=0)


def test_the_same_items_give_the_same_users_so_that_a_resumed_run_repeats_its_steps():
    _, vectors, _, loss = random_loss(seed=6, users=500, items=9)
    loss.settings = ReadersSettings(max_users=120)
    items = torch.from_numpy(loss.rows)
    assert torch.equal(loss(vectors, items), loss(vectors, items))
    gradient = torch.autograd.functional.jacobian(lambda v: loss(v, items), vectors)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0
