"""Artifacts that another process replaces at full speed while they are read: one version or an error, never a mix (60,
94)."""

import csv
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from llmrec_cli import cli
from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.data.queries import known_users
from llmrec_cli.encoders.saving import load_adapter, save_adapter
from llmrec_cli.encoders.sources import load_encoder
from llmrec_cli.errors import ArtifactError, ConfigError
from llmrec_cli.heads.artifact import load_recommender, model_folder
from llmrec_cli.settings.encoder import HuggingFaceSettings
from llmrec_cli.settings.peft import LoraSettings
from tests.conftest import own_sigterm
from tests.faults.common import CONTEXT
from tests.some_slow import some_slow
from tests.tiny import write_tiny
from tests.tiny_models import save_tiny

pytestmark = pytest.mark.slow

WAYS = ("exchange", "gap", "link", "names", "bytes")
"""Ways to replace a folder: exchange two; two renames; a link to a new folder; each file by a rename; each in place."""
SWAP = """
import os, shutil, sys
from pathlib import Path
from llmrec_cli.folders import exchange

way, place, *versions = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
print("begun", flush=True)
n, before = 0, None
while True:
    n += 1
    version, new = versions[n % 2], place.with_name(f"{place.name}.{n}")
    if way in ("exchange", "gap", "link"):
        shutil.copytree(version, new)
    if way == "exchange":
        exchange(new, place)
        shutil.rmtree(new)
    elif way == "gap":
        os.rename(place, place.with_name("aside"))
        os.rename(new, place)
        shutil.rmtree(place.with_name("aside"))
    elif way == "link":
        link = place.with_name("link")
        link.symlink_to(new.name)
        os.replace(link, place)
        shutil.rmtree(before) if before else None
        before = new
    else:
        for file in sorted(version.rglob("*")):
            if file.is_file():
                target = place / file.relative_to(version)
                if way == "bytes":
                    target.write_bytes(file.read_bytes())
                else:
                    shutil.copy(file, place.with_name("file"))
                    os.replace(place.with_name("file"), target)
"""


@contextmanager
def swapping(way: str, place: Path, first: Path, second: Path) -> Iterator[None]:
    """Let another process replace the folder `place` by copies of the two versions, in turn, for the block."""
    if way == "link":
        shutil.copytree(first, place.with_name("start"))
        place.symlink_to("start")
    else:
        shutil.copytree(first, place)
    swapper = subprocess.Popen([sys.executable, "-c", SWAP, way, str(place), str(first), str(second)],
                               stdout=subprocess.PIPE, text=True)
    try:
        assert swapper.stdout is not None
        assert swapper.stdout.readline() == "begun\n"
        yield
        assert swapper.poll() is None
    finally:
        swapper.kill()
        swapper.wait()
        assert swapper.stdout is not None
        swapper.stdout.close()


def loads(number: int, way: str, folder: Path, versions: tuple[Path, ...],
          load: Callable[[Path], object]) -> Counter[str]:
    """Return how many loads gave the first version, the second, or an error; raise AssertionError for a mix."""
    whole = [load(version) for version in versions]
    assert whole[0] != whole[1]
    results: Counter[str] = Counter()
    with swapping(way, folder / "place", *versions):
        for _ in range(number):
            try:
                result = load(folder / "place")
            except ArtifactError:
                results["refused"] += 1
            except ConfigError:
                # Between two renames there is no such folder.
                results["missing"] += 1
            else:
                assert result in whole
                results[("first", "second")[whole.index(result)]] += 1
    assert not results["missing"] or way == "gap"
    # A folder that is replaced as a whole can be read, however often that happens.
    assert results["first"] + results["second"] > 0 or way not in ("exchange", "link")
    return results


