"""Memory stated and taken, head by head, of fitting and of making everybody's lists; then of evaluate and recommend.

    OMP_NUM_THREADS=1 python benchmarks/memory.py <prepared data> [name of a line ...] [setting ...]
    OMP_NUM_THREADS=1 python benchmarks/memory.py made [folder]

`made` is a made-up shop of 17,000 items with texts, 5,500 users and 200,000 interactions. Data and libraries are loaded
once; each line runs in a child process of its own, so no peak hides another. What is taken is the growth of the
process's resident memory during the work (`llmrec_cli.stages.memory.taken_by`), what is stated is what the command says
before it. Heads trained by gradients run one epoch, whose peak is that of all. Figures under 64 MiB are not compared:
libraries take as much for themselves.
"""

import multiprocessing
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from made_shop import prepared_shop

from llmrec_cli.config import compose
from llmrec_cli.data.prepared import PreparedData, read_prepared
from llmrec_cli.heads.base import Context
from llmrec_cli.run_dir import RunDir
from llmrec_cli.scoring.validation import validation_of
from llmrec_cli.stages import evaluate, finetune, recommend
from llmrec_cli.stages.fitting import fit
from llmrec_cli.stages.memory import in_words

SMALL = 64 * 2**20
TRAINED = ["optim.epochs=1"]
LINES: dict[str, list[str]] = {
    "popularity": ["head=popularity"],
    "item_knn": ["head=item_knn"],
    "user_knn": ["head=user_knn"],
    "ials": ["head=ials"],
    "ials text": ["head=ials", "head.features.text=0.4"],
    "ease": ["head=ease"],
    "ease primal": ["head=ease", "head.form=primal"],
    "ease dual": ["head=ease", "head.form=dual"],
    "ease text": ["head=ease", "head.features.text=6", "head.features.words=1"],
    "ease primal text": ["head=ease", "head.form=primal", "head.features.text=6"],
    "content": ["head=content"],
    "item_similarity": ["head=item_similarity"],
    "item_similarity tuned": ["head=item_similarity", "head.features.tuned=true", "peft=embedding_adapter",
                              "loss=distillation", "optim.batch_size=4096", *TRAINED],
    "clusters": ["head=clusters"],
    "mf": ["head=mf", *TRAINED],
    "neural_cf": ["head=neural_cf", *TRAINED],
    "factorization_machine": ["head=factorization_machine", *TRAINED],
    "two_tower": ["head=two_tower", "peft=frozen", *TRAINED],
    "sequential": ["head=sequential", *TRAINED],
    "fusion": ["head=fusion", *TRAINED],
    "group_aggregate": ["head=group_aggregate", *TRAINED],
    "group_attention": ["head=group_attention", *TRAINED],
    "group_hypergraph": ["head=group_hypergraph", *TRAINED],
}
MODELS = ("ease", "item_knn", "user_knn")
"""Heads that one run of `evaluate` compares."""


def main() -> None:
    """Print a line for each head, then for evaluate and recommend."""
    place, *rest = sys.argv[1:]
    settings, names = [word for word in rest if "=" in word], [word for word in rest if "=" not in word]
    folder = Path(tempfile.mkdtemp(prefix="llmrec-memory-"))
    if place == "made":
        folder = Path(names.pop(0)).resolve() if names else folder
        place = str(prepared_shop(folder, 5_500, 17_000, 200_000, "split=leave_last_out"))
    data = read_prepared(place)
    print(f"{len(data.users):,} users, {len(data.items):,} items, {len(data.interactions):,} interactions\n"
          f"{'':28}{'stated':>12}{'taken':>12}{'ratio':>8}{'lists':>12}", flush=True)
    for name in names or [*LINES, "evaluate", "recommend"]:
        work: Callable[..., Any] = commands if name in ("evaluate", "recommend") else fitted
        show(name, apart(work, name, data, settings, folder))


def show(name: str, found: Any) -> None:
    """Print a line: what was stated and taken, and the peak of making lists."""
    if isinstance(found, str):
        print(f"{name:28}{found}", flush=True)
        return
    stated, taken, lists = found
    ratio = "small" if max(stated, taken) < SMALL else f"{stated / max(taken, 1):.2f}"
    print(f"{name:28}{in_words(stated):>12}{in_words(taken):>12}{ratio:>8}{in_words(lists) if lists else '':>12}",
          flush=True)


def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what the work returns in a child process, or its error as text."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=answer, args=(theirs, work, arguments))
    child.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        return "the process was killed"
    finally:
        child.join()


def answer(pipe: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Send what the work returns, or its error as text."""
    try:
        pipe.send(work(*arguments))
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {str(error)[:160]}")


def fitted(name: str, data: PreparedData, settings: list[str], folder: Path) -> tuple[int, int, int]:
    """Fit a head and score everybody; return the bytes stated, taken, and taken by the lists."""
    from llmrec_cli.data.queries import known_users
    from llmrec_cli.scoring.scorer import recommend_lists
    from llmrec_cli.scoring.topk import item_hash_ranks
    from llmrec_cli.stages.memory import taken_by

    cfg = compose("finetune", [*LINES[name], *settings])
    events: dict[str, Any] = {}
    training = data.training("train")
    audience = cfg.head.usual_audience() if cfg.audience == "auto" else cfg.audience
    context = Context(torch.device("cpu"), cfg.seed, validation_of(data, cfg.monitor, audience), cache=cfg.cache_folder,
                      log=lambda event, **values: events.__setitem__(event, values))
    head = fit(cfg.recipe, training, context, quiet=True)
    known = training.interactions.matrix
    everybody = known_users(np.arange(len(data.users)), data.users.ids, known, known, data.users)
    ranks = item_hash_ranks(data.items.ids)
    lists = taken_by(lambda: recommend_lists(head.score, everybody, 100, ranks))
    return events["fitted"]["memory_stated"], events["fitted"]["memory_taken"], lists or 0


def commands(name: str, data: PreparedData, settings: list[str], folder: Path) -> tuple[int, int, int]:
    """Run evaluate of several models, or recommend to everybody by the first; return the bytes stated and taken."""
    runs = []
    for model in MODELS:
        runs.append(folder / f"run-{model}")
        if not (runs[-1] / "manifest.json").is_file():
            arguments = [f"prepared={data.path}", f"run_dir={runs[-1]}", "refit=none", *LINES[model]]
            apart(run, finetune, "finetune", arguments)
    given = [f"models=[{','.join(map(str, runs))}]"] if name == "evaluate" else [
        f"model={runs[0]}", "queries=all", "k=100", f"output={folder / 'lists.parquet'}"]
    found = apart(run, evaluate if name == "evaluate" else recommend, name, [*given, f"run_dir={folder / name}"])
    if isinstance(found, str):
        raise ValueError(found)
    return found["stated"], found["taken"], 0


def run(stage: Any, name: str, arguments: list[str]) -> dict[str, int]:
    """Run a command and return what it logged of memory."""
    cfg = compose(name, arguments)
    events: dict[str, Any] = {}
    path = Path(next(word for word in arguments if word.startswith("run_dir=")).partition("=")[2])
    path.mkdir(parents=True, exist_ok=True)
    place = RunDir(path)
    place.listeners.append(lambda event, **values: events.__setitem__(event, values))
    stage.run(cfg, place)
    return events.get("memory_taken", {})


if __name__ == "__main__":
    main()
