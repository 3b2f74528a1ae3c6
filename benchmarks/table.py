"""One table of docs/experiments.md: the models that an experiment names, over its splits, on test.

    python benchmarks/table.py <experiment> [folder] [setting ...]

`table` in configs/experiment/<experiment>.yaml says which models, splits and metrics; a further setting goes to every
`prepare`, such as `dataset.links=<file>`. Everything runs through the command line, in `folder` (a temporary one by
default), where what is there already is not run again. Each model is what its settings say, chosen on validation
before; the test is read here. Intervals are over users: a user's differences are averaged over the splits first, since
the same user in three splits is not three users.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml

from llmrec_cli.metrics.significance import bootstrap
from llmrec_cli.overrides import configs_dir

LLMREC = Path(sys.executable).with_name("llmrec")


def main() -> None:
    """Run every model on every split and print its means and its paired difference to the one it is held against."""
    experiment, rest = sys.argv[1], sys.argv[2:]
    given = [word for word in rest if "=" in word]
    folder = Path(next((word for word in rest if "=" not in word), tempfile.mkdtemp(prefix="llmrec-table-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    content = yaml.safe_load((configs_dir() / "experiment" / f"{experiment}.yaml").read_text("utf-8"))
    table = content["table"]
    metrics, splits, against = table["metrics"], table["splits"], table["against"]
    prepared = {seed: folder / f"prepared-{seed}" for seed in splits}
    for seed, output in prepared.items():
        if not output.exists():
            llmrec(folder, "prepare", f"experiment={experiment}", f"split.seed={seed}", f"output={output}", *given)
    print(f"{experiment}: test, mean over splits {splits}; difference to {against} in {metrics[0]} with its 95% "
          f"interval over users\n{'':28}" + "".join(f"{metric:>20}" for metric in metrics))
    values = {}
    for name, settings in table["models"].items():
        started = time.monotonic()
        runs = [measured(folder, experiment, data, name, settings) for data in prepared.values()]
        values[name] = per_user([run[0] for run in runs])
        means = [np.mean([run[1][metric]["mean"] for run in runs]) for metric in metrics]
        told = ""
        if against in values and name != against:
            users = sorted(values[name].keys() & values[against].keys())
            gain = np.array([values[name][user] - values[against][user] for user in users])
            low, high = bootstrap(gain[:, None], 10_000, seed=1).interval_2M[:, 0]
            told = f"{gain.mean():+.4f} [{low:+.4f}, {high:+.4f}]"
        print(f"{name:28}" + "".join(f"{mean:20.4f}" for mean in means) +
              f"   {told:28}   {time.monotonic() - started:.0f} s", flush=True)


def measured(folder: Path, experiment: str, prepared: Path, name: str,
             settings: list[str]) -> tuple[dict[str, float], dict[str, Any]]:
    """Fit and evaluate a model, and return the first metric of each user and the content of metrics.json."""
    run = folder / f"{prepared.name}-{''.join(c if c.isalnum() else '-' for c in name)}"
    if not (run / "evaluation" / "manifest.json").exists():
        llmrec(folder, "finetune", f"experiment={experiment}", f"prepared={prepared}", f"run_dir={run}", *settings)
        llmrec(folder, "evaluate", f"experiment={experiment}", f"model={run}", "baselines=[]",
               f"run_dir={run / 'evaluation'}")
    content = json.loads((run / "evaluation" / "metrics.json").read_text("utf-8"))
    slices = {f"{part} {metric}": value for part, of in content["slices"].items() for metric, value in of.items()}
    experiment_file = yaml.safe_load((configs_dir() / "experiment" / f"{experiment}.yaml").read_text("utf-8"))
    metric = experiment_file["table"]["metrics"][0]
    users = pq.read_table(run / "evaluation" / "per_user.parquet", columns=["query_id", metric])
    pairs = zip(users["query_id"].to_pylist(), users[metric].to_pylist(), strict=True)
    return dict(pairs), content["metrics"] | slices


def per_user(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return each user's mean over the splits in which the user was measured."""
    users = set().union(*runs)
    return {user: float(np.mean([run[user] for run in runs if user in run])) for user in users}


def llmrec(folder: Path, *arguments: str) -> None:
    """Run the command line in `folder`, or stop with what it said."""
    done = subprocess.run([str(LLMREC), *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"llmrec {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}")


if __name__ == "__main__":
    main()
