"""Cold items by frozen texts, by tuned texts and by both, with the same heads: nearest neighbours and kernel ridge.

    python benchmarks/tuned_texts.py <folder> <prepared data of a split> ... [finetune setting ...]

Each split is prepared data with cold items (split=cold_items). Texts are tuned once per split, on train and valid, for
the fixed number of `optim.epochs`, so nothing is chosen on test; then each head ranks the cold items of test. Defaults
are the recipe of docs/finetuning.md: all six layers of MiniLM, four epochs, 128 items a step. Settings replace them,
for example peft=embedding_adapter or head.features.interpolation=0.6. Heads have fixed settings: kNN is
head=item_similarity with encoder.whitening=0.25, ridge is head=content without whitening. Values per user stay in
<folder>, and a split that is there already is not run again. Prints means over the splits, and the differences from the
same head with frozen texts, with 95% intervals over users.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from table import difference, per_user

from llmrec_cli.config import compose
from llmrec_cli.data.prepared import PreparedData, read_prepared
from llmrec_cli.data.queries import known_users
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.heads.base import Context, build
from llmrec_cli.heads.shared.cold_item_validation import ColdTask
from llmrec_cli.heads.shared.item_texts import ItemTexts
from llmrec_cli.scoring.topk import item_hash_ranks

CPU = torch.device("cpu")
METRICS = ("ndcg@20", "recall@20")
RECIPE = ["peft=top_layers", "peft.num_layers=6", "encoder.max_length=32", "optim.encoder_learning_rate=1.5e-4",
          "optim.batch_size=128", "optim.epochs=4", "optim.warmup_share=0.06"]
MAP = ["peft=embedding_adapter", "encoder.max_length=32", "optim.batch_size=4096", "optim.epochs=60"]
HEADS: dict[str, list[str]] = {
    "kNN": ["head=item_similarity", "encoder.whitening=0.25"],
    "ridge": ["head=content", "head.features.attributes=0", "head.denoise=0", "head.gamma=0.5", "head.l2=1",
              "head.blend=0"]}
VERSIONS = {"frozen": {"tuned": False}, "tuned": {"tuned": True, "stop_after": 0},
            "both": {"tuned": True, "stop_after": 0, "frozen_text": 1.0}}


def main() -> None:
    """Run every split that has no values yet, and print the table."""
    words = [word for word in sys.argv[1:] if "=" not in word]
    settings = [word for word in sys.argv[1:] if "=" in word]
    folder, splits = Path(words[0]), [Path(word) for word in words[1:]]
    folder.mkdir(parents=True, exist_ok=True)
    results = [split_values(folder / f"{split.name}.json", split, settings) for split in splits]
    seconds = [result.pop("CPU seconds of tuning") for result in results]
    print(f"{len(splits)} splits, test, cold items; {' '.join(settings)}; tuning took {seconds} CPU seconds\n"
          f"{'':16}" + "".join(f"{metric:>12}{'difference from frozen':>42}" for metric in METRICS))
    for name in results[0]:
        line = f"{name:16}"
        for metric in METRICS:
            ours, frozen = ([result[of][metric] for result in results] for of in (name, f"{name.split()[0]} frozen"))
            means = [[np.mean(list(values.values())) for values in of] for of in (ours, frozen)]
            gain = "" if ours == frozen else (f"{np.mean(means[0]) / np.mean(means[1]) - 1:+.1%} "
                                              + difference(per_user(ours), per_user(frozen)))
            line += f"{np.mean(means[0]):12.4f}{gain:>42}"
        print(line)


def split_values(file: Path, split: Path, settings: list[str]) -> dict[str, Any]:
    """Return the metrics per user of each head and version on a split, from the file if it is there."""
    if file.exists():
        return json.loads(file.read_text("utf-8"))
    data = read_prepared(split)
    training = data.training("train", "valid")
    context = Context(CPU, seed=1, log=lambda event, **values: None, cache=file.parent / "cache")
    recipe = [*(MAP if "peft=embedding_adapter" in settings else RECIPE), *settings]
    values: dict[str, Any] = {}
    tuned, began = None, time.process_time()
    for name, head in HEADS.items():
        config = compose("finetune", [*head, "head.features.tuned=true", *recipe]).config
        in_training = training.interactions.item_counts > 0
        # A map is trained on whitened vectors, so each whitening has its own; an encoder serves every head.
        if tuned is None or tuned.bank is None:
            tuned = tuned_texts(config, training, context)
        values.setdefault("CPU seconds of tuning", round(time.process_time() - began))
        tuned.settings = config.encoder
        tuned.recentre(in_training)
        for version, changed in VERSIONS.items():
            features = replace(config.head.features, **changed)
            model = build(replace(config, head=replace(config.head, features=features)))
            with ReadyTexts(tuned):
                model.fit(training, context)
            values[f"{name} {version}"] = cold_values(data, training, model)
            print(f"{split.name} {name} {version}: " + ", ".join(
                f"{metric} {np.mean(list(of.values())):.4f}" for metric, of in values[f"{name} {version}"].items()),
                flush=True)
    file.write_text(json.dumps(values), "utf-8")
    return values


def tuned_texts(config: Any, training: TrainingData, context: Context) -> ItemTexts:
    """Return the item texts after all epochs of training."""
    features = replace(config.head.features, stop_after=config.optim.epochs)
    model = build(replace(config, head=replace(config.head, features=features)))
    model.fit(training, context)
    texts = model.item_texts
    assert texts is not None
    return texts


class ReadyTexts:
    """While entered, trained item texts are these instead of encoded again; frozen ones are encoded as usual."""

    def __init__(self, tuned: ItemTexts) -> None:
        self.tuned, self.encode = tuned, ItemTexts.encode

    def __enter__(self) -> None:
        def ready(settings: Any, peft: Any, *others: Any) -> ItemTexts:
            return self.tuned if peft.trains else self.encode(settings, peft, *others)

        ItemTexts.encode = ready  # type: ignore[assignment, method-assign]

    def __exit__(self, *_: object) -> None:
        ItemTexts.encode = self.encode  # type: ignore[method-assign]


def cold_values(data: PreparedData, training: TrainingData, model: Any) -> dict[str, dict[str, float]]:
    """Return each metric of each test user, with only items without training interactions ranked."""
    matrix, test = training.interactions.matrix, data.part("test").matrix
    cold_N = training.interactions.item_counts == 0
    users = np.flatnonzero((np.diff(matrix.indptr) > 0) & (test @ cold_N.astype(np.float32) > 0))
    queries = known_users(users, data.users.ids, matrix, matrix, data.users)
    relevant = sp.csr_array(test[users].multiply(cold_N))
    relevant.eliminate_zeros()
    task = ColdTask(queries, relevant, matrix, np.flatnonzero(~cold_N), cold_N, item_hash_ranks(data.items.ids),
                    METRICS[0])
    scores_QC = model.score(queries)[:, np.flatnonzero(cold_N)]
    return {metric: dict(zip(queries.ids.tolist(), task.values(scores_QC, metric).tolist(), strict=True))
            for metric in METRICS}


if __name__ == "__main__":
    main()
