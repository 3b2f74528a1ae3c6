"""The sequential head and RecTools' SASRec on MovieLens-1M, leave-last-out: CPU seconds of one thread, and ndcg@10.

    python benchmarks/sequential/run.py [folder] [epochs] [--prepared <prepared data>] [--no-install]

Creates RecTools' environment in `folder` (default .peers), prepares the data there, and runs llmrec and RecTools in
turns: two layers, two attention heads, size 64, the newest 50 items, no text, fitted on train and valid, all items
ranked. `--prepared` uses other prepared data; `--no-install` leaves RecTools out if it has no environment.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "heads"))

from environments import python_of  # noqa: E402

ONE = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
SHAPE = ("64", "50")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, default=Path(".peers"))
    parser.add_argument("epochs", nargs="?", default="8")
    parser.add_argument("--prepared", type=Path)
    parser.add_argument("--no-install", action="store_true")
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
    results = {"sequential": run_script(sys.executable, "ours.py", prepared, epochs)}
    if theirs is not None:
        results["RecTools SASRec"] = run_script(theirs, "peer_rectools.py", exported, epochs)
    for who, figures in results.items():
        print(f"{who:16} {figures['epoch']:6.2f} s per epoch, lists of 10 {figures['recommend']:.2f} s, after {epochs} "
              f"epochs ndcg@10 {figures['ndcg@10']:.4f}")
    if theirs is not None:
        mine, peer = (figures["epoch"] for figures in results.values())
        print(f"seconds per epoch, ratio {mine / peer:.2f}, target 0.5")


def run_script(python: str, script: str, data: Path, epochs: str) -> dict[str, Any]:
    """Run a script and return the JSON on the last line of its output."""
    done = subprocess.run([python, HERE / script, data, epochs, *SHAPE], env=ONE, capture_output=True, text=True,
                          check=False)
    if done.returncode:
        sys.exit(f"{script}: exit code {done.returncode}\n{done.stderr}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


if __name__ == "__main__":
    main()
