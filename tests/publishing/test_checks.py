"""The checks of the gate, by hand-worked numbers."""

import numpy as np
import pytest

from llmrec_cli.publishing.checks import CHECKS, judge, learned_limit
from llmrec_cli.settings.gate import CheckSettings, GateSettings

BEFORE = {"rows": 1000.0, "users": 100.0, "items": 50.0, "newest_day": 20_000.0, "cold_share": 0.1,
          "rejected_share": 0.0, "repeated_share": 0.1, "short_share": 0.0, "covered_items": 40.0, "gini": 0.5}
GOOD = BEFORE | {"future_days": -1.0, "loss": 0.0, "slice_loss": 0.0, "gain_over_popularity": 0.1, "metric": 0.2,
                 "empty_share": 0.0, "same_share": 0.1, "kept_share": 0.6, "unknown_items": 0.0, "loads": 1.0,
                 "other_share": 0.0, "seconds_per_list": 0.01, "gib": 0.1, "newest_day": 20_001.0}


def failed(history=(), settings=None, **changed: float) -> list[str]:
    """Names of the checks that fail with these facts changed."""
    findings = judge(settings or GateSettings(), GOOD | changed, BEFORE, list(history))
    return [one.check for one in findings if one.passed is False]


def test_every_check_has_a_setting_and_passes_a_version_like_the_one_before() -> None:
    names = {name for name, value in vars(GateSettings()).items() if isinstance(value, CheckSettings)}
    assert names == {check.name for check in CHECKS}
    findings = judge(GateSettings(), GOOD, BEFORE, [])
    assert all(one.passed for one in findings), [one for one in findings if not one.passed]


@pytest.mark.parametrize(("changed", "check"), [
    ({"rows": 699.0}, "rows"), ({"users": 69.0}, "users_in_data"), ({"items": 25.0}, "items_in_data"),
    ({"newest_day": 19_999.0}, "newest_time"), ({"future_days": 1.5}, "future_time"),
    ({"cold_share": 0.31}, "cold_items"), ({"rejected_share": 0.06}, "rejected"),
    ({"repeated_share": 0.41}, "repeated"), ({"loss": 0.011}, "regression"),
    ({"gain_over_popularity": -0.001}, "popularity"), ({"slice_loss": 0.2}, "slices"),
    ({"empty_share": 0.01}, "empty_lists"), ({"short_share": 0.1}, "short_lists"),
    ({"same_share": 0.6}, "same_lists"), ({"covered_items": 19.0}, "coverage"),
    ({"kept_share": 0.01}, "kept_items"), ({"unknown_items": 1.0}, "unknown_items"), ({"gini": 0.61}, "concentration"),
    ({"loads": 0.9}, "loads"), ({"other_share": 0.02}, "same_scores"), ({"seconds_per_list": 2.0}, "latency"),
    ({"gib": 21.0}, "size")])
def test_each_fault_fails_the_check_that_is_meant_for_it_and_no_other(changed: dict[str, float], check: str) -> None:
    assert failed(**changed) == [check]


def test_without_a_current_version_what_compares_with_it_is_not_measured() -> None:
    findings = judge(GateSettings(), GOOD, {}, [])
    open_checks = {one.check for one in findings if one.passed is None}
    assert open_checks == {"rows", "users_in_data", "items_in_data", "newest_time", "cold_items", "rejected",
                           "repeated", "short_lists", "coverage", "concentration"}
    assert not any(one.refuses for one in findings)


def test_after_seven_versions_the_limit_of_a_trend_is_learned_from_them() -> None:
    history = [{"rows": value} for value in (1.01, 1.0, 1.02, 1.01, 1.0, 1.02)]
    assert failed(history, rows=900.0) == []
    # Median 1.01, median deviation .01: 5 x 1.4826 x .01 = .0741 below is .9359.
    history.append({"rows": 1.01})
    assert failed(history, rows=930.0) == ["rows"]
    assert failed(history, rows=940.0) == []
    # A limit of one's own is not learned.
    assert failed(history, GateSettings(rows=CheckSettings(limit=0.5)), rows=600.0) == []


def test_equal_nights_do_not_make_a_limit_without_room() -> None:
    assert learned_limit([1.0] * 30, at_least=True) == pytest.approx(0.98)
    assert learned_limit([0.1] * 30, at_least=False) == pytest.approx(0.12)


def test_a_learned_limit_refuses_few_nights_of_the_same_kind() -> None:
    rng = np.random.default_rng(0)
    nights = rng.normal(1.0, 0.03, 365)
    refused = sum(nights[n] < learned_limit(nights[:n], at_least=True) for n in range(7, 365))
    assert refused <= 3


def test_a_check_warns_or_is_ignored_as_set() -> None:
    settings = GateSettings(rows=CheckSettings("warn"), loads=CheckSettings("ignore"))
    findings = {one.check: one for one in judge(settings, GOOD | {"rows": 1.0, "loads": 0.0}, BEFORE, [])}
    assert (findings["rows"].warns, findings["rows"].refuses) == (True, False)
    assert "loads" not in findings
    assert str(findings["rows"].sentence()) == ("interactions: 0.1% of those of the current version (at least 0.7; "
                                                "gate.rows)")
