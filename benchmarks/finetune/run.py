"""Fine-tuning MiniLM: llmrec, the seeds' recipe and sentence-transformers. Interactions per CPU second, and ratios.

    python benchmarks/finetune/run.py <prepared data with texts> [seconds each] [name of a line ...]

Each method runs in its own process for about the given CPU seconds (default 60) after its set-up, on the same texts,
cut at 64 tokens. An interaction is a user and an item for llmrec and the seeds' recipe, and a pair of items of the same
user for sentence-transformers, which is left out if it is not installed.
"""

import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ONE = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
       "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}
SEEDS = "seeds' recipe: pairs, padded to 128, batch 16"
PEER = {peft: f"sentence-transformers, batch 64, {peft}" for peft in ("full", "lora")}
BASELINES = {"seeds x": SEEDS, "ST full x": PEER["full"], "ST LoRA x": PEER["lora"]}
"""Column of ratios -> the line that the rates are divided by."""
OURS = {
    "all layers": {"peft": "none", "batch_size": 4096},
    "top two layers, cached states": {"peft": "top_layers", "batch_size": 1024},
    "LoRA on the top two, cached states": {"peft": "lora", "batch_size": 1024},
    "LoRA, whole catalogue a step": {"peft": "lora", "batch_size": None},
    "LoRA, whole catalogue a step, 16 tokens": {"peft": "lora", "batch_size": None, "sampled_tokens": 16},
}


def main() -> None:
    """Measure and print."""
    if not sys.argv[1:]:
        sys.exit(__doc__)
    prepared, seconds = sys.argv[1], sys.argv[2] if sys.argv[2:] else "60"
    names = sys.argv[3:] or [SEEDS, *PEER.values(), *OURS]
    if unknown := {*names} - {SEEDS, *PEER.values(), *OURS}:
        sys.exit(f"no line {sorted(unknown)}; the lines are {[SEEDS, *PEER.values(), *OURS]}")
    if find_spec("sentence_transformers") is None:
        print("sentence-transformers is not installed and is left out")
        names = [name for name in names if name not in PEER.values()]
    gain = run_script("precisions.py")["gain"]
    precision = "bfloat16" if gain > 1.2 else "float32"
    print(f"bfloat16 runs at {gain:.2f} times the speed of float32 here, so cached states are trained in {precision}")
    results = {SEEDS: run_script("seeds_recipe.py", prepared, seconds)} if SEEDS in names else {}
    for peft, name in PEER.items():
        if name in names:
            results[name] = run_script("peer_sentence_transformers.py", prepared, seconds, peft)
    cache = tempfile.mkdtemp(prefix="llmrec-finetune-")
    for name, settings in OURS.items():
        precise = {"precision": precision} if settings["peft"] != "none" else {}
        if name in names:
            results[f"ours, {name}"] = run_script("ours.py", prepared, seconds, json.dumps(settings | precise), cache)
    print(f"\n{'':58}{'per second':>11}" + "".join(f"{column:>11}" for column in BASELINES)
          + f"{'peak GB':>9}{'set-up s':>10}")
    for name, figures in results.items():
        rate = figures["rate"]
        ratios = [f"{rate / results[line]['rate']:.1f}" if line in results else "-" for line in BASELINES.values()]
        print(f"{name:58}{rate:11.1f}" + "".join(f"{ratio:>11}" for ratio in ratios)
              + f"{figures['peak'] / 1e9:9.2f}{figures['setup']:10.1f}")


def run_script(script: str, *arguments: str) -> dict[str, Any]:
    """Run a script and return the JSON on the last line of its output."""
    done = subprocess.run([sys.executable, "-W", "ignore", HERE / script, *arguments], env=ONE, capture_output=True,
                          text=True, check=False)
    if done.returncode:
        sys.exit(f"{script}: exit code {done.returncode}\n{done.stderr}")
    print(script, *arguments[1:], done.stdout.strip().splitlines()[-1], flush=True)
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


if __name__ == "__main__":
    main()
