"""Gain of a fusion's learned weights over its best member, on training queries of the weights and on other queries.

    python benchmarks/fusion.py <prepared> [--halves 16] [override ...]

The overrides are those of `llmrec finetune`, for example `experiment=movielens_100k`, and define the members of a
fusion. Each member is fitted once on the training interactions. Weights are then learned on a random half of the
validation queries, --halves times, and measured on that half, on the other half and on test (with the training history;
validation items are left out of the lists). For comparison, the earlier rule: coordinate ascent on the half from the
best member, accepting any gain. All gains are over the member that is best on the half used for learning.
"""

import argparse
import time
from dataclasses import replace

import numpy as np
import torch

from llmrec_cli.config import compose
from llmrec_cli.data.prepared import PreparedData, read_prepared
from llmrec_cli.data.queries import known_users
from llmrec_cli.heads.base import Context
from llmrec_cli.heads.fusion.fast_validation import WeightedMetric, gather, sample_queries
from llmrec_cli.heads.fusion.head import MOST_QUERIES, Fusion
from llmrec_cli.heads.fusion.weights import Weights, coordinate_ascent, learn
from llmrec_cli.scoring.validation import Validation, validation_of
from llmrec_cli.settings.head import FusionSettings, ModelConfig


def main() -> None:
    """Fit the members, learn and measure on each half, print the gains."""
    parser = argparse.ArgumentParser()
    parser.add_argument("prepared")
    parser.add_argument("--halves", type=int, default=16)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()
    data = read_prepared(arguments.prepared)
    cfg = compose("finetune", [*arguments.overrides, "device=cpu"])
    validation = validation_of(data, cfg.monitor)
    assert validation is not None, "the prepared data has no validation split"
    started = time.process_time()
    fusion = fitted(cfg.config, data, Context(torch.device("cpu"), cfg.seed, validation))
    print(f"members fitted in {time.process_time() - started:.1f} CPU s")
    started = time.process_time()
    with torch.inference_mode():
        scored, test = (WeightedMetric(gather(fusion.scaled_members(), sample_queries(part, MOST_QUERIES, cfg.seed),
                                              fusion.cold_N))
                        for part in (validation, test_of(data, validation)))
    print(f"scores gathered in {time.process_time() - started:.1f} CPU s, {scored.num_queries:,} validation queries")
    gains = [gains_of(scored, test, seed) for seed in range(arguments.halves)]
    print_table(scored, gains)


def fitted(config: ModelConfig, data: PreparedData, context: Context) -> Fusion:
    """Return the fusion of a model config with fitted members and equal weights."""
    assert isinstance(config.head, FusionSettings)
    equal = dict.fromkeys(config.head.members, 1.0)
    head = Fusion(replace(config, head=replace(config.head, weights=equal)))
    head.fit(data.training("train"), context)
    return head


def test_of(data: PreparedData, validation: Validation) -> Validation:
    """Return the test interactions of known users as a `Validation`."""
    train, test = data.part("train"), data.part("test")
    users = np.unique(test.user[np.diff(train.matrix.indptr)[test.user] > 0])
    queries = known_users(users, data.users.ids, train.matrix, data.part("train", "valid").matrix, data.users)
    return Validation(queries, test.matrix[users], validation.ranks, validation.monitor)


def gains_of(scored: WeightedMetric, test: WeightedMetric, seed: int) -> dict[str, dict[str, float]]:
    """Return the gains of both rules over the best member, on both halves and on test."""
    half, other = np.array_split(np.random.default_rng([seed, 7]).permutation(scored.num_queries), 2)
    started = time.process_time()
    learned = learn(scored, seed, half)
    seconds = time.process_time() - started
    best = max(learned.alone, key=lambda name: learned.alone[name])
    single = Weights(dict.fromkeys(scored.names, 0.0) | {best: 1.0}, {}, {}, 0)
    any_gain = coordinate_ascent(single.all, scored.names, lambda tried: scored.values(tried, {})[half])

    def gains_with(weights: Weights) -> dict[str, float]:
        gain_Q, of_test_Q = (weights.values(part) - single.values(part) for part in (scored, test))
        return {"where learned": gain_Q[half].mean(), "other half": gain_Q[other].mean(), "test": of_test_Q.mean()}

    extra = {"fusions kept": float(any(step.is_kept for step in learned.steps)), "CPU s": seconds}
    return {"any gain": gains_with(replace(single, all=any_gain)), "held out": gains_with(learned.weights) | extra}


def print_table(scored: WeightedMetric, gains: list[dict[str, dict[str, float]]]) -> None:
    """Print the members alone and the mean gains of each rule with their standard errors over the halves."""
    alone = {name: float(scored.values({name: 1.0}, {}).mean()) for name in scored.names}
    print("alone on validation: " + ", ".join(f"{name} {value:.4f}" for name, value in alone.items()))
    for rule in gains[0]:
        for column in gains[0][rule]:
            values = np.array([gain[rule][column] for gain in gains])
            error = values.std(ddof=1) / len(values)**0.5 if len(values) > 1 else float("nan")
            print(f"{rule:10} {column:14} {values.mean():+.4f} (standard error {error:.4f}, "
                  f"{(values > 0).sum()} of {len(values)} above 0, {(values < 0).sum()} below)")
    together = learn(scored, 0)
    print("learned on all of validation: " + ", ".join(
        f"{name} {weight:g}" for name, weight in together.weights.without_zeros().all.items()))
    for step in together.steps:
        print(f"  {step.name}: {step.held_out} held out in turn: {'kept' if step.is_kept else 'not kept'}")


if __name__ == "__main__":
    main()
