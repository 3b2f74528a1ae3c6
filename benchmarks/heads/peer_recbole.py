"""RecBole 1.2.1: EASE fitted on exported interactions, and its full-sort evaluation, in CPU seconds.

    <python of RecBole's environment> peer_recbole.py <exported.npz> <l2> <repeats>

Prints one JSON object. RecBole imports ray and hyperopt, which it does not use here; they are replaced by empty
modules.
"""

import json
import os
import sys
import tempfile
import time
import types
from pathlib import Path

for name in ("ray", "ray.tune", "hyperopt"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["ray"].tune = sys.modules["ray.tune"]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.model.general_recommender import EASE  # noqa: E402
from recbole.trainer import Trainer  # noqa: E402
from recbole.utils import init_seed  # noqa: E402


def main() -> None:
    """Fit once, evaluate several times."""
    exported, l2, repeats = np.load(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    # RecBole's checkpoints contain pickled settings.
    load = torch.load
    torch.load = lambda *args, **kwargs: load(*args, **{**kwargs, "weights_only": False})
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        data = Path(folder) / "data"
        data.mkdir()
        for part in ("train", "valid", "test"):
            rows = zip(exported[f"{part}_user"], exported[f"{part}_item"], strict=True)
            lines = ["user_id:token\titem_id:token", *(f"{user}\t{item}" for user, item in rows)]
            (data / f"data.{part}.inter").write_text("\n".join(lines) + "\n")
        config = Config(model="EASE", dataset="data", config_dict={
            "data_path": folder, "benchmark_filename": ["train", "valid", "test"], "reg_weight": l2, "use_gpu": False,
            "load_col": {"inter": ["user_id", "item_id"]}, "state": "ERROR", "seed": 1, "reproducibility": True,
            "eval_args": {"mode": "full", "group_by": "user", "order": "RO", "split": {"RS": [8, 1, 1]}},
            "topk": [5, 10, 20, 50, 100], "metrics": ["Recall", "MRR", "NDCG", "Hit", "Precision", "MAP"],
            "valid_metric": "NDCG@10", "eval_batch_size": 4096 * 1000, "epochs": 1, "show_progress": False})
        init_seed(1, True)
        dataset = create_dataset(config)
        train, _, test = data_preparation(config, dataset)
        started = time.process_time()
        model = EASE(config, train.dataset)
        fitted = time.process_time() - started
        trainer = Trainer(config, model)
        trainer.tot_item_num = dataset.item_num
        seconds = []
        for _ in range(repeats):
            started = time.process_time()
            result = trainer.evaluate(test, load_best_model=False)
            seconds.append(time.process_time() - started)
    print(json.dumps({"fit": fitted, "evaluate": seconds, "ndcg@10": float(result["ndcg@10"])}))


if __name__ == "__main__":
    main()
