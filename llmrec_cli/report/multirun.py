"""The runs of `--multirun` side by side."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmrec_cli.atomic_files import read_json
from llmrec_cli.plain_yaml import read_yaml
from llmrec_cli.report.terminal import printable
from llmrec_cli.run_dir import CONFIG, RunDir

_NUM_METRICS = 4
_MOST_COLUMNS = 1000
"""Width of a table that is written to a file or a pipe."""


def print_comparison(command: str, runs: Sequence[Path]) -> None:
    """Print a line per run: the settings that differ between them, and the results; lists go to stdout alone."""
    configs = [_flat(read_yaml(RunDir(run).file(CONFIG))) for run in runs]
    names = sorted({key for config in configs for key in config})
    # A setting that some options have and others lack, or have no use for, follows from the option that was chosen.
    differing = [key for key in names if all(config.get(key) is not None for config in configs)
                 and len({str(config[key]) for config in configs}) > 1]
    results = [_results(command, run, config) for run, config in zip(runs, configs, strict=True)]
    title = f"{len(runs)} runs" + (f", {configs[0]['monitor']} on validation" if command == "finetune" else "")
    table = Table(title=title)
    for name in (*differing, *results[0]):
        table.add_column(Text(name), justify="left" if name in (*differing, "run") else "right")
    for config, result in zip(configs, results, strict=True):
        # As text: a value such as [red] is no markup.
        table.add_row(*(Text(printable(str(cell))) for cell in (*(config[key] for key in differing), *result.values())))
    console = Console(stderr=command == "recommend")
    if not console.is_terminal:
        console.width = _MOST_COLUMNS  # Nobody's window: a name that is cut cannot be told from another.
    console.print(table)


def _results(command: str, run: Path, config: dict[str, Any]) -> dict[str, str]:
    """Return the cells of a run by the names of their columns."""
    if command == "evaluate":
        metrics = read_json(RunDir(run).file("metrics.json"))["metrics"]
        first = [name for name in metrics if name.startswith("ndcg@")][:1]
        shown = [*first, *(name for name in metrics if name not in first)][:_NUM_METRICS]
        means = {name: metrics[name]["mean"] for name in shown}
        return {"run": str(run)} | {name: "none" if mean is None else f"{mean:.4f}" for name, mean in means.items()}
    if command != "finetune":
        return {"run": str(run)}
    monitor = config["monitor"]
    value = read_json(RunDir(run).file("manifest.json"))["metrics"]["valid"][monitor]
    fitted = _fitted(run)
    return {"value": "none" if value is None else f"{value:.4f}",
            "trained of the encoder": f"{fitted['trained_of_encoder']:,}", "seconds": f"{fitted['seconds']:.1f}"}


def _fitted(run: Path) -> dict[str, Any]:
    """Return what the log says of the first fit, on which validation looked."""
    for line in RunDir(run).file("log.jsonl").read_text("utf-8").splitlines():
        entry: dict[str, Any] = json.loads(line)
        if entry["event"] == "fitted":
            return entry
    raise AssertionError(f"{run}: finished without a fit")


def _flat(content: dict[str, Any], inside: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in content.items():
        name = inside[:-1] if key == "kind" else f"{inside}{key}"
        found |= _flat(value, f"{inside}{key}.") if isinstance(value, dict) else {name: value}
    return found
