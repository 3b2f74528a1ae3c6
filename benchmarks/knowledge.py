"""A knowledge graph of ten million triples: prepare, then reading features of one and two hops.

    python benchmarks/knowledge.py [triples] [items]     (default: 10000000 200000)

Synthetic data: 20 relations, a million entities with Zipf-distributed tails, so that hubs have a million triples; half
of the items are linked. Prints time and peak memory of each process, including its start.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from prepare import LLMREC, timed

NUM_ENTITIES, STEP = 1_000_000, 2_000_000
READ = """
import resource, sys, time
from llmrec_cli.data.prepared import read_prepared
started = time.perf_counter()
knowledge = read_prepared(sys.argv[1]).knowledge
one = time.perf_counter() - started
two = knowledge.two_hops
print(f"one hop: {one:.1f} s, {knowledge.features.shape[1]:,} features, {knowledge.features.nnz:,} entries; "
      f"two hops: {time.perf_counter() - started - one:.1f} s, {two.shape[1]:,} features, {two.nnz:,} entries; "
      f"memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
"""


def generate(folder: Path, num_triples: int, num_items: int) -> None:
    """Write triples.csv, links.csv and clicks.csv."""
    rng = np.random.default_rng(0)
    shares = np.cumsum(1 / np.arange(1, NUM_ENTITIES + 1))
    with pa.csv.CSVWriter(folder / "triples.csv", pa.schema([(name, pa.string()) for name in
                                                             ("head", "relation", "tail")])) as writer:
        for start in range(0, num_triples, STEP):
            size = min(STEP, num_triples - start)
            tails = np.searchsorted(shares / shares[-1], rng.random(size))
            columns = [np.char.add(letter, numbers.astype(str)) for letter, numbers in
                       (("m", rng.integers(0, NUM_ENTITIES, size)), ("r", rng.integers(0, 20, size)), ("m", tails))]
            writer.write_table(pa.table(columns, names=["head", "relation", "tail"]))
    items = np.arange(num_items)
    linked = items[::2]
    entity = rng.permutation(NUM_ENTITIES)[:len(linked)]
    pa.csv.write_csv(pa.table({"item_id": linked, "entity_id": np.char.add("m", entity.astype(str))}),
                     folder / "links.csv")
    pa.csv.write_csv(pa.table({"user_id": rng.integers(0, 10_000, 2 * num_items), "item_id": np.tile(items, 2)}),
                     folder / "clicks.csv")


def main(num_triples: int = 10_000_000, num_items: int = 200_000) -> None:
    """Print time and memory of each step."""
    folder = Path(tempfile.mkdtemp())
    try:
        generate(folder, num_triples, num_items)
        out = folder / "prepared"
        command = [LLMREC, "prepare", f"dataset.interactions={folder / 'clicks.csv'}", "split=random",
                   f"dataset.knowledge={folder / 'triples.csv'}", f"dataset.links={folder / 'links.csv'}",
                   "engine.memory=2GB", f"output={out}"]
        wall, cpu, memory = timed(command, folder)
        print(f"prepare of {num_triples:,} triples: {wall:.1f} s ({cpu:.1f} of processor), {memory:.2f} GiB")
        print(subprocess.run([sys.executable, "-c", READ, str(out)], capture_output=True, text=True,
                             check=True).stdout.strip())
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