@pytest.fixture(scope="module")
def shops(tmp_path_factory) -> tuple[Path, Path]:
    """Two folders with prepared data and a run of head=ease; in the second all names and a few numbers are others."""
    folder = tmp_path_factory.mktemp("shops")
    write_tiny(folder / "files")
    for name, prefix in (("first", ""), ("second", "x")):
        (folder / name).mkdir()
        for file in ("interactions", "items"):
            rows = list(csv.DictReader((folder / "files" / f"{file}.csv").open(encoding="utf-8")))
            with (folder / name / f"{file}.csv").open("w", encoding="utf-8", newline="") as stream:
                writer = csv.DictWriter(stream, rows[0].keys())
                writer.writeheader()
                for row in rows[:len(rows) - len(prefix)]:
                    named = {key: prefix + row[key] for key in ("user_id", "item_id", "title") if key in row}
                    writer.writerow(row | named)
        with chdir(folder / name), own_sigterm():
            assert cli.run(["prepare", "dataset=files", "dataset.name=shop", "dataset.interactions=interactions.csv",
                            "dataset.items=items.csv", "dataset.item_text={title}", "dataset.feedback=explicit",
                            "dataset.min_value=4"]) == 0
            assert cli.run(["finetune", "head=ease", "run_dir=run", "prepared=data/prepared/shop"]) == 0
    return folder / "first", folder / "second"


def shop(place: Path) -> tuple:
    """All there is in prepared data, also what is read when it is first needed."""
    data = read_prepared(place)
    negatives = data.negatives("train", "valid", "test")
    assert negatives is not None
    return (data.manifest["fingerprint"], tuple(data.users.ids), tuple(data.items.titles),
            data.interactions.user.tobytes(), data.interactions.item.tobytes(), data.interactions.value.tobytes(),
            negatives.item.tobytes(), data.split.tobytes())


def model(place: Path) -> tuple:
    """All there is in the model of a run, or of what was published: ids, histories, and what its head says."""
    known = load_recommender(model_folder(str(place)), CONTEXT)
    rows = known.history[:4]
    queries = known_users(np.arange(4), known.users.ids[:4], rows, rows)
    return (known.manifest["data_fingerprint"], tuple(known.users.ids), tuple(known.items.titles),
            known.history.indices.tobytes(), known.seen.indices.tobytes(), known.head.score(queries).numpy().tobytes())


@pytest.mark.parametrize("way", some_slow(WAYS, 2, 0))
def test_prepared_data_is_of_one_version(tmp_path, shops, way):
    prepared = tuple(version / "data/prepared/shop" for version in shops)
    loads(25, way, tmp_path, prepared, shop)


@pytest.mark.parametrize("way", some_slow(WAYS, 2, 0))
def test_a_model_is_of_one_version(tmp_path, shops, way):
    loads(25, way, tmp_path, tuple(version / "run" for version in shops), model)


@pytest.mark.faults
@pytest.mark.parametrize(("what", "load"), [("data/prepared/shop", shop), ("run", model)])
def test_two_thousand_loads_while_contents_are_swapped_see_no_mix(tmp_path, shops, what, load):
    versions, result = tuple(version / what for version in shops), {}
    for way in WAYS:
        (tmp_path / way).mkdir()
        result[way] = loads(400, way, tmp_path / way, versions, load)
    print(what, result)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> tuple[Path, Path]:
    """Two encoders with other weights and another vocabulary."""
    folder = tmp_path_factory.mktemp("encoders")
    return save_tiny(folder / "first"), save_tiny(folder / "second", "roberta")


def vectors(place: Path) -> bytes:
    """The vectors that an encoder makes: its weights, vocabulary and configuration all decide on them."""
    settings = HuggingFaceSettings(path=str(place), max_length=12)
    return load_encoder(settings, None, torch.device("cpu")).encode(["the moon", "love"]).tobytes()


@pytest.mark.parametrize("way", some_slow(WAYS, 2, 0))
def test_an_encoder_without_hashes_is_of_one_version(tmp_path, encoders, way):
    print(way, loads(20, way, tmp_path, encoders, vectors))


@pytest.mark.parametrize("way", some_slow(WAYS, 2, 0))
def test_an_adapter_is_of_one_version(tmp_path, way):
    for n, name in enumerate(("first", "second")):
        save_adapter(tmp_path / name, {"weight": np.full(1000, n, np.float32)}, LoraSettings(), "base")

    def adapter(place: Path) -> bytes:
        return load_adapter(LoraSettings(adapter=str(place)), "base").take_all()["weight"].tobytes()

    (tmp_path / "swapped").mkdir()
    loads(100, way, tmp_path / "swapped", (tmp_path / "first", tmp_path / "second"), adapter)
