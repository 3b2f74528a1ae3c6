"""Stated and measured memory of fitting each head and of lists for all users; then of evaluate and recommend.

    OMP_NUM_THREADS=1 python benchmarks/memory.py <prepared data> [name of a line ...] [setting ...]
    OMP_NUM_THREADS=1 python benchmarks/memory.py made [folder]

`made` is a synthetic shop of 17,000 items with texts, 5,500 users and 200,000 interactions. Each line runs in its own
process, so that no peak hides another; evaluate and recommend (lists for all users, then for one) run as commands.
The measured memory is the growth of the process's resident memory during the work (`measure_memory_growth` in
`llmrec_cli.heads.memory`); the estimate, "stated", is printed by the command before. The ratio is measured / stated
and should be within .75 and 1.25. Heads trained by gradients run one epoch, which reaches the peak, or
`steps=<number>` steps: heads whose arrays change with every step (LoRA, groups) need some dozens. Figures under 64 MiB
are not compared, since libraries need as much. Cached text vectors take less memory; `cache=` encodes them again, and
with `batches=<number>` the encoder runs on every so many batches of texts, which is enough to reach its peak.
"""

import json
import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from made_shop import prepared_shop

from llmrec_cli.config import compose
from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.errors import in_bytes
from llmrec_cli.heads.base import Context
from llmrec_cli.heads.fitting import fit
from llmrec_cli.scoring.validation import validation_of

SMALL = 64 * 2**20
TRAINED = ["optim.epochs=1"]
LINES: dict[str, list[str]] = {
    "popularity": ["head=popularity"],
    "item_knn": ["head=item_knn"],
    "user_knn": ["head=user_knn"],
    "rp3beta": ["head=rp3beta"],
    "turbo_cf": ["head=turbo_cf"],
    "turbo_cf third": ["head=turbo_cf", "head.filter=third"],
    "item_knn forward": ["head=item_knn", "head.direction=forward"],
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
                              "optim.batch_size=4096", *TRAINED],
    "clusters": ["head=clusters"],
    "mf": ["head=mf", *TRAINED],
    "neural_cf": ["head=neural_cf", *TRAINED],
    "factorization_machine": ["head=factorization_machine", *TRAINED],
    "two_tower lora": ["head=two_tower", "peft=lora", *TRAINED],
    "two_tower frozen": ["head=two_tower", "peft=frozen", *TRAINED],
    "sequential lora": ["head=sequential", "peft=lora", *TRAINED],
    "sequential frozen": ["head=sequential", "peft=frozen", *TRAINED],
    "fusion lora": ["head=fusion", "peft=lora", "head.members.tower.head=two_tower", *TRAINED],
    "fusion frozen": ["head=fusion", "peft=frozen"],
    "interest lora": ["head=interest", "peft=lora", "loss=bce", *TRAINED],
    "interest frozen": ["head=interest", "peft=frozen", "loss=bce", *TRAINED],
    "group_aggregate": ["head=group_aggregate", *TRAINED],
    "group_attention lora": ["head=group_attention", "peft=lora", *TRAINED],
    "group_hypergraph lora": ["head=group_hypergraph", "peft=lora", *TRAINED],
    "group_attention frozen": ["head=group_attention", "peft=frozen", *TRAINED],
    "group_attention ids": ["head=group_attention", "head.text=false", *TRAINED],
}
ONLY_FITTED = ("interest lora", "interest frozen")
"""Lines whose lists for all users take hours on a CPU."""
MODELS = ("ease", "item_knn", "user_knn")
"""Heads compared by a run of `evaluate`; `recommend` uses the first of them."""
COMMANDS = ("evaluate", "recommend everybody", "recommend one user")


def main() -> None:
    """Print a line for each head, then for evaluate and recommend."""
    place, *rest = sys.argv[1:]
    settings, names = [word for word in rest if "=" in word], [word for word in rest if "=" not in word]
    folder = Path(tempfile.mkdtemp(prefix="llmrec-memory-"))
    if place == "made":
        folder = Path(names.pop(0)).resolve() if names else folder
        place = str(prepared_shop(folder, 5_500, 17_000, 200_000, "split=leave_last_out"))
    data = read_prepared(place)
    place = str(data.path.resolve())
    print(f"{len(data.users):,} users, {len(data.items):,} items, {len(data.interactions):,} interactions\n"
          f"{'':28}{'stated':>12}{'measured':>12}{'ratio':>8}{'lists':>12}", flush=True)
    for name in names or [*LINES, *COMMANDS]:
        work: Callable[..., Any] = command if name in COMMANDS else fitted
        applicable = [word for word in settings if name not in COMMANDS or not is_own(word)]
        print_line(name, in_child_process(work, name, place, applicable, folder))


def print_line(name: str, result: Any) -> None:
    """Print a line: stated and measured memory, measured / stated, and the memory of the lists."""
    if isinstance(result, str):
        print(f"{name:28}{result}", flush=True)
        return
    stated, used, lists = result
    ratio = "small" if max(stated, used) < SMALL else f"{used / max(stated, 1):.2f}"
    print(f"{name:28}{in_bytes(stated):>12}{in_bytes(used):>12}{ratio:>8}{in_bytes(lists) if lists else '':>12}",
          flush=True)


