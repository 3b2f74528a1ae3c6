"""Default recipes of `finetune` compared: validation and seconds of fusions of closed-form heads with frozen texts.

    python benchmarks/recipe.py <prepared data> [<prepared data> ...] [--recipe <name> ...] [--test]

Each recipe is fitted on training, without a refit; the value is the monitored metric on validation. `--test` evaluates
it on test too, which is read once, after a recipe was chosen. Seconds are those of the whole command; the vectors of
texts are cached, so the first recipe of a data set that reads texts also pays for encoding them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LLMREC = Path(sys.executable).with_name("llmrec")
MEMBERS = {"ease": "{head: ease, features: {text: 6, attributes: 6}}", "plain_ease": "{head: ease}",
           "neighbours": "{head: user_knn}", "item_knn": "{head: item_knn}",
           "item_similarity": "{head: item_similarity}", "ials": "{head: ials}", "rp3beta": "{head: rp3beta}",
           "content": "{head: content}", "tower": "{head: two_tower}"}
"""Heads that a fusion may consist of; `ease` has texts, `plain_ease` has none and cannot be hurt by them."""


def fusion(*members: str) -> list[str]:
    """Return the settings of a fusion of these members alone."""
    content = ", ".join(f"{name}: {head if name in members else 'null'}" for name, head in MEMBERS.items())
    return ["head=fusion", f"head.members={{{content}}}"]


RECIPES = {
    "popularity": ["head=popularity"],
    "ease": ["head=ease"],
    "ease with texts": ["head=ease", "head.features.text=6", "head.features.attributes=6"],
    "default": [],
    **{f"{name} and ease": fusion("ease", "plain_ease", name) for name in MEMBERS
       if name not in ("ease", "plain_ease", "tower")},
    "default without ials": ["head.members.ials=null"],
    "all but the tower": fusion(*(name for name in MEMBERS if name != "tower")),
    "default, LoRA": ["head.members.tower.head=two_tower", "peft=lora"],
}


def main() -> None:
    """Fit each recipe on each data set and print a line for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("prepared", nargs="+", type=Path)
    parser.add_argument("--recipe", action="append", choices=RECIPES)
    parser.add_argument("--test", action="store_true")
    arguments = parser.parse_intermixed_args()
    folder = Path(tempfile.mkdtemp(prefix="llmrec-recipe-"))
    for data in arguments.prepared:
        print(f"{data.name}\n{'':32}{'validation':>16}{'seconds':>10}{'CPU s':>8}{'test' * arguments.test:>10}")
        for number, name in enumerate(arguments.recipe or RECIPES):
            run = folder / f"{data.name}-{number}"
            wall, processor = timed(folder, "finetune", f"prepared={data.resolve()}", f"run_dir={run}", "refit=none",
                                    *RECIPES[name])
            manifest = json.loads((run / "model" / "manifest.json").read_text("utf-8"))
            [(metric, value)] = manifest["metrics"]["valid"].items()
            print(f"{name:32}{f'{metric} {value:.4f}':>16}{wall:10.0f}{processor:8.0f}", end="")
            print(f"{on_test(folder, run, metric):>10}" if arguments.test else "", flush=True)


def on_test(folder: Path, run: Path, metric: str) -> str:
    """Return the metric of a model on test, as text."""
    report = run / "evaluation"
    timed(folder, "evaluate", f"model={run}", "baselines=[]", f"run_dir={report}")
    content = json.loads((report / "metrics.json").read_text("utf-8"))
    return f"{content['metrics'][metric]['mean']:.4f}"


def timed(folder: Path, *arguments: str) -> tuple[float, float]:
    """Run the command line in `folder`; return wall and CPU seconds, or exit with its error output."""
    started, before = time.monotonic(), os.times()
    done = subprocess.run([str(LLMREC), *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"llmrec {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}")
    after = os.times()
    processor = (after.children_user + after.children_system) - (before.children_user + before.children_system)
    return time.monotonic() - started, processor


if __name__ == "__main__":
    main()
