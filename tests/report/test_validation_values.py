"""Runs compared by the validation metric of each query."""

import numpy as np

from llmrec_cli.report.validation_values import ComparedRun, read_values, recommendation, write_values

IDS = np.array([f"u{n}" for n in range(100)], object)


def run(name, cold, warm, seconds, ids=IDS):
    return ComparedRun(name, {"cold": (ids, np.asarray(cold)), "all": (ids, np.asarray(warm))}, seconds)


def around(mean, noise=0.0):
    """Values with this mean; `noise` is added to one half and subtracted from the other."""
    return mean + noise * np.tile([1.0, -1.0], 50)


def test_values_are_read_as_they_were_written(tmp_path):
    values = {"all": (IDS[:3], np.array([0.5, 0.0, 1.0])), "cold": (IDS[1:3], np.array([0.25, 0.75]))}
    write_values(tmp_path / "v.parquet", values)
    read = read_values(tmp_path / "v.parquet")
    for part, (ids, numbers) in values.items():
        assert read[part][0].tolist() == ids.tolist()
        assert read[part][1].tolist() == numbers.tolist()


def test_the_fastest_run_that_is_not_measurably_below_the_highest_is_recommended():
    # slow - near: +.01 in the mean, deviations of .2: 2.2414 standard errors for two comparisons, .01 +- .0451.
    slow, near = run("encoder=slow", around(0.31), around(0.5), 90), run("encoder=near", around(0.30, 0.2),
                                                                        around(0.5), 5)
    fast = run("encoder=fast", around(0.2), around(0.5), 1)
    text = recommendation([slow, near, fast], "ndcg@10")
    assert text == ("recommended: encoder=near: ndcg@10 on cold items 0.3000, not measurably below encoder=slow "
                    "(0.3100; difference -0.0100 [-0.0551, +0.0351]); ndcg@10 on all items 0.5000, not measurably "
                    "below encoder=slow (0.5000; difference +0.0000 [+0.0000, +0.0000]); the fastest of 2 such runs, "
                    "5.0 s")


def test_a_run_below_the_highest_on_all_items_gives_way_to_one_that_is_not():
    runs = [run("a", around(0.3), around(0.4), 1), run("b", around(0.3), around(0.5), 7)]
    assert recommendation(runs, "ndcg@10").startswith("recommended: b: ")


def test_cold_items_decide_where_no_run_is_among_the_best_on_both():
    runs = [run("warm", around(0.1), around(0.5), 1), run("cold", around(0.3), around(0.4), 7)]
    assert recommendation(runs, "ndcg@10") == (
        "recommended: cold: the highest ndcg@10 on cold items (0.3000); ndcg@10 on all items 0.4000, below warm "
        "(0.5000; difference -0.1000 [-0.1000, -0.1000])")


def test_runs_on_other_users_are_not_compared():
    runs = [run("a", around(0.3), around(0.4), 1), run("b", around(0.3), around(0.5), 7, IDS[::-1])]
    assert recommendation(runs, "ndcg@10") == "no recommendation: the runs were measured on different users or items"
