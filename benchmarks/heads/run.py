"""Heads and evaluation compared with peers on MovieLens-1M: medians of CPU seconds of one thread, and their ratios.

    python benchmarks/heads/run.py [folder] [repeats] [--prepared <prepared data>] [--no-install]

Creates an environment for each peer in `folder` (default .peers), prepares the data there, and runs llmrec and the
peers in turns. All ratings are positives; random split 80/10/10 of each user's interactions; fitted on the training
split. `--prepared` uses other prepared data; `--no-install` leaves out peers without an environment.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from environments import python_of

HERE = Path(__file__).resolve().parent
ONE = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
L2 = "1200"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, default=Path(".peers"))
    parser.add_argument("repeats", nargs="?", type=int, default=3)
    parser.add_argument("--prepared", type=Path)
    parser.add_argument("--no-install", action="store_true")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    pythons = {peer: python_of(peer, folder, not arguments.no_install) for peer in ("implicit", "lenskit", "recbole")}
    prepared = arguments.prepared or folder / "movielens_1m"
    exported = folder / f"{prepared.name}.npz"
    if arguments.prepared is None and not prepared.exists():
        subprocess.run([Path(sys.executable).with_name("llmrec"), "prepare", "dataset=movielens_1m", "split=random",
                        f"output={prepared}"], check=True, cwd=folder)
    if arguments.prepared is not None or not exported.exists():
        run_script(sys.executable, "export.py", prepared, exported)
    scripts = {"implicit": ("peer_implicit.py", exported, 1), "ours": ("ours.py", prepared, 1),
               "lenskit": ("peer_lenskit.py", exported, L2, 1), "recbole": ("peer_recbole.py", exported, L2, 2)}
    runs: dict[str, list[dict[str, Any]]] = {who: [] for who in scripts}
    for _ in range(arguments.repeats):
        for who, script in scripts.items():
            python = pythons.get(who, sys.executable)
            if python is not None:
                runs[who].append(run_script(python, *script))
    report(**runs)


def run_script(python: str, script: str, *arguments: Any) -> dict[str, Any]:
    """Run a script and return the JSON on the last line of its output."""
    done = subprocess.run([python, HERE / script, *map(str, arguments)], env=ONE, capture_output=True, text=True,
                          check=False)
    if done.returncode:
        sys.exit(f"{script}: exit code {done.returncode}\n{done.stderr}")
    lines = done.stdout.strip().splitlines()
    return dict(json.loads(lines[-1])) if lines else {}


def report(ours: list[dict[str, Any]], implicit: list[dict[str, Any]], lenskit: list[dict[str, Any]],
           recbole: list[dict[str, Any]]) -> None:
    """Print a line per comparison."""
    # Without implicit's quality to reach, the longest fit is reported.
    target = statistics.median(run["als_ndcg"] for run in implicit) if implicit else float("inf")
    reached = [reaching(run["als"][0], target) if implicit else run["als"][0][-1] for run in ours]
    print(f"iALS, 128 factors, {f'to validation ndcg@10 of {target:.4f} of implicit' if implicit else 'longest fit'}: "
          f"{[f'{seconds:.2f} s at {value:.4f}' for seconds, value in reached]}")
    line("iALS to implicit's quality" if implicit else "iALS, longest fit", [seconds for seconds, _ in reached],
         [run["als_fit"][0] for run in implicit], "implicit ALS, 15 iterations", 1)
    line("iALS, lists of 100", flat(ours, "als_recommend"), flat(implicit, "als_recommend"), "implicit", 1)
    line("item-kNN fit, BM25", flat(ours, "knn_fit"), flat(implicit, "knn_fit"), "implicit", 1)
    line("item-kNN, lists of 100", flat(ours, "knn_recommend"), flat(implicit, "knn_recommend"), "implicit", 1)
    line("EASE fit", flat(ours, "ease_fit"), flat(ours, "ease_inverse"), "only its Cholesky and inverse", 1.3)
    line("EASE fit", flat(ours, "ease_fit"), flat(lenskit, "fit"), "LensKit", None)
    line("EASE, lists of 100 and metrics", flat(ours, "lists"), flat(recbole, "evaluate"), "RecBole full sort", 0.5)
    seconds = statistics.median(flat(ours, "evaluate"))
    print(f"everything evaluate measures, 1,000 resamples: {seconds:.2f} s (target: 2)")


def reaching(runs: list[list[float]], target: float) -> tuple[float, float]:
    """Return the seconds and value of the shortest fit that is at least as good as `target`; infinity if none is."""
    return next(((seconds, value) for seconds, value in runs if value >= target), (float("inf"), runs[-1][1]))


def flat(runs: list[dict[str, Any]], name: str) -> list[float]:
    """Return the seconds of all runs under a name."""
    return [float(seconds) for run in runs for seconds in run[name]]


def line(what: str, ours: list[float], theirs: list[float], who: str, goal: float | None) -> None:
    """Print medians and their ratio; without `theirs`, only our median."""
    mine = statistics.median(ours)
    start = f"{what:32} {mine:6.2f} s ({min(ours):.2f} to {max(ours):.2f}); {who}"
    if not theirs:
        print(f"{start} left out", flush=True)
        return
    other = statistics.median(theirs)
    print(f"{start} {other:.2f} s ({min(theirs):.2f} to {max(theirs):.2f}); ratio {mine / other:.2f}"
          + (f", target {goal}" if goal else ""), flush=True)


if __name__ == "__main__":
    main()
