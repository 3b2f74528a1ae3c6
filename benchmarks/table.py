"""One table of docs/experiments.md: the models that an experiment names, over its splits, on test.

    python benchmarks/table.py <experiment> [folder] [setting ...]

`table` in configs/experiment/<experiment>.yaml says which models, splits and metrics; a further setting goes to every
`prepare`, such as `dataset.links=<file>`. Everything runs through the command line, in `folder` (a temporary one by
default), where what is there already is not run again. Each model is what its settings say, chosen on validation
before; the test is read here. `table.against` names the model that the others are held against, or for each model its
own. Intervals are over users: a user's differences are averaged over the splits first, since
the same user in three splits is not three users. `table.evaluations`, {name: [evaluate settings]}, measures each model
by several protocols; `{path}` in them is the folder that `dataset.path=` names.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
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
    """Run every model on every split and print its means and its paired differences to the one it is held against."""
    experiment, rest = sys.argv[1], sys.argv[2:]
    given = [word for word in rest if "=" in word]
    folder = Path(next((word for word in rest if "=" not in word), tempfile.mkdtemp(prefix="llmrec-table-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    table = yaml.safe_load((configs_dir() / "experiment" / f"{experiment}.yaml").read_text("utf-8"))["table"]
    metrics, splits, against = table["metrics"], table["splits"], table["against"]
    evaluations = {name: in_folder(protocol, given) for name, protocol in table.get("evaluations", {"": []}).items()}
    prepared = {seed: folder / f"prepared-{seed}" for seed in splits}
    is_drawn = hasattr(compose("prepare", [f"experiment={experiment}", *given]).split, "seed")
    for seed, output in prepared.items():
        if not output.exists():
            llmrec(folder, "prepare", f"experiment={experiment}", f"output={output}", *given,
                   *([f"split.seed={seed}"] if is_drawn else []))
    print(f"{experiment}: test, mean over splits {splits}; difference to {told_of(against)} in {metrics[0]} with its "
          f"95% interval over users\n{'':28}" +
          "".join(f"{evaluation + ' ' + metric:>22}" for evaluation in evaluations for metric in metrics))
    values: dict[str, dict[str, dict[str, float]]] = {}
    for name, settings in table["models"].items():
        started = time.monotonic()
        values[name], shown, told = {}, "", ""
        for evaluation, protocol in evaluations.items():
            runs = [measured(folder, experiment, data, name, settings, evaluation, protocol, metrics[0])
                    for data in prepared.values()]
            values[name][evaluation] = per_user([run[0] for run in runs])
            shown += "".join(f"{np.mean([run[1][metric]['mean'] for run in runs]):22.4f}" for metric in metrics)
            rival = against if isinstance(against, str) else against.get(name, name)
            if rival in values and name != rival:
                told += f"{difference(values[name][evaluation], values[rival][evaluation]):28}"
        print(f"{name:28}{shown}   {told:{28 * len(evaluations)}}   {time.monotonic() - started:.0f} s", flush=True)


def in_folder(protocol: list[str], given: list[str]) -> list[str]:
    """Return the evaluate settings with `{path}` replaced by the folder that `dataset.path=` among `given` names."""
    path = next((word.partition("=")[2] for word in given if word.startswith("dataset.path=")), None)
    if path is None and any("{path}" in setting for setting in protocol):
        sys.exit("this table needs the folder of the published files; add dataset.path=<folder>")
    return [setting.replace("{path}", str(Path(path or "").resolve())) for setting in protocol]


def told_of(against: str | dict[str, str]) -> str:
    """Return what models are held against, in words."""
    return against if isinstance(against, str) else ", ".join(f"{theirs} ({ours})" for ours, theirs in against.items())


def measured(folder: Path, experiment: str, prepared: Path, name: str, settings: list[str], evaluation: str,
             protocol: list[str], metric: str) -> tuple[dict[str, float], dict[str, Any]]:
    """Fit and evaluate a model, and return a metric of each user and the means of all, those of slices by their name.

    `evaluation` names the protocol and its folder, `protocol` is its settings.
    """
    run = folder / f"{prepared.name}-{''.join(c if c.isalnum() else '-' for c in name)}"
    if not (run / "manifest.json").exists():
        shutil.rmtree(run, ignore_errors=True)  # What an interrupted run left.
        llmrec(folder, "finetune", f"experiment={experiment}", f"prepared={prepared}", f"run_dir={run}", *settings)
    report = run / "-".join(["evaluation", *filter(None, [evaluation])])
    if not (report / "manifest.json").exists():
        shutil.rmtree(report, ignore_errors=True)
        llmrec(folder, "evaluate", f"experiment={experiment}", f"model={run}", "baselines=[]", f"run_dir={report}",
               *protocol)
    content = json.loads((report / "metrics.json").read_text("utf-8"))
    slices = {f"{part} {name}": value for part, of in content["slices"].items() for name, value in of.items()}
    users = pq.read_table(report / "per_user.parquet")
    # Where each row of a file of candidates was a list, a group has the mean of its own rows.
    owners = users["owner_id" if "owner_id" in users.column_names else "query_id"].to_pylist()
    values: dict[str, list[float]] = {}
    for owner, value in zip(owners, users[metric].to_pylist(), strict=True):
        values.setdefault(owner, []).append(value)
    return {owner: float(np.mean(own)) for owner, own in values.items()}, content["metrics"] | slices


def difference(ours: dict[str, float], theirs: dict[str, float]) -> str:
    """Return the mean difference over the users of both, with its 95% interval, as text."""
    gain = np.array([ours[user] - theirs[user] for user in sorted(ours.keys() & theirs.keys())])
    low, high = bootstrap(gain[:, None], 10_000, seed=1).interval_2M[:, 0]
    return f"{gain.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


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
