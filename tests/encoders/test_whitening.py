"""Centring, whitening and projection against hand-worked numbers and scikit-learn."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from llmrec_cli.data.tensors import TensorReader
from llmrec_cli.encoders import whitening as module
from llmrec_cli.encoders.whitening import Whitening, fit_whitening
from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.encoder import LsaSettings


@pytest.fixture
def raw():
    generator = np.random.default_rng(3)
    scales = np.array([8, 4, 2, 1, 0.5])
    rotation = np.linalg.qr(generator.normal(size=(5, 5)))[0]
    return (generator.normal(size=(4000, 5)) * scales @ rotation + 3).astype(np.float32)


def fit(raw, has_text=None, **settings):
    return fit_whitening(LsaSettings(**settings), raw, np.ones(len(raw), bool) if has_text is None else has_text)


def test_by_default_whitening_only_centres_on_items_with_text(raw):
    has_text = np.arange(len(raw)) < 10
    whitening = fit(raw, has_text)
    assert whitening.matrix_DK is None
    assert np.allclose(whitening.apply(raw), raw - raw[:10].mean(0), atol=1e-5)
    assert whitening.size == 5


def test_a_power_of_one_makes_all_variances_equal_and_a_half_takes_their_roots(raw, monkeypatch):
    monkeypatch.setattr(module, "SMALLEST_VARIANCE", 0)
    before = np.linalg.eigvalsh(np.cov(raw.T))
    full, half = (np.linalg.eigvalsh(np.cov(fit(raw, whitening=p).apply(raw).T)) for p in (1, 0.5))
    assert np.allclose(full / full[0], 1, rtol=1e-3)
    assert np.allclose(half / half[-1], np.sqrt(before / before[-1]), rtol=1e-3)
    assert half[-1] == pytest.approx(before[-1], rel=1e-3)


def test_the_whitening_matrix_is_symmetric(raw):
    matrix = fit(raw, whitening=0.5).matrix_DK
    assert np.allclose(matrix, matrix.T, atol=1e-6)
    assert np.linalg.eigvalsh(matrix).min() >= 0.99


def test_a_projection_is_scikit_learns_pca_up_to_sign(raw):
    ours = fit(raw, projection=3).apply(raw)
    theirs = PCA(3).fit_transform(raw)
    assert ours.shape == (4000, 3)
    assert np.allclose(np.abs(ours), np.abs(theirs), atol=1e-3)


def test_a_direction_without_variance_is_not_amplified():
    raw = np.random.default_rng(1).normal(size=(100, 4)).astype(np.float32)
    raw[:, 3] = 0
    matrix = fit(raw, whitening=1).matrix_DK
    assert np.isfinite(matrix).all()
    assert np.linalg.norm(matrix[3]) < 20


def test_what_was_learned_comes_back_and_fitting_again_gives_the_same_bits(raw):
    for settings in ({}, {"whitening": 0.3}, {"projection": 2, "whitening": 1.0}):
        whitening, again = fit(raw, **settings), fit(raw, **settings)
        loaded = Whitening.read(TensorReader(whitening.state()))
        assert np.array_equal(whitening.apply(raw), again.apply(raw))
        assert np.array_equal(whitening.apply(raw), loaded.apply(raw))
        assert loaded.size == whitening.size
        assert whitening.apply(raw).dtype == np.float32


def test_where_no_item_says_anything_nothing_is_learned():
    raw = np.ones((3, 4), np.float32)
    assert np.array_equal(fit(raw, np.zeros(3, bool), whitening=0.5).apply(raw), raw)
    assert fit(raw, np.zeros(3, bool), projection=2).apply(raw).shape == (3, 2)


def test_more_dimensions_than_there_are_is_refused(raw):
    with pytest.raises(ConfigError, match=r"encoder\.projection=6: the vectors of encoder=lsa have 5 dimensions"):
        fit(raw, projection=6)


def test_powers_outside_zero_to_one_are_refused():
    for settings in (LsaSettings(whitening=1.1), LsaSettings(whitening=-0.1), LsaSettings(projection=0)):
        assert len(list(settings.problems())) == 1
    assert not list(LsaSettings(whitening=1.0, projection=1).problems())
