"""20,000 damaged inputs over all that is read: each is refused with an error for people, or read and accounted for.

Models of every head are in tests/heads/test_crafted_models.py, 2,000 more. Damage changes bytes, or kinds of values;
nothing may end in a traceback, take longer than a few seconds, or be read as something that it is not.
`make test-slow` reads a twentieth of them, `make test-faults` all.
"""

import json
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from llmrec_cli.config import compose
from llmrec_cli.data.manifest import read_manifest
from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.encoders.sources import load_encoder
from llmrec_cli.errors import ArtifactError, ConfigError, DataError, LlmrecError
from llmrec_cli.heads.artifact import read_facts
from llmrec_cli.ingest.readers.staging import stage
from llmrec_cli.requests.queries import read_queries
from llmrec_cli.settings.encoder import HuggingFaceSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.training.checkpoint import Progress, Weights, load_checkpoint, save_checkpoint
from llmrec_cli.training.optim import build_optimizer
from tests.faults.crafting import craft_table, crafted_tensors, crafted_values, kept, load, rehash
from tests.ingest.preparing import source
from tests.ingest.readers.test_fuzz import FILES, mutated

NUMBERS = {"readers": 8000, "queries": 3000, "configs": 1500, "manifests": 4000, "prepared tables": 1000,
           "tensor files": 1500, "checkpoints": 600, "encoder folders": 400}
"""Inputs of each kind: 20,000."""
MOST_SECONDS = 30
"""For one input, on a machine that does other things too."""
QUERIES = "".join(json.dumps({"query_id": f"q{n}", "history": [f"i{n % 7}", f"i{n % 5}"], "text": f"a film {n}"}) + "\n"
                  for n in range(12)).encode()
MEMBERS = b'query_id,members,user_id\na,"[""u1"", ""u2""]",\nb,u3|u4,\nc,,u5\n'
OPTION = {"kind": "fusion", "members": {"a": {"head": "ease", "l2": 3.0}, "b": {"head": "item_knn"}},
          "normalise": "zscore"}
EXPERIMENT = {"finetune": ["head=ease", "head.l2=20", "optim.epochs=3", "monitor=ndcg@10"], "prepare": ["split=random"]}


@pytest.fixture(autouse=True, params=[pytest.param(20, marks=pytest.mark.slow, id="a twentieth"),
                                      pytest.param(1, marks=pytest.mark.faults, id="all")])
