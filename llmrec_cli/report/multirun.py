"""Comparison table of the runs of `--multirun`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmrec_cli.atomic_files import read_json
from llmrec_cli.plain_text import columns
from llmrec_cli.plain_yaml import read_yaml
from llmrec_cli.run_dir import CONFIG, RunDir

_NUM_METRICS = 4


def print_comparison(command: str, runs: Sequence[Path]) -> None:
    """Print a line per run with the differing settings and the results; for `recommend` to stderr."""
    configs = [_flat(read_yaml(RunDir(run).file(CONFIG))) for run in runs]
    names = sorted({key for config in configs for key in config})
    # A setting that only some options have, or use, follows from the option and is not listed.
    differing = [key for key in names if all(config.get(key) is not None for config in configs)
                 and len({str(config[key]) for config in configs}) > 1]
    results = [_results(command, run, config) for run, config in zip(runs, configs, strict=True)]
    title = f"{len(runs)} runs" + (f", {configs[0]['monitor']} on validation" if command == "finetune" else "")
    header = [*differing, *results[0]]
    rows = [[str(cell) for cell in (*(config[key] for key in differing), *result.values())]
            for config, result in zip(configs, results, strict=True)]
    align = "".join("l" if name in (*differing, "run") else "r" for name in header)
    print(f"{title}\n{columns(header, rows, align)}", file=sys.stderr if command == "recommend" else sys.stdout)


def _results(command: str, run: Path, config: dict[str, Any]) -> dict[str, str]:
    """Return the cells of a run by column name."""
    if command == "evaluate":
        metrics = read_json(RunDir(run).file("metrics.json"))["metrics"]
        first = [name for name in metrics if name.startswith("ndcg@")][:1]
        names = [*first, *(name for name in metrics if name not in first)][:_NUM_METRICS]
        means = {name: metrics[name]["mean"] for name in names}
        return {"run": str(run)} | {name: "none" if mean is None else f"{mean:.4f}" for name, mean in means.items()}
    if command != "finetune":
        return {"run": str(run)}
    monitor = config["monitor"]
    value = read_json(RunDir(run).file("manifest.json"))["metrics"]["valid"][monitor]
    fitted = _first_fit(run)
    return {"value": "none" if value is None else f"{value:.4f}",
            "trained encoder weights": f"{fitted['trained_of_encoder']:,}", "seconds": f"{fitted['seconds']:.1f}"}


def _first_fit(run: Path) -> dict[str, Any]:
    """Return the log entry of the first fit, the fit that is evaluated on validation."""
    for line in RunDir(run).file("log.jsonl").read_text("utf-8").splitlines():
        entry: dict[str, Any] = json.loads(line)
        if entry["event"] == "fitted":
            return entry
    raise AssertionError(f"{run}: finished run without a fit")


def _flat(content: dict[str, Any], inside: str = "") -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for key, value in content.items():
        name = inside[:-1] if key == "kind" else f"{inside}{key}"
        settings |= _flat(value, f"{inside}{key}.") if isinstance(value, dict) else {name: value}
    return settings
