"""Comparison table of the runs of `--multirun`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from llmrec_cli.atomic_files import read_json
from llmrec_cli.encoders.sources import MINILM_SHAPE
from llmrec_cli.plain_text import columns
from llmrec_cli.plain_yaml import read_yaml
from llmrec_cli.report.validation_values import VALUES, ComparedRun, read_values, recommendation
from llmrec_cli.run_dir import CONFIG, RunDir
from llmrec_cli.settings.base import Builder
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.stages import FinetuneConfig

_NUM_METRICS = 4


def print_comparison(command: str, runs: Sequence[Path]) -> None:
    """Print a line per run with the differing settings and the results; for `recommend` to stderr.

    Runs of `finetune` with measure_cold_items=true have columns for cold items and the size of the model, and a
    sentence recommends one of them.
    """
    configs = [_flat(_with_effect(command, read_yaml(RunDir(run).file(CONFIG)))) for run in runs]
    names = sorted({key for config in configs for key in config})
    # A setting that only some options have, or use, follows from the option and is not listed.
    differing = [key for key in names if all(config.get(key) is not None for config in configs)
                 and len({str(config[key]) for config in configs}) > 1]
    differing += _telling_apart(configs, names, differing)
    results = [_results(command, run, config) for run, config in zip(runs, configs, strict=True)]
    title = f"{len(runs)} runs" + (f", {configs[0]['monitor']} on validation" if command == "finetune" else "")
    header = [*differing, *dict.fromkeys(key for result in results for key in result)]
    rows = [[str((config | result).get(key, "")) for key in header]
            for config, result in zip(configs, results, strict=True)]
    align = "".join("l" if name in (*differing, "run") else "r" for name in header)
    print(f"{title}\n{columns(header, rows, align)}", file=sys.stderr if command == "recommend" else sys.stdout)
    files = [RunDir(run).file(VALUES) for run in runs]
    if command == "finetune" and all(file.is_file() for file in files):
        compared = [ComparedRun(" ".join(f"{key}={config[key]}" for key in differing if config.get(key) is not None),
                                read_values(file), _first_fit(run)["seconds"])
                    for config, file, run in zip(configs, files, runs, strict=True)]
        print(recommendation(compared, configs[0]["monitor"]))


def _with_effect(command: str, content: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a run without the options that its head does not use, such as a loss that trains nothing."""
    if command != "finetune":
        return content
    head = Builder(CONFIG_GROUPS).settings(FinetuneConfig, content).head
    unused = [field.name for field in fields(ModelConfig) if field.name != "head" and not head.has_effect(field.name)]
    return {key: value for key, value in content.items() if key not in unused}


def _telling_apart(configs: Sequence[dict[str, Any]], names: Sequence[str], differing: Sequence[str]) -> list[str]:
    """Return settings that differ between runs that are equal in `differing`: the folders of two encoders."""
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for config in configs:
        alike.setdefault(tuple(str(config[key]) for key in differing), []).append(config)
    return [key for key in names if key not in differing and any(
        all(config.get(key) is not None for config in group) and len({str(config[key]) for config in group}) > 1
        for group in alike.values())]


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
    manifest = read_json(RunDir(run).file("manifest.json"))
    value, fitted = manifest["metrics"]["valid"][monitor], _first_fit(run)
    cells = {"value": "none" if value is None else f"{value:.4f}"}
    if cold := manifest.get("cold_items"):
        cells |= {"95% interval": _interval(manifest["result"]["ci95"]), "cold items": f"{cold['value']:.4f}",
                  "95% interval, cold": _interval(cold["ci95"])}
    cells |= {"trained encoder weights": f"{fitted['trained_of_encoder']:,}", "seconds": f"{fitted['seconds']:.1f}"}
    return cells | ({"model MB": f"{_model_bytes(run) / 1e6:.1f}"} if cold else {})


def _interval(ci95: list[float] | None) -> str:
    return "none" if ci95 is None else f"{ci95[0]:.4f} to {ci95[1]:.4f}"


def _model_bytes(run: Path) -> int:
    """Return the bytes of a saved model; MiniLM's weights, which stay in their package, count too."""
    model = RunDir(run).model
    has_minilm = "minilm" in read_json(model / "manifest.json")["encoders"]
    return sum(file.stat().st_size for file in model.rglob("*") if file.is_file()) + has_minilm * MINILM_SHAPE.weights


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
