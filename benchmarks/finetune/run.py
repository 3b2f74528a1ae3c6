"""Fine-tuning MiniLM: ours beside the seeds' recipe and sentence-transformers. CPU seconds of one thread, and ratios.

    python benchmarks/finetune/run.py <prepared data with texts> [seconds each]

Each runs in a process of its own for about so many CPU seconds (default 60) after its set-up, on the same texts, cut at
64 tokens. An interaction is a user and an item for ours and the seeds' recipe, a pair of items chosen by one user for
sentence-transformers: what a step learns from.
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
    "top two layers, kept states": {"peft": "top_layers", "batch_size": 1024},
    "LoRA on the top two, kept states": {"peft": "lora", "batch_size": 1024},
    "LoRA, whole catalogue a step": {"peft": "lora", "batch_size": None},
    "LoRA, whole catalogue a step, 16 tokens": {"peft": "lora", "batch_size": None, "sampled_tokens": 16},
}


def main() -> None:
    """Measure and print."""
    if not sys.argv[1:]:
        sys.exit(__doc__)
    prepared, seconds = sys.argv[1], sys.argv[2] if sys.argv[2:] else "60"
    gain = told("precisions.py")["gain"]
    precision = "bfloat16" if gain > 1.2 else "float32"
    print(f"bfloat16 runs at {gain:.2f} times the speed of float32 here, so kept states are trained in {precision}")
    found = {"seeds' recipe: pairs, padded to 128, batch 16": told("seeds_recipe.py", prepared, seconds)}
    for peft in ("full", "lora"):
        found[f"sentence-transformers, batch 64, {peft}"] = told("peer_sentence_transformers.py", prepared, seconds,
                                                                 peft)
    cache = tempfile.mkdtemp(prefix="llmrec-finetune-")
    for name, settings in OURS.items():
        precise = {"precision": precision} if settings["peft"] != "none" else {}
        found[f"ours, {name}"] = told("ours.py", prepared, seconds, json.dumps(settings | precise), cache)
    seeds, st_full, st_lora = list(found.values())[:3]
    print(f"\n{'':58}{'a second':>10}{'seeds x':>9}{'ST full x':>11}{'ST LoRA x':>11}{'peak GB':>9}{'set-up s':>10}")
    for name, told_ in found.items():
        rate = told_["rate"]
        print(f"{name:58}{rate:10.1f}{rate / seeds['rate']:9.1f}{rate / st_full['rate']:11.1f}"
              f"{rate / st_lora['rate']:11.1f}{told_['peak'] / 1e9:9.2f}{told_['setup']:10.1f}")


def told(script: str, *arguments: str) -> dict[str, Any]:
    """Return what a script prints as JSON on its last line."""
    done = subprocess.run([sys.executable, "-W", "ignore", HERE / script, *arguments], env=ONE, capture_output=True,
                          text=True, check=False)
    if done.returncode:
        sys.exit(f"{script}: exit code {done.returncode}\n{done.stderr}")
    print(script, *arguments[1:], done.stdout.strip().splitlines()[-1], flush=True)
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


if __name__ == "__main__":
    main()
