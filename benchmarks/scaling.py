"""Cost of a head when users, items and interactions grow tenfold; and 20 million rows on the command line.

    python benchmarks/scaling.py [grow] [rows] [head=<name> ...] [scale=<factor>] [size=<name> ...]    (default: grow)

grow: each head on synthetic data (Zipf-distributed items), each size in a new process with one thread: seconds of the
fit and of scoring 1,000 users, measured and estimated memory of the fit. Also writes scaling.svg.
rows: 20 million rows prepared, then item_knn and ials fitted and evaluated: wall seconds and peak memory.
`head` selects the heads of both, `size` the sizes of grow (names of SIZES); `scale` multiplies all sizes.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HEADS = ("item_knn", "user_knn", "ease", "ials", "mf", "content")
BASE = (6_000, 2_000, 200_000)
MOST_SECONDS = 600
"""Time limit of a fit."""
NUM_ATTRIBUTES = 50
"""Number of synthetic attributes; each item has three."""
SIZES = {"base": BASE, "10 times the users": (60_000, 2_000, 200_000), "10 times the items": (6_000, 20_000, 200_000),
         "10 times the interactions": (6_000, 2_000, 2_000_000), "10 times all": (60_000, 20_000, 2_000_000)}


def one(head: str, num_users: int, num_items: int, num_interactions: int) -> None:
    """Fit a head on synthetic data in this process and print its cost."""
    import numpy as np
    import torch

    from llmrec_cli.data.interactions import Interactions
    from llmrec_cli.data.queries import known_users
    from llmrec_cli.data.training_data import TrainingData
    from llmrec_cli.heads.base import Context, build
    from llmrec_cli.scoring.scorer import recommend_lists
    from llmrec_cli.settings.head import HEADS as TABLE
    from llmrec_cli.settings.head import ContentSettings, ModelConfig
    from llmrec_cli.settings.heads.features import FeatureWeightsSettings
    from llmrec_cli.settings.loss import SoftmaxSettings
    from llmrec_cli.settings.optim import AdamWSettings

    rng = np.random.default_rng(0)
    shares = np.cumsum(1 / np.arange(1, num_items + 1))
    pairs = rng.integers(0, num_users, num_interactions) * num_items
    pairs = np.unique(pairs + np.searchsorted(shares / shares[-1], rng.random(num_interactions)))
    user, item = np.divmod(pairs, num_items)
    ones = np.ones(len(user), np.float32)
    rows = Interactions(user, item, ones, np.arange(len(user)), num_users, num_items)
    data = TrainingData(nameless(num_users), nameless(num_items, NUM_ATTRIBUTES), rows)
    settings = TABLE[head]()
    if isinstance(settings, ContentSettings):
        # Only the solver, without trying dozens of values for settings of null.
        settings = ContentSettings(features=FeatureWeightsSettings(text=0, attributes=1), gamma=1.0, l2=1.0,
                                   denoise=0.5,
                                   blend=0.5)
    built = build(ModelConfig(head=settings, loss=SoftmaxSettings(), optim=AdamWSettings(epochs=1)))
    context = Context(torch.device("cpu"), seed=1)
    warm_up = torch.randn(256, 256)
    torch.linalg.cholesky(warm_up @ warm_up.T + 256 * torch.eye(256))
    before = resident()
    with Peak() as peak:
        started = time.process_time()
        built.fit(data, context)
        fitted = time.process_time() - started
    queries = known_users(rng.permutation(num_users)[:1000], data.users.ids, rows.matrix, rows.matrix)
    started = time.process_time()
    recommend_lists(built.score, queries, 100, np.arange(num_items))
    scored = time.process_time() - started
    print(json.dumps({"fit": fitted, "score": scored, "stated": built.estimate_memory(data),
                      "took": peak.highest - before, "rows": len(rows)}))


def nameless(size: int, num_attributes: int = 0) -> object:
    """Return users or items without names, with three attributes each if there are attributes."""
    import numpy as np
    import scipy.sparse as sp

    from llmrec_cli.data.catalogue import Catalogue

    ids = np.arange(size).astype(str).astype(object)
    each = 3 if num_attributes else 0
    column = (np.random.default_rng(1).integers(0, max(1, num_attributes // 3), (size, each))
              + np.arange(each) * (num_attributes // 3)).ravel()
    attributes = sp.csr_array((np.ones(len(column), np.float32), column, np.arange(size + 1) * each),
                              shape=(size, num_attributes))
    return Catalogue(ids, ids, np.full(size, "", object), attributes, [f"a={n}" for n in range(num_attributes)])


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Peak:
    """Measures the peak memory of this process, a hundred times per second."""

    def __enter__(self) -> "Peak":
        self.highest, self.ended = resident(), threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.ended.wait(0.01):
            self.highest = max(self.highest, resident())

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()
        self.highest = max(self.highest, resident())


def grow(heads: list[str], sizes: list[str], scale: float) -> None:
    """Measure every head at every size and plot it."""
    results: dict[str, dict[str, dict[str, float]]] = {}
    print(f"{'head':10} {'size':26} {'fit s':>8} {'score s':>8} {'used MB':>8} {'est. MB':>9}")
    for head in heads:
        for name in sizes:
            try:
                size = [str(int(number * scale)) for number in SIZES[name]]
                done = subprocess.run([sys.executable, __file__, "one", head, *size], capture_output=True,
                                      text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
                                      timeout=MOST_SECONDS)
            except subprocess.TimeoutExpired:
                print(f"{head:10} {name:26} more than {MOST_SECONDS} s", flush=True)
                continue
            if done.returncode:
                lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
                print(f"{head:10} {name:26} {lines[-1]}", flush=True)
                continue
            cost = json.loads(done.stdout)
            results.setdefault(head, {})[name] = cost
            print(f"{head:10} {name:26} {cost['fit']:8.2f} {cost['score']:8.2f} {cost['took'] / 2**20:8.0f} "
                  f"{cost['stated'] / 2**20:9.0f}", flush=True)
    plot(results)


def plot(results: dict[str, dict[str, dict[str, float]]]) -> None:
    """Plot seconds and memory of the fit by size."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, key, unit, label in ((axes[0], "fit", 1, "CPU seconds of fit, one thread"),
                                   (axes[1], "took", 2**20, "memory of fit, MB")):
        for head, costs in results.items():
            axis.plot(list(costs), [max(cost[key], 1e-3) / unit for cost in costs.values()], "o-", label=head)
        axis.set_yscale("log")
        axis.set_title(label)
        axis.tick_params("x", rotation=20)
    axes[0].legend()
    figure.savefig("scaling.svg")
    print("scaling.svg")


