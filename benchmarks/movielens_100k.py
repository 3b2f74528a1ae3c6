"""Accuracy on MovieLens-100K: the default recipe against tuned EASE and the two-tower alone, over several splits.

    python benchmarks/movielens_100k.py [folder] [seed ...]

Protocol: ratings >= 4 as positives, each user's split 80/10/10 at random (split seeds 42, 43, 44), everything chosen on
validation, refitted on train + validation, full catalogue, the test read once. EASE is tuned on validation over its
only setting. Intervals are over users: a user's differences are averaged over the splits first, since the same user in
three splits is not three users. Everything runs through the command line, in `folder` (a temporary one by default).
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from llmrec_cli.metrics.significance import bootstrap

METRIC = "ndcg@10"
LLMREC = Path(sys.executable).with_name("llmrec")
EXPERIMENT = "experiment=movielens_100k"
EASE_L2 = (100, 200, 300, 400)
TOWER = [EXPERIMENT, "head=two_tower", "head.encoded_items=16"]
MODELS = {
    "ease (tuned)": ["head=ease"],
    "default recipe": [EXPERIMENT],
    "two_tower (LoRA, FGM)": TOWER,
    "two_tower (frozen)": [*TOWER, "peft=frozen", "adversarial=none"],
    "collective ease": ["head=ease", "head.l2=300", "head.features.text=5", "head.features.attributes=6"],
}


def main() -> None:
    """Run every model on every split and print its mean and its paired difference to tuned EASE."""
    folder = Path(sys.argv[1] if sys.argv[1:] else tempfile.mkdtemp(prefix="llmrec-bench-")).resolve()
    seeds = [int(seed) for seed in sys.argv[2:]] or [42, 43, 44]
    prepared = [folder / f"prepared-{seed}" for seed in seeds]
    for seed, output in zip(seeds, prepared, strict=True):
        llmrec(folder, "prepare", EXPERIMENT, f"split.seed={seed}", f"output={output}")
    print(f"{METRIC}, mean over {len(seeds)} splits; difference to tuned EASE with its 95% interval over users")
    baseline = np.zeros(0)
    for name, overrides in MODELS.items():
        started = time.monotonic()
        runs = [one(folder, data, name, overrides) for data in prepared]
        users = sorted(set().union(*runs))
        average = np.array([np.nanmean([run.get(user, np.nan) for run in runs]) for user in users])
        baseline = baseline if len(baseline) else average
        low, high = bootstrap((average - baseline)[:, None], 10_000, seed=1).interval_2M[:, 0]
        means = [float(np.mean(list(run.values()))) for run in runs]
        print(f"{name:22} {np.mean(means):.4f}   {(average - baseline).mean():+.4f} [{low:+.4f}, {high:+.4f}]   "
              f"splits {' '.join(f'{mean:.4f}' for mean in means)}   {time.monotonic() - started:.0f} s", flush=True)


def one(folder: Path, prepared: Path, name: str, overrides: list[str]) -> dict[str, float]:
    """Fit a model on a split, tuned where it is the baseline, and return the test metric of each user."""
    if name == "ease (tuned)":
        best = max(EASE_L2, key=lambda l2: fitted(folder, prepared, f"ease-{l2}", "head=ease", f"head.l2={l2}"))
        return measured(folder, f"ease-{best}", prepared)
    fitted(folder, prepared, name, *overrides)
    return measured(folder, name, prepared)


def fitted(folder: Path, prepared: Path, name: str, *overrides: str) -> float:
    """Run finetune and return the validation metric."""
    run = run_folder(folder, name, prepared)
    llmrec(folder, "finetune", f"prepared={prepared}", f"run_dir={run}", *overrides)
    manifest = json.loads((run / "manifest.json").read_text())
    return float(manifest["metrics"]["valid"][METRIC])


def measured(folder: Path, name: str, prepared: Path) -> dict[str, float]:
    """Run evaluate and return the metric of each user."""
    run = run_folder(folder, name, prepared)
    llmrec(folder, "evaluate", f"model={run}", "baselines=[popularity]", f"run_dir={run}/evaluation")
    table = pq.read_table(run / "evaluation" / "per_user.parquet", columns=["query_id", METRIC])
    return dict(zip(table["query_id"].to_pylist(), table[METRIC].to_pylist(), strict=True))


def run_folder(folder: Path, name: str, prepared: Path) -> Path:
    """Return where the run of a model on a split is."""
    return folder / f"{prepared.name}-{''.join(c if c.isalnum() else '-' for c in name)}"


def llmrec(folder: Path, *arguments: str) -> None:
    """Run the command line in `folder`, or stop with what it said."""
    done = subprocess.run([str(LLMREC), *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"llmrec {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}")


if __name__ == "__main__":
    main()