def share(request, monkeypatch):
    """Leave only a share of the numbers of inputs."""
    for kind, number in NUMBERS.items():
        monkeypatch.setitem(NUMBERS, kind, number // request.param)


@contextmanager
def within_seconds():
    """Raise TimeoutError in what takes too long."""
    def stop(*_):
        raise TimeoutError(f"took longer than {MOST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fuzz(kind: str, one: Callable[[random.Random], str], refusals: type[LlmrecError]) -> Counter:
    """Return how many inputs were refused, and how many were read, of as many as `NUMBERS` has of the kind.

    `one` makes an input from the random numbers it is given and reads it; the input is known by its seed.
    """
    result: Counter = Counter()
    for number in range(NUMBERS[kind]):
        try:
            with within_seconds():
                result[one(random.Random(f"{kind} {number}"))] += 1
        except refusals as error:
            result["refused" if str(error).strip() else "refused without a word"] += 1
        except Exception as error:
            raise AssertionError(f"{kind} {number}: {error!r}") from error
    print(kind, dict(result), file=sys.stderr)
    assert not result["refused without a word"]
    return result


def flipped(content: bytes, rng: random.Random) -> bytes:
    """Return bytes with some of them changed, cut off or put in."""
    return mutated(content, rng) if rng.random() < 0.5 else mutated(content[:4096], rng) + content[4096:]


def test_readers(tmp_path):
    def one(rng):
        name = rng.choice(sorted(FILES))
        file = source(tmp_path, mutated(FILES[name], rng), name)
        staged = stage([file], tmp_path / "staged", ("user_id", "item_id"), ("value",), rest=rng.random() < 0.5)
        rows = pq.read_table(staged.path)
        rows.validate(full=True)
        assert staged.num_read[0] == len(rows) + len(staged.rejects)
        return "read"

    result = fuzz("readers", one, DataError)
    assert min(result["read"], result["refused"]) > 0.1 * result.total()


def test_queries(tmp_path):
    def one(rng):
        name, content = rng.choice([("q.jsonl", QUERIES), ("q.csv", MEMBERS)])
        (tmp_path / name).write_bytes(mutated(content, rng))
        asked = read_queries(str(tmp_path / name))
        assert len(asked.offsets) == len(asked.member_offsets) == len(asked) + 1
        assert len(set(asked.ids)) == len(asked), "each query once"
        return "read"

    result = fuzz("queries", one, DataError)
    assert min(result["read"], result["refused"]) > 0.005 * result.total()


def test_configs(tmp_path):
    """Experiments and options that somebody sends: bytes changed, or values of other kinds."""
    kinds = {"experiment": (EXPERIMENT, ["experiment=theirs"]), "head": (OPTION, ["head=theirs"])}
    for name, (content, chosen) in kinds.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "theirs.yaml").write_text(yaml.safe_dump(content))
        compose("finetune", chosen, str(tmp_path))

    def one(rng):
        name = rng.choice(sorted(kinds))
        content, chosen = kinds[name]
        written = (mutated(yaml.safe_dump(content).encode(), rng) if rng.random() < 0.5 else
                   yaml.safe_dump(crafted_values(content, rng)[0]).encode())
        (tmp_path / name / "theirs.yaml").write_bytes(written)
        compose("finetune", chosen, str(tmp_path))
        return "composed"

    result = fuzz("configs", one, ConfigError)
    assert min(result["composed"], result["refused"]) > 0.01 * result.total()


@pytest.fixture
def data(tiny_prepared, tmp_path):
    """A copy of prepared data to do damage to."""
    return Path(shutil.copytree(tiny_prepared, tmp_path / "data"))


def test_manifests(model, data):
    files = {model: read_facts, data: read_manifest}

    def one(rng):
        folder = rng.choice([model, data])
        file = folder / "manifest.json"
        content = file.read_bytes()
        try:
            if rng.random() < 0.5:
                file.write_bytes(flipped(content, rng))
            else:
                file.write_text(json.dumps(crafted_values(json.loads(content), rng)[0]))
            manifest = files[folder](folder)
            assert manifest["format"] in (1, 2)
            return "read"
        finally:
            file.write_bytes(content)

    result = fuzz("manifests", one, ArtifactError)
    assert result["refused"] > 0.3 * result.total()


def test_prepared_tables(data):
    def used(folder):
        result = read_prepared(folder)
        parts = [result.part("train", "valid"), result.part("test")]
        arrays = [array for part in parts for array in (part.user, part.item, part.value, part.timestamp)]
        names = [*result.users.ids, *result.items.ids, *result.items.titles, *result.items.texts]
        return [array.tobytes() for array in arrays], names, result.items.attributes.toarray().tobytes()

    before = used(data)

    def one(rng):
        name = rng.choice(["interactions", "users", "items"])
        with kept(data):
            if rng.random() < 0.3:
                file = data / f"{name}.parquet"
                file.write_bytes(flipped(file.read_bytes(), rng))
                rehash(data)
                used(data)
                return "read"
            what = craft_table(data / f"{name}.parquet", rng)
            rehash(data)
            assert used(data) == before, f"{what}: accepted as other data"
            return "the same"  # Nothing reads the column.

    result = fuzz("prepared tables", one, ArtifactError)
    assert result["refused"] > 0.3 * result.total()


def test_tensor_files(model):
    before = load(model)

    def one(rng):
        file = model / rng.choice(["model.safetensors", "histories.safetensors"])
        content = file.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        with kept(model):
            # The header, and the length before it: the numbers behind it may be any.
            head = flipped(content[:start], rng)
            file.write_bytes(head + content[start:])
            rehash(model)
            assert load(model) == before, "accepted, with another answer"
            return "the same"

    result = fuzz("tensor files", one, ArtifactError)
    assert result["refused"] > 0.3 * result.total()


class Small(torch.nn.Module):
    """A model of two layers and a buffer."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(3, 4), torch.nn.Linear(4, 1)
        self.register_buffer("seen", torch.zeros(5))

    def forward(self, x):
        return self.second(self.first(x))


def test_checkpoints(tmp_path):
    from safetensors.numpy import load_file, save_file

    def fresh():
        torch.manual_seed(2)
        model = Small()
        return model, build_optimizer([(model, 0.01)], AdamWSettings())

    model, optimizer = fresh()
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    weights = Weights(best={name: p.detach().clone() for name, p in model.named_parameters()})
    save_checkpoint(tmp_path, model, optimizer, weights, Progress(1, 0, 1, 0.5, [0.1], [0.2], 1), {"seed": 1})
    folder = tmp_path / "step-000001"

    def used():
        again, its_optimizer = fresh()
        weights = Weights()
        progress = load_checkpoint(tmp_path, again, its_optimizer, weights, {"seed": 1})
        state = its_optimizer.state_dict()["state"]
        tensors = [*again.state_dict().values(), *weights.best.values(),
                   *(t for of in state.values() for t in of.values()), torch.get_rng_state()]
        return repr(progress), b"".join(t.numpy().tobytes() for t in tensors)

    before = used()

    def one(rng):
        with kept(folder):
            if rng.random() < 0.5:
                arrays, what = crafted_tensors(load_file(folder / "state.safetensors"), rng)
                save_file({name: np.array(array, order="C") for name, array in arrays.items()},
                          folder / "state.safetensors")
            else:
                file = folder / "progress.json"
                content, what = crafted_values(json.loads(file.read_text()), rng, skipped=("plan",))
                file.write_text(json.dumps(content))
            manifest = json.loads((folder / "manifest.json").read_text())
            rehash(folder)
            if rng.random() < 0.2:
                content, what = crafted_values(manifest, rng)
                (folder / "manifest.json").write_text(json.dumps(content))
            after = used()
            # Counts of steps may be any; a bit more or less of random states, and buffers' numbers too.
            other = what.startswith(("progress", "buffer", "random"))
            assert after == before or other, f"{what}: accepted, and goes on from something else"
            return "read"

    result = fuzz("checkpoints", one, LlmrecError)
    assert result["refused"] > 0.3 * result.total()


def test_encoder_folders(tiny_encoder, tmp_path):
    from safetensors.numpy import load_file, save_file

    folder = Path(shutil.copytree(tiny_encoder, tmp_path / "bert"))
    settings = HuggingFaceSettings(path=str(folder), max_length=12)

    def one(rng):
        with kept(folder):
            file = rng.choice(sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors")))
            if file.suffix == ".safetensors":
                arrays, _ = crafted_tensors(load_file(file), rng)
                save_file({name: np.array(array, order="C") for name, array in arrays.items()}, file, {"format": "pt"})
            elif rng.random() < 0.5:
                file.write_bytes(flipped(file.read_bytes(), rng))
            else:
                file.write_text(json.dumps(crafted_values(json.loads(file.read_text("utf-8")), rng)[0]))
            vectors = load_encoder(settings, None, torch.device("cpu")).encode(["the moon"])
            assert np.isfinite(vectors).all()
            return "read"

    result = fuzz("encoder folders", one, LlmrecError)
    assert result["refused"] > 0.25 * result.total()
