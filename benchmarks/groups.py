"""Time and memory of lists for groups: 10,000 groups of 8, 50,000 items, from a fitted model to the 10 best items.

    python benchmarks/groups.py [head ...] [--groups 10000] [--members 8] [--items 50000]
    OMP_NUM_THREADS=1 torchrun --standalone --nproc_per_node 2 benchmarks/groups.py ...     two cores, as recommend

Heads: group_fusion, group_attention, group_hypergraph, group_aggregate (members' scores by iALS). The data is random:
40,000 users with 10 items each, groups with 2. The cost does not depend on the trained weights, so a head is trained
for one epoch with few negatives. Prints wall seconds, CPU seconds and the growth of peak memory, of the first process.
Not included: imports, generating the data, training.
"""

import argparse
import os
import resource
import time

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.groups import Groups, without_texts
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.queries import Queries, known_groups, known_users
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.distributed import count, is_first, join
from llmrec_cli.heads.base import Context, build
from llmrec_cli.scoring.scorer import recommend_lists
from llmrec_cli.scoring.topk import item_hash_ranks
from llmrec_cli.settings.adversarial import NoAdversarySettings
from llmrec_cli.settings.head import HEADS, GroupAggregateSettings, ModelConfig
from llmrec_cli.settings.heads.ials import IalsSettings
from llmrec_cli.settings.loss import SoftmaxSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.settings.peft import FrozenSettings

NUM_USERS, PER_USER, PER_GROUP = 40_000, 10, 2


def main() -> None:
    """Fit and score each head."""
    parser = argparse.ArgumentParser()
    parser.add_argument("heads", nargs="*", default=["group_fusion", "group_attention", "group_hypergraph"])
    for name, number in (("groups", 10_000), ("members", 8), ("items", 50_000)):
        parser.add_argument(f"--{name}", type=int, default=number)
    arguments = parser.parse_args()
    data = random_data(arguments.groups, arguments.members, arguments.items)
    print(f"{arguments.groups:,} groups of {arguments.members}, {arguments.items:,} items, {count()} processes of "
          f"{torch.get_num_threads()} threads")
    for name in arguments.heads:
        head = build(config(name))
        # Each process fits on its own; only the scoring is shared.
        started = os.environ.pop("TORCHELASTIC_RUN_ID", None)
        head.fit(data, Context(torch.device("cpu"), seed=1))
        if started is not None:
            os.environ["TORCHELASTIC_RUN_ID"] = started
        join("recommend")
        before, start, used = peak(), time.perf_counter(), time.process_time()
        lists = recommend_lists(head.score, queries(data), 10, item_hash_ranks(data.items.ids))
        seconds, cpu, memory = time.perf_counter() - start, time.process_time() - used, (peak() - before) / 2**10
        if is_first():
            print(f"{name:20}{seconds:8.1f} s{cpu:8.1f} CPU s{memory:8.0f} MiB above {before / 2**10:,.0f} MiB, "
              f"{len(lists.items_QK):,} lists", flush=True)


def config(name: str) -> ModelConfig:
    """Return the model config of a head trained for one epoch."""
    optim, loss = AdamWSettings(epochs=1, batch_size=1024), SoftmaxSettings(num_negatives=256)
    if name == "group_aggregate":
        base = ModelConfig(head=IalsSettings(embedding_size=64))
        return ModelConfig(head=GroupAggregateSettings(members={"base": base}))
    head = HEADS[name](text=False, user_weight=0.0)
    return ModelConfig(head=head, peft=FrozenSettings(), adversarial=NoAdversarySettings(), loss=loss, optim=optim)


def random_data(num_groups: int, num_members: int, num_items: int) -> TrainingData:
    """Return random data."""
    rng = np.random.default_rng(7)
    ids = {size: without_texts([f"{n}" for n in range(size)]) for size in {NUM_USERS, num_groups, num_items}}
    members = [rng.choice(NUM_USERS, num_members, replace=False, shuffle=False) for _ in range(num_groups)]
    matrix = sp.csr_array((np.ones(num_groups * num_members, np.float32), np.sort(members, axis=1).ravel(),
                           np.arange(0, num_groups * num_members + 1, num_members)), shape=(num_groups, NUM_USERS))
    together = interactions(rng, num_groups, PER_GROUP, num_items)
    groups = Groups(ids[num_groups], matrix, together, np.zeros(len(together), np.int8))
    return TrainingData(ids[NUM_USERS], ids[num_items], interactions(rng, NUM_USERS, PER_USER, num_items),
                        groups=groups)


def interactions(rng: np.random.Generator, num_rows: int, each: int, num_items: int) -> Interactions:
    """Return `each` items per row; items at the start of the catalogue are more frequent."""
    items = (num_items * rng.random((num_rows, each))**2).astype(np.int64)
    pairs = np.unique(np.stack([np.repeat(np.arange(num_rows), each), items.ravel()], axis=1), axis=0)
    return Interactions(pairs[:, 0], pairs[:, 1], np.ones(len(pairs), np.float32), np.zeros(len(pairs), np.int64),
                        num_rows, num_items)


def queries(data: TrainingData) -> Queries:
    """Return all groups."""
    users, groups = data.interactions.matrix, data.groups
    assert groups is not None
    together = groups.interactions.matrix
    return known_groups(np.arange(len(groups)), groups.entities, groups.members, together, together,
                        known_users(np.arange(len(data.users)), data.users.ids, users, users))


def peak() -> float:
    """Return the peak memory of this process in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
