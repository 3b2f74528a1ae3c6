"""Fine-tuning MiniLM: llmrec, the seeds' recipe and sentence-transformers. Interactions per CPU second, and ratios.

    python benchmarks/finetune/run.py <prepared data with texts> [seconds each]

Each method runs in its own process for about the given CPU seconds (default 60) after its set-up, on the same texts,
cut at 64 tokens. An interaction is a user and an item for llmrec and the seeds' recipe, and a pair of items of the same
user for sentence-transformers.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ONE = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
       "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}
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
    gain = run_script("precisions.py")["gain"]
    precision = "bfloat16" if gain > 1.2 else "float32"
    print(f"bfloat16 runs at {gain:.2f} times the speed of float32 here, so cached states are trained in {precision}")
    results = {"seeds' recipe: pairs, padded to 128, batch 16": run_script("seeds_recipe.py", prepared, seconds)}
    for peft in ("full", "lora"):
        results[f"sentence-transformers, batch 64, {peft}"] = run_script("peer_sentence_transformers.py", prepared,
                                                                         seconds, peft)
    cache = tempfile.mkdtemp(prefix="llmrec-finetune-")
    for name, settings in OURS.items():
        precise = {"precision": precision} if settings["peft"] != "none" else {}
        results[f"ours, {name}"] = run_script("ours.py", prepared, seconds, json.dumps(settings | precise), cache)
    seeds, st_full, st_lora = list(results.values())[:3]
    print(f"\n{'':58}{'per second':>11}{'seeds x':>9}{'ST full x':>11}{'ST LoRA x':>11}{'peak GB':>9}{'set-up s':>10}")
    for name, figures in results.items():
        rate = figures["rate"]
        print(f"{name:58}{rate:11.1f}{rate / seeds['rate']:9.1f}{rate / st_full['rate']:11.1f}"
              f"{rate / st_lora['rate']:11.1f}{figures['peak'] / 1e9:9.2f}{figures['setup']:10.1f}")


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
