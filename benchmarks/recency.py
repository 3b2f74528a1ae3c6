"""Recency of histories and directed item-kNN, each tuned on validation, then measured on test once.

    python benchmarks/recency.py <prepared data, leave last out> [--trials 30] [--head <name> ...] [--time]

Each line is a search of `tune.trials` over the head's own ranges with recency fixed to none, place or time (only with
--time, for data with moments), the half-life among the settings searched. `content` keeps its settings, chosen on cold
items, and only its half-life is searched. `finetune` keeps the default settings where the best trial gains less than
its standard error, so a line may be that of the defaults with a recency. Test: refitted on training and validation.
Runs are kept in runs-recency/, so that an interrupted table goes on.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LLMREC = Path(sys.executable).with_name("llmrec")
PLACES, DAYS = "{low: 0.5, high: 50, log: true}", "{low: 0.01, high: 1000, log: true}"
FORWARD = ["head=item_knn", "head.direction=forward", "head.search.weighting=null",
           "head.search.window={low: 1, high: 20}", "head.search.k={low: 20, high: 2000, log: true}"]
HEADS = {
    "ease": ["head=ease"],
    "item_knn": ["head=item_knn"],
    "item_knn forward": FORWARD,
    "item_knn forward, smoothed": [*FORWARD, "head.smooth=0.3", "head.features.text=1",
                                   "head.search.smooth={low: 0.05, high: 0.9}",
                                   "head.search.smooth_k={low: 5, high: 50, log: true}",
                                   "head.search.smooth_exponent={low: 2, high: 12}"],
    "content": ["head=content", *(f"head.search.{key}=null" for key in (
        "features.text", "features.words", "features.attributes", "k", "denoise_l2", "weight"))],
    "turbo_cf": ["head=turbo_cf"],
}
RECENCIES = {
    "none": ["head.search.recency=null", "head.search.recency_half_life=null"],
    "place": ["head.recency=place", "head.search.recency=null", f"head.search.recency_half_life={PLACES}"],
    "time": ["head.recency=time", "head.search.recency=null", f"head.search.recency_half_life={DAYS}"],
}


def main() -> None:
    """Tune each head with each recency, evaluate the heads together, print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--head", action="append", choices=HEADS)
    parser.add_argument("--time", action="store_true")
    arguments = parser.parse_intermixed_args()
    runs, data = Path("runs-recency") / arguments.prepared.name, f"prepared={arguments.prepared.resolve()}"
    names = arguments.head or list(HEADS)
    recencies = [name for name in RECENCIES if name != "time" or arguments.time]
    for name in names:
        for recency in recencies:
            fit(runs / folder(name, recency), data, name, recency, arguments.trials)
    for name in names:
        for recency in recencies:
            print_line(runs, data, name, recency)


def folder(name: str, recency: str) -> str:
    """Return the name of the run of a head with a recency."""
    return f"{name.replace(',', '').replace(' ', '_')}-{recency}"


def fit(path: Path, data: str, name: str, recency: str, trials: int) -> None:
    """Tune and fit a head, unless its run is finished; content is first fitted to choose its settings."""
    if (path / "model" / "manifest.json").is_file():
        return
    settings = [*HEADS[name], *RECENCIES[recency], f"tune.trials={trials}"]
    if name == "content":
        # Only the half-life is left to search, which takes fewer trials.
        settings = HEADS[name][:1] if recency == "none" else [*settings[:-1], f"tune.trials={max(1, trials // 3)}"]
        settings += chosen(path.with_name("content-chosen"), data)
    run("finetune", data, f"run_dir={path}", *settings)


def chosen(path: Path, data: str) -> list[str]:
    """Return the settings that content chooses on cold items without recency."""
    if not (path / "model" / "manifest.json").is_file():
        run("finetune", data, f"run_dir={path}", "head=content", "refit=none")
    head = settings_of(path)
    return [f"head.{key}={head[key]}" for key in ("gamma", "l2", "denoise", "blend")]


def settings_of(path: Path) -> dict[str, Any]:
    """Return the settings of a fitted head."""
    from llmrec_cli.plain_yaml import parse_yaml

    config: Any = parse_yaml((path / "model" / "config.yaml").read_text("utf-8"), str(path))
    head: dict[str, Any] = config["head"]
    return head


def run(*words: str) -> None:
    """Run a command, and stop with its message if it fails."""
    done = subprocess.run([str(LLMREC), *words, "device=cpu"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"llmrec {' '.join(words)}\n{done.stderr[-2000:]}")


def print_line(runs: Path, data: str, name: str, recency: str) -> None:
    """Evaluate a head with a recency, and print validation, test and the paired difference to none on test."""
    path, plain = runs / folder(name, recency), runs / folder(name, "none")
    tested = runs / f"{path.name}-test"
    if not (tested / "metrics.json").is_file():
        models = f"models=[{path},{plain}]" if recency != "none" else f"models=[{plain}]"
        run("evaluate", models, f"run_dir={tested}", "baselines=[]", data)
    manifest = json.loads((path / "model" / "manifest.json").read_text("utf-8"))
    search = next(iter(manifest.get("tuning", {}).values()), {})
    valid = manifest["metrics"]["valid"]["ndcg@10"]
    half_life = "" if recency == "none" else f" {settings_of(path)['recency_half_life']:g}"
    results = json.loads((tested / "metrics.json").read_text("utf-8"))
    test = results["metrics"]["ndcg@10"]
    difference = ""
    if recency != "none":
        ((_, pair),) = results["comparisons"].items()
        low, high = pair["ndcg@10"]["ci95"]
        difference = f"{pair['ndcg@10']['difference']:+.4f} [{low:+.4f}, {high:+.4f}]"
    print(f"| {name} | {recency}{half_life} | {valid:.4f} | {search.get('tried_value', valid):.4f} | "
          f"{test['mean']:.4f} | {difference} |", flush=True)


if __name__ == "__main__":
    main()
