"""What several runs of `finetune --multirun` came to, side by side."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from llmrec_cli.run_dir import CONFIG, RunDir, read_json
from llmrec_cli.stages.memory import in_words


def print_comparison(runs: Sequence[Path]) -> None:
    """Print a line per run: the settings that differ between them, and what each took and reached on validation."""
    configs = [_flat(yaml.safe_load(RunDir(run).file(CONFIG).read_text("utf-8"))) for run in runs]
    names = sorted({key for config in configs for key in config})
    # A setting that some options have and others lack follows from the option that was chosen.
    differing = [key for key in names if all(key in config for config in configs)
                 and len({str(config[key]) for config in configs}) > 1]
    monitor = configs[0]["monitor"]
    table = Table(title=f"{len(runs)} runs, {monitor} on validation")
    for name in (*differing, monitor, "trained of the encoder", "memory", "seconds"):
        table.add_column(name, justify="left" if name in differing else "right")
    for run, config in zip(runs, configs, strict=True):
        value = read_json(RunDir(run).file("manifest.json"))["metrics"]["valid"][monitor]
        fitted = _fitted(run)
        table.add_row(*(str(config[key]) for key in differing), "none" if value is None else f"{value:.4f}",
                      f"{fitted['trained_of_encoder']:,}",
                      "unknown" if fitted["memory_taken"] is None else in_words(fitted["memory_taken"]),
                      f"{fitted['seconds']:.1f}")
    Console().print(table)


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
