"""The sequential head and RecTools' SASRec on MovieLens-1M, leave-last-out: CPU seconds of one thread, and ndcg@10.

    python benchmarks/sequential/run.py [folder] [epochs] [--prepared <prepared data>] [--no-install]

Creates RecTools' environment in `folder` (default .peers), prepares the data there, and runs llmrec and RecTools in
turns: two layers, two attention heads, size 64, the newest 50 items, no text, fitted on train and valid, all items
ranked. llmrec runs with the softmax over the catalogue, with losses on 256 shared negatives, and with the LiGR block;
`--variant`, possibly repeated, runs only these. `--prepared` uses other prepared data; `--no-install` leaves RecTools
out if it has no environment.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "heads"))

from environments import python_of  # noqa: E402

ONE = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
SHAPE = ("64", "50")
VARIANTS = {"softmax": [], "sampled_softmax": ["loss=sampled_softmax"], "gbce": ["loss=gbce"],
            "ligr": ["loss=sampled_softmax", "head.block=ligr"]}
"""Name of a line -> settings of head=sequential."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, default=Path(".peers"))
    parser.add_argument("epochs", nargs="?", default="8")
    parser.add_argument("--prepared", type=Path)
    parser.add_argument("--no-install", action="store_true")
    parser.add_argument("--variant", action="append", choices=VARIANTS)
    arguments = parser.parse_args()
    folder, epochs = arguments.folder.resolve(), arguments.epochs
    folder.mkdir(parents=True, exist_ok=True)
    theirs = python_of("rectools", folder, not arguments.no_install)
    prepared = arguments.prepared or folder / "movielens_1m_last"
    exported = folder / f"{prepared.name}.npz"
    if arguments.prepared is None and not prepared.exists():
        subprocess.run([Path(sys.executable).with_name("llmrec"), "prepare", "experiment=movielens_1m_last",
                        f"output={prepared}"], check=True, cwd=folder)
    if arguments.prepared is not None or not exported.exists():
        subprocess.run([sys.executable, HERE.parent / "heads" / "export.py", prepared, exported], check=True)
    results = {f"sequential, {name}": run_script(sys.executable, "ours.py", prepared, epochs, VARIANTS[name])
               for name in arguments.variant or VARIANTS}
    peer = None if theirs is None else run_script(theirs, "peer_rectools.py", exported, epochs)
    for who, figures in (results if peer is None else results | {"RecTools SASRec": peer}).items():
        ratio = "" if peer is None or peer is figures else f", ratio of seconds {figures['epoch'] / peer['epoch']:.2f}"
        print(f"{who:28} {figures['epoch']:6.2f} CPU s per epoch, lists of 10 {figures['recommend']:.2f} s, after "
              f"{epochs} epochs ndcg@10 {figures['ndcg@10']:.4f}{ratio}")


def run_script(python: str, script: str, data: Path, epochs: str, settings: Sequence[str] = ()) -> dict[str, Any]:
    """Run a script and return the JSON on the last line of its output."""
    done = subprocess.run([python, HERE / script, data, epochs, *SHAPE, *settings], env=ONE,
                          capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{script}: exit code {done.returncode}\n{done.stderr}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


if __name__ == "__main__":
    main()