def in_child_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of `work` in a child process, or its error as text."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=send_result, args=(theirs, work, arguments))
    child.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        return "the process was killed"
    finally:
        child.join()


def send_result(pipe: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Send the result of `work`, or its error as text."""
    try:
        pipe.send(work(*arguments))
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {str(error)[:160]}")


def fitted(name: str, place: str, settings: list[str], folder: Path) -> tuple[int, int, int]:
    """Fit a head and score all users; return bytes: stated, measured, and measured for the lists."""
    from llmrec_cli.data.queries import known_users
    from llmrec_cli.heads.memory import measure_memory_growth
    from llmrec_cli.scoring.scorer import recommend_lists
    from llmrec_cli.scoring.topk import item_hash_ranks

    own = dict(word.split("=") for word in settings if is_own(word))
    if "steps" in own:
        cut_short(int(own["steps"]))
    if "batches" in own:
        encode_some_batches(int(own["batches"]))
    cfg = compose("finetune", [*LINES[name], *(word for word in settings if not is_own(word))])
    events: dict[str, Any] = {}
    data = read_prepared(place)
    training = data.training("train")
    audience = cfg.head.default_audience() if cfg.audience == "auto" else cfg.audience
    context = Context(torch.device("cpu"), cfg.seed, validation_of(data, cfg.monitor, audience), cache=cfg.cache_folder,
                      log=lambda event, **values: events.__setitem__(event, values))
    head = fit(cfg.config, training, context, quiet=True)
    if name in ONLY_FITTED:
        return events["fitted"]["memory_stated"], events["fitted"]["memory_taken"], 0
    matrix = training.interactions.matrix
    everybody = known_users(np.arange(len(data.users)), data.users.ids, matrix, matrix, data.users)
    ranks = item_hash_ranks(data.items.ids)
    lists = measure_memory_growth(lambda: recommend_lists(head.score, everybody, 100, ranks))
    return events["fitted"]["memory_stated"], events["fitted"]["memory_taken"], lists or 0


def is_own(word: str) -> bool:
    """Return True for a setting of this script, False for one of the command."""
    return word.startswith(("steps=", "batches="))


def encode_some_batches(every: int) -> None:
    """Patch the encoder to run on the first four and every n-th of its batches without gradients.

    The vectors of the other batches are random: they take the same memory, and batches free theirs.
    """
    from llmrec_cli.encoders.text_encoder import TextEncoder

    calls = {"lower": 0, "_upper": 0}

    def is_run(part: str) -> bool:
        calls[part] += 1
        return torch.is_grad_enabled() or calls[part] <= 4 or calls[part] % every == 0

    def lower(self: Any, ids_RT: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        return plain_lower(self, ids_RT, mask_RT) if is_run("lower") else torch.randn(*ids_RT.shape, self.hidden_size)

    def upper(self: Any, hidden_RTD: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        return (plain_upper(self, hidden_RTD, mask_RT) if is_run("_upper") else
                torch.randn(len(hidden_RTD), self.embedding_size))

    plain_lower, plain_upper = TextEncoder.lower, TextEncoder._upper
    mock.patch.multiple(TextEncoder, lower=lower, _upper=upper).start()


def cut_short(most: int) -> None:
    """Patch the training loop so that every epoch ends after this number of steps."""
    from llmrec_cli.training import loop

    def run(self: Any, batches: Callable[..., Any], validate: Any) -> None:
        self.length = replace(self.length, steps_per_epoch=min(most, self.length.steps_per_epoch))
        plain(self, lambda *epoch: islice(batches(*epoch), most), validate)

    plain = loop._Loop.run
    mock.patch.object(loop._Loop, "run", run).start()


def command(name: str, data: str, settings: list[str], folder: Path) -> tuple[int, int, int]:
    """Run evaluate with several models, or recommend with the first; return bytes: stated and measured."""
    heads = MODELS if name == "evaluate" else MODELS[:1]
    models = [folder / f"run-{model}" for model in heads]
    for model, path in zip(heads, models, strict=True):
        if not (path / "manifest.json").is_file():
            run("finetune", path, f"prepared={data}", "refit=none", *LINES[model])
    place = folder / name.replace(" ", "-")
    if name == "evaluate":
        logged = run("evaluate", place, f"models=[{','.join(map(str, models))}]", *settings)
    elif name == "recommend everybody":
        logged = run("recommend", place, f"model={models[0]}", "queries=all", "k=100",
                     f"output={place}.parquet", *settings)
    else:
        user = read_prepared(data).users.ids[0]
        logged = run("recommend", place, f"model={models[0]}", f"query.user_id='{user}'", *settings)
    return logged["stated"], logged["taken"], 0


def run(name: str, place: Path, *arguments: str) -> dict[str, Any]:
    """Run a command in its own process and return its last log line about memory; {} for finetune."""
    done = subprocess.run([sys.executable, "-m", "llmrec_cli", name, f"run_dir={place}", *arguments],
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr.strip().splitlines()[-1])
    lines = [json.loads(line) for line in (place / "log.jsonl").read_text("utf-8").splitlines()]
    return {} if name == "finetune" else next(line for line in reversed(lines) if line["event"] == "memory_taken")


if __name__ == "__main__":
    main()
