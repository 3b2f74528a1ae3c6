"""Validation ndcg@10 of the sequential head, and of RecTools' SASRec and eSASRec, against CPU seconds, as an image.

    python benchmarks/sequential/curves.py <prepared> <CPU seconds> [folder] [--length 50] [--variant <name>]

Runs `curve.py` and, in an environment of its own in `folder` (default .peers), `peer_curve.py`: each variant has the
budget for itself, one thread, one after the other. Lines that are there already are not computed again. Writes
`folder`/curves.png (`--no-install` leaves RecTools out if it has no environment) and prints the best value of each
curve, and when it passes the best one of RecTools.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "heads"))

from environments import python_of  # noqa: E402
from run import ONE  # noqa: E402

FAST = ["head.windows=all", "optim.batch_size=4096", "optim.learning_rate=0.004"]
VARIANTS = {
    "sasrec": [], "sasrec, sampled softmax": [*FAST, "loss=sampled_softmax"],
    "ligr": [*FAST, "head.block=ligr"], "ligr, sampled softmax": [*FAST, "head.block=ligr", "loss=sampled_softmax"],
    "ligr, gbce": [*FAST, "head.block=ligr", "loss=gbce"], "hstu, gbce": [*FAST, "head.block=hstu", "loss=gbce"]}
"""Name of a curve -> settings of head=sequential."""
PEERS = ("sasrec", "esasrec")
Curve = tuple[list[float], list[float]]
"""CPU seconds and ndcg@10."""


def main() -> None:
    """Run, draw and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("prepared", type=Path)
    parser.add_argument("seconds", type=float)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(".peers"))
    parser.add_argument("--length", default="50")
    parser.add_argument("--variant", action="append", choices=VARIANTS)
    parser.add_argument("--no-install", action="store_true")
    arguments = parser.parse_args()
    folder, prepared, seconds = arguments.folder.resolve(), arguments.prepared.resolve(), f"{arguments.seconds:g}"
    folder.mkdir(parents=True, exist_ok=True)
    curves = {f"llmrec {name}": curve(folder / f"{name}.jsonl", [
        sys.executable, HERE / "curve.py", prepared, seconds, f"head.max_length={arguments.length}", *VARIANTS[name]])
        for name in arguments.variant or VARIANTS}
    theirs = python_of("rectools", folder, not arguments.no_install)
    best = 0.0
    if theirs is not None:
        exported = folder / "exported.npz"
        subprocess.run([sys.executable, HERE.parent / "heads" / "export.py", prepared, exported], check=True)
        peers = {f"RecTools {name}": curve(folder / f"rectools-{name}.jsonl", [
            theirs, HERE / "peer_curve.py", exported, name, arguments.length, seconds]) for name in PEERS}
        best = max(max(values) for _, values in peers.values())
        curves |= peers
    draw(curves, folder / "curves.png")
    for name, (at, values) in curves.items():
        above = next((f"{s:.0f}" for s, value in zip(at, values, strict=True) if value > best), None)
        passes = f"; above RecTools' best {best:.4f} after {above} CPU s" if best and above else ""
        print(f"{name:32} best {max(values):.4f} within {at[-1]:.0f} CPU s{passes}")


def curve(file: Path, command: list[str | Path]) -> Curve:
    """Return the points of a curve; `command` prints them as lines of JSON, which `file` keeps."""
    if not file.exists():
        done = subprocess.run(command, env=ONE, cwd=file.parent, stdout=subprocess.PIPE, text=True, check=True)
        file.write_text(done.stdout, "utf-8")
    lines = (json.loads(line) for line in file.read_text("utf-8").splitlines() if line.startswith("{"))
    points = [line for line in lines if "epoch" in line]
    return [point["seconds"] for point in points], [point["ndcg@10"] for point in points]


def draw(curves: dict[str, Curve], image: Path) -> None:
    """Write the image."""
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for name, (seconds, values) in curves.items():
        axes.plot(seconds, values, marker=".", linestyle="--" if name.startswith("RecTools") else "-", label=name)
    axes.set(xlabel="CPU seconds of training, one thread", ylabel="ndcg@10 on validation")
    axes.legend()
    figure.savefig(image, dpi=120)


if __name__ == "__main__":
    main()
