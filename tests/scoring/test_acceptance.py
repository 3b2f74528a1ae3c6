"""A choice replaces the simpler alternative only with a gain above its standard error."""

import numpy as np
import pytest

from llmrec_cli.scoring.acceptance import accepted


def test_a_gain_above_its_standard_error_is_accepted() -> None:
    # Mean .3; deviations -.3, .1, -.1, .3 give a variance of .2 / 3 and a standard error of sqrt(.2 / 3 / 4) = .1291.
    result = accepted(np.array([0.0, 0.4, 0.2, 0.6]))
    assert result.gain == pytest.approx(0.3)
    assert result.standard_error == pytest.approx((0.2 / 12) ** 0.5)
    assert (result.num_queries, result.is_accepted) == (4, True)


def test_a_gain_below_its_standard_error_is_not() -> None:
    # Mean .1; deviations -.5, .5, -.3, .3 give sqrt(.68 / 3 / 4) = .238.
    result = accepted(np.array([-0.4, 0.6, -0.2, 0.4]))
    assert result.gain == pytest.approx(0.1)
    assert result.standard_error == pytest.approx((0.68 / 12) ** 0.5)
    assert not result.is_accepted


def test_a_margin_multiplies_the_standard_error() -> None:
    # The gain of .3 is 2.3 standard errors of .1291.
    assert accepted(np.array([0.0, 0.4, 0.2, 0.6]), margin=2.3).is_accepted
    assert not accepted(np.array([0.0, 0.4, 0.2, 0.6]), margin=2.4).is_accepted


def test_losses_and_equal_values_are_never_accepted_and_a_constant_gain_always_is() -> None:
    assert not accepted(np.array([-0.3, -0.2, -0.4])).is_accepted
    assert not accepted(np.zeros(50)).is_accepted
    assert accepted(np.full(3, 0.25)).is_accepted


@pytest.mark.parametrize("gains", [[], [0.9]])
def test_with_fewer_than_two_queries_the_simpler_choice_stays(gains: list[float]) -> None:
    result = accepted(np.array(gains))
    assert not result.is_accepted
    assert result.facts()["standard_error"] is None
    assert "no standard error" in str(result)


def test_gain_error_and_number_of_queries_are_written_for_people() -> None:
    assert str(accepted(np.array([0.0, 0.4, 0.2, 0.6]))) == "+0.3000, standard error 0.1291, 4 queries"
