"""CPU seconds and peak memory of `head=content` on a synthetic shop, from loaded data to a fitted head.

    OMP_NUM_THREADS=1 python benchmarks/content.py [folder] [items] [users] [interactions] [head.<setting>=<value> ...]

Defaults: 17,000 items (13,600 in training, a fifth are cold), 5,500 users and 200,000 interactions. Texts are read by
the encoder `lsa`, whose vectors are computed before the clock starts. Prints the chosen settings, CPU seconds of
choosing and fitting, the peak memory of the process, and recall@20 on the cold items.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from made_shop import prepared_shop

from llmrec_cli.config import compose
from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.data.queries import known_users
from llmrec_cli.encoders.base import open_encoder
from llmrec_cli.errors import in_bytes
from llmrec_cli.heads.base import Context, build
from llmrec_cli.heads.memory import peak
from llmrec_cli.scoring.scorer import validation_values
from llmrec_cli.scoring.topk import item_hash_ranks

CPU = torch.device("cpu")


def main() -> None:
    """Fit once and print."""
    words = [word for word in sys.argv[1:] if "=" not in word]
    settings = [word for word in sys.argv[1:] if "=" in word]
    folder = Path(words[0] if words else tempfile.mkdtemp(prefix="llmrec-content-")).resolve()
    items, users, interactions = (int(n) for n in (words[1:4] or (17_000, 5_500, 200_000)))
    data = read_prepared(prepared_shop(folder, users, items, interactions, "split=cold_items", "split.test=0.2",
                                       "split.valid=0"))
    config = compose("finetune", ["head=content", "encoder=lsa", *settings]).config
    training = data.training("train")
    context = Context(CPU, seed=1, log=lambda event, **values: print(event, values))
    trained_N = training.interactions.item_counts > 0
    vectors_of_lsa(config.encoder, list(data.items.texts), trained_N)
    head = build(config)
    print(f"{trained_N.sum():,} of {len(trained_N):,} items in training, {len(data.users):,} users, "
          f"{len(training.interactions):,} interactions; estimated memory {in_bytes(head.estimate_memory(training))}")
    before, started = usage(), time.monotonic()
    head.fit(training, context)
    print(f"{usage() - before:.1f} CPU seconds, {time.monotonic() - started:.1f} seconds, peak memory "
          f"{in_bytes(peak())}")
    train_matrix = training.interactions.matrix
    heldout = data.part("test").matrix
    rows = np.flatnonzero((np.diff(train_matrix.indptr) > 0) & (np.diff(heldout.indptr) > 0))
    cold = torch.from_numpy(~trained_N)

    def score(queries):  # type: ignore[no-untyped-def]
        scores = head.score(queries)
        return torch.where(cold, scores, scores.min() - 1)

    queries = known_users(rows, data.users.ids, train_matrix, train_matrix)
    values = validation_values(score, queries, heldout[rows], "recall@20", item_hash_ranks(data.items.ids))
    print(f"recall@20 on cold items, {len(rows):,} users: {values.mean():.4f}")


def vectors_of_lsa(settings, texts, trained_N) -> None:  # type: ignore[no-untyped-def]
    """Fit LSA once and patch every encoder with these settings to return its vectors."""
    import llmrec_cli.heads.shared.item_texts as module

    encoder = open_encoder(settings, CPU)
    encoder.fit([text for text, trained in zip(texts, trained_N, strict=True) if trained])
    vectors = encoder.encode(texts)
    encoder.fit = lambda texts: None  # type: ignore[method-assign]
    encoder.encode = lambda texts, entity="item": vectors  # type: ignore[method-assign]
    module.open_encoder = lambda *_: encoder  # type: ignore[assignment]


def usage() -> float:
    """Return the CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
