"""A table of docs/experiments.md: the models of an experiment, over its splits, on test.

    python benchmarks/table.py <experiment> [folder] [setting ...] [--model <name>] [--split <seed>]

`table` in configs/experiment/<experiment>.yaml lists models, splits and metrics. Further settings, for example
`dataset.links=<file>`, are passed to every `prepare`. Everything runs through the command line in `folder` (default: a
temporary folder); existing runs are not repeated. The settings of the models were chosen on validation before; the test
split is read here. `table.against` is the model that the others are compared with, or a mapping from model to model.
Intervals are over users: a user's differences are averaged over the splits first, since the same user in three splits
is not three users. `table.evaluations`, {name: [evaluate settings]}, evaluates each model under several protocols.
`{path}` in these settings and in those of the models is replaced by the folder of `dataset.path=`. `--model` and
`--split`, each possibly repeated, run only these models and splits. A line ends with the 95% interval of the first
metric of the first protocol and the CPU seconds of its `finetune` (all splits); a model that was there already has no
seconds.
`{pretrained}` in the settings of a model is replaced by a `pretrain` run on the data of the split, with the settings of
the experiment; its seconds are not counted.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml

from llmrec_cli.config import compose
from llmrec_cli.metrics.significance import bootstrap
from llmrec_cli.option_files import configs_dir

LLMREC = Path(sys.executable).with_name("llmrec")


def main() -> None:
    """Run every model on every split and print its means and its paired differences to its rival."""
    parser = argparse.ArgumentParser()
    parser.add_argument("experiment")
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--model", action="append")
    parser.add_argument("--split", action="append", type=int)
    arguments = parser.parse_intermixed_args()
    experiment = arguments.experiment
    overrides = [word for word in arguments.rest if "=" in word]
    words = [word for word in arguments.rest if "=" not in word]
    folder = Path(words[0] if words else tempfile.mkdtemp(prefix="llmrec-table-")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    table = yaml.safe_load((configs_dir() / "experiment" / f"{experiment}.yaml").read_text("utf-8"))["table"]
    metrics, splits, against = table["metrics"], arguments.split or table["splits"], table["against"]
    models = {name: in_folder(table["models"][name], overrides) for name in arguments.model or table["models"]}
    evaluations = {name: in_folder(protocol, overrides)
                   for name, protocol in table.get("evaluations", {"": []}).items()}
    prepared = {seed: folder / f"prepared-{seed}" for seed in splits}
    is_drawn = hasattr(compose("prepare", [f"experiment={experiment}", *overrides]).split, "seed")
    for seed, output in prepared.items():
        if not output.exists():
            llmrec(folder, "prepare", f"experiment={experiment}", f"output={output}", *overrides,
                   *([f"split.seed={seed}"] if is_drawn else []))
    print(f"{experiment}: test, mean over splits {splits}; difference to {rival_names(against)} in {metrics[0]} with "
          f"its 95% interval over users\n{'':28}" +
          "".join(f"{evaluation + ' ' + metric:>22}" for evaluation in evaluations for metric in metrics))
    values: dict[str, dict[str, dict[str, float]]] = {}
    for name, settings in models.items():
        values[name], columns, gains, interval, seconds = {}, "", "", "", 0.0
        for data in prepared.values():
            seconds += fit_model(folder, experiment, data, name, settings)
        for evaluation, protocol in evaluations.items():
            runs = [evaluate_model(folder, experiment, data, name, evaluation, protocol, metrics[0])
                    for data in prepared.values()]
            values[name][evaluation] = per_user([run[0] for run in runs])
            interval = interval or mean_interval([run[1][metrics[0]]["ci95"] for run in runs])
            columns += "".join(f"{np.mean([run[1][metric]['mean'] for run in runs]):22.4f}" for metric in metrics)
            rival = against if isinstance(against, str) else against.get(name, name)
            if rival in values and name != rival:
                gains += f"{difference(values[name][evaluation], values[rival][evaluation]):28}"
        cost = f"{seconds:.0f} CPU s" if seconds else ""
        print(f"{name:28}{columns}   {gains:{28 * len(evaluations)}}   {interval}   {cost}", flush=True)


def in_folder(protocol: list[str], overrides: list[str]) -> list[str]:
    """Return the evaluate settings with `{path}` replaced by the folder of `dataset.path=` in `overrides`."""
    path = next((word.partition("=")[2] for word in overrides if word.startswith("dataset.path=")), None)
    if path is None and any("{path}" in setting for setting in protocol):
        sys.exit("this table needs the folder of the published files; add dataset.path=<folder>")
    return [setting.replace("{path}", str(Path(path or "").resolve())) for setting in protocol]


def mean_interval(intervals: list[list[float]]) -> str:
    """Return the mean of the intervals of the splits, as text; of one split it is the interval itself."""
    low, high = np.mean(intervals, axis=0)
    return f"[{low:.4f}, {high:.4f}]"


def rival_names(against: str | dict[str, str]) -> str:
    """Return the names of the models compared with, as text."""
    return against if isinstance(against, str) else ", ".join(f"{theirs} ({ours})" for ours, theirs in against.items())


def run_of(folder: Path, prepared: Path, name: str) -> Path:
    """Return the run directory of a model on a split."""
    return folder / f"{prepared.name}-{''.join(c if c.isalnum() else '-' for c in name)}"


def fit_model(folder: Path, experiment: str, prepared: Path, name: str, settings: list[str]) -> float:
    """Fit a model unless its run is there; return the CPU seconds."""
    run = run_of(folder, prepared, name)
    if (run / "manifest.json").exists():
        return 0.0
    shutil.rmtree(run, ignore_errors=True)  # Left by an interrupted run.
    if any("{pretrained}" in setting for setting in settings):
        pretrained = pretrain(folder, experiment, prepared)
        settings = [setting.replace("{pretrained}", str(pretrained)) for setting in settings]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    llmrec(folder, "finetune", f"experiment={experiment}", f"prepared={prepared}", f"run_dir={run}", *settings)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def evaluate_model(folder: Path, experiment: str, prepared: Path, name: str, evaluation: str, protocol: list[str],
                   metric: str) -> tuple[dict[str, float], dict[str, Any]]:
    """Evaluate a fitted model; return a metric per user, and all means, including those of slices by name.

    `evaluation` is the name of the protocol and of its folder, `protocol` its settings.
    """
    run = run_of(folder, prepared, name)
    report = run / "-".join(["evaluation", *filter(None, [evaluation])])
    if not (report / "manifest.json").exists():
        shutil.rmtree(report, ignore_errors=True)
        llmrec(folder, "evaluate", f"experiment={experiment}", f"model={run}", "baselines=[]", f"run_dir={report}",
               *protocol)
    content = json.loads((report / "metrics.json").read_text("utf-8"))
    slices = {f"{part} {name}": value for part, of in content["slices"].items() for name, value in of.items()}
    users = pq.read_table(report / "per_user.parquet")
    # If each row of a candidates file is a list, a group has the mean of its rows.
    owners = users["owner_id" if "owner_id" in users.column_names else "query_id"].to_pylist()
    values: dict[str, list[float]] = {}
    for owner, value in zip(owners, users[metric].to_pylist(), strict=True):
        values.setdefault(owner, []).append(value)
    return {owner: float(np.mean(own)) for owner, own in values.items()}, content["metrics"] | slices


def pretrain(folder: Path, experiment: str, prepared: Path) -> Path:
    """Pretrain an encoder on prepared data, unless that was done before, and return the run."""
    run = folder / f"{prepared.name}-pretrained"
    if not (run / "manifest.json").exists():
        shutil.rmtree(run, ignore_errors=True)
        llmrec(folder, "pretrain", f"experiment={experiment}", f"prepared={prepared}", f"run_dir={run}")
    return run


def difference(ours: dict[str, float], theirs: dict[str, float]) -> str:
    """Return the mean difference over the users of both, with its 95% interval, as text."""
    gain = np.array([ours[user] - theirs[user] for user in sorted(ours.keys() & theirs.keys())])
    low, high = bootstrap(gain[:, None], 10_000, seed=1).interval_2M[:, 0]
    return f"{gain.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


def per_user(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return each user's mean over the splits that have the user."""
    users = set().union(*runs)
    return {user: float(np.mean([run[user] for run in runs if user in run])) for user in users}


def llmrec(folder: Path, *arguments: str) -> None:
    """Run the command line in `folder`, or exit with its error output."""
    done = subprocess.run([str(LLMREC), *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"llmrec {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}")


if __name__ == "__main__":
    main()