def rows(heads: list[str], scale: float) -> None:
    """Run prepare, finetune and evaluate on 20 million rows, times `scale`."""
    from prepare import COMMON, LLMREC, generate, timed

    with tempfile.TemporaryDirectory(prefix="llmrec.bench.") as name:
        folder = Path(name)
        generate(folder / "rows.parquet", int(20_000_000 * scale), int(200_000 * scale), int(50_000 * scale))
        steps = [["prepare", "dataset.name=bench", f"dataset.interactions={folder / 'rows.parquet'}", *COMMON]]
        for head in heads:
            steps += [["finetune", f"head={head}", "refit=none"], ["evaluate", "baselines=[popularity]"]]
        for step in steps:
            wall, processor, memory = timed([LLMREC, *step], folder)
            print(f"{' '.join(step[:2]):26} {wall:7.1f} s, {processor:7.1f} processor s, {memory:5.2f} GiB", flush=True)


def main() -> None:
    """Run the requested modes."""
    words = sys.argv[1:]
    if words[:1] == ["one"]:
        one(words[1], *map(int, words[2:]))
        return
    heads, sizes, scales = ([word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
                            for key in ("head", "size", "scale"))
    scale = float(scales[-1]) if scales else 1.0
    for name in [word for word in words if "=" not in word] or ["grow"]:
        {"grow": lambda: grow(heads or list(HEADS), sizes or list(SIZES), scale),
         "rows": lambda: rows(heads or ["item_knn", "ials"], scale)}[name]()


if __name__ == "__main__":
    main()
