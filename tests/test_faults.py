"""The fault matrix, by number: those cases that have no better place among the tests of a module."""

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
import torch
import yaml

from llmrec_cli import run_dir
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.manifest import sha256
from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.data.queries import known_users
from llmrec_cli.errors import ArtifactError
from llmrec_cli.heads.artifact import load_recommender, save_recommender
from llmrec_cli.heads.base import Context, build
from llmrec_cli.heads.pair_steps import ChoiceSteps, Part
from llmrec_cli.ingest import bombs
from llmrec_cli.metrics.ranking import ranking_metrics
from llmrec_cli.run_dir import lock
from llmrec_cli.scoring.scorer import hits, recommend_lists
from llmrec_cli.settings.head import Popularity, Recipe
from llmrec_cli.settings.heads.mf import Mf
from llmrec_cli.settings.loss import Softmax
from llmrec_cli.stages import evaluate
from llmrec_cli.training import loop
from tests.tiny import write_tiny

LLMREC = str(Path(sys.executable).parent / "llmrec")
CONTEXT = Context(torch.device("cpu"), 1)


@pytest.fixture(scope="module")
def tower_model(tmp_path_factory, tiny_prepared, tiny_encoder):
    """A model folder with all that there is: ids, texts, an encoder and its adapter."""
    from llmrec_cli import cli

    run = tmp_path_factory.mktemp("run") / "tower"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run.parent)
        cli.run(["finetune", f"prepared={tiny_prepared}", f"run_dir={run}", "device=cpu", "encoder=hf",
                 f"encoder.path={tiny_encoder}", "encoder.max_length=16", "head=two_tower", "head.embedding_size=8",
                 "peft.num_layers=1", "optim.epochs=1", "optim.batch_size=128"])
    return run / "model"


@pytest.fixture
def model(tower_model, tmp_path):
    """A copy of the model to do damage to."""
    return Path(shutil.copytree(tower_model, tmp_path / "model"))


def edit(model, name, change):
    """Change a file of the model and enter its new hash into the manifest, as someone who means harm would."""
    file = model / name
    file.write_text(change(file.read_text("utf-8")), "utf-8")
    manifest = json.loads((model / "manifest.json").read_text("utf-8"))
    manifest["files"][name] = sha256(file)
    (model / "manifest.json").write_text(json.dumps(manifest))


# --- crash and I/O

# 1 to 11 and 20 of training itself: training/test_kills.py, training/test_interrupts.py, training/test_full_disks.py,
# training/test_several.py; 21 and 25: stages/test_finetune.py.

FACTORS = ["head=mf", "head.embedding_size=4", "optim.epochs=3", "optim.batch_size=64", "optim.checkpoint_every=2",
           "device=cpu"]


def at_step(monkeypatch, number, what):
    """Let `what` happen when training has taken so many steps."""
    tell = loop._Loop._tell

    def told(self, event, when, **values):
        tell(self, event, when, **values)
        if event == "step" and when["step"] == number:
            what()

    monkeypatch.setattr(loop._Loop, "_tell", told)


def files(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(Path(folder).rglob("*"))
            if file.is_file()}


@pytest.mark.parametrize(("number", "code", "said"), [(signal.SIGTERM, 143, ""), (signal.SIGINT, 130, "interrupted")])
def test_9_10_16_17_a_signal_ends_a_run_with_a_checkpoint_and_a_moved_copy_of_it_goes_on_to_the_same_bytes(
        llmrec, tiny_prepared, monkeypatch, number, code, said):
    recipe = ["finetune", f"prepared={tiny_prepared}", *FACTORS]
    assert llmrec(*recipe, "run_dir=whole").code == 0
    with monkeypatch.context() as patch:
        at_step(patch, 5, lambda: signal.raise_signal(number))
        done = llmrec(*recipe, "run_dir=cut")
    assert done.code == code
    assert done.err.endswith(f"{said}\n")
    assert "Traceback" not in done.err
    assert sorted(path.name for path in Path("cut/checkpoints").iterdir()) == ["step-000004", "step-000005"]
    assert not Path("cut/model").exists()
    shutil.copytree("cut", "elsewhere/moved")
    shutil.rmtree("cut")
    # A clock that was set back makes the newest checkpoint look old.
    os.utime("elsewhere/moved/checkpoints/step-000005", (0, 0))
    assert llmrec("finetune", "resume=elsewhere/moved").code == 0
    assert files("elsewhere/moved/model") == files("whole/model")


def test_6_a_run_without_room_for_checkpoints_ends_with_5_within_seconds(llmrec, tiny_prepared, monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(run_dir.shutil, "disk_usage", lambda _: usage._replace(free=100))
    started = time.monotonic()
    done = llmrec("finetune", f"prepared={tiny_prepared}", *FACTORS, "run_dir=run")
    assert (done.code, time.monotonic() - started < 5) == (5, True)
    assert "0 MiB are free, and twice a checkpoint takes" in done.err
    assert not Path("run/model").exists()


def test_7_a_run_directory_that_cannot_be_written_ends_with_5_before_training(llmrec, tiny_prepared):
    done = llmrec("finetune", f"prepared={tiny_prepared}", *FACTORS, "run_dir=/proc/run")
    assert done.code == 5
    assert "/proc/run: cannot be written" in done.err
    assert "epoch" not in done.err


def test_23_a_checkpoint_of_a_newer_format_is_refused_and_one_of_the_format_before_is_gone_on_with(
        llmrec, tiny_prepared, monkeypatch):
    with monkeypatch.context() as patch:
        at_step(patch, 5, lambda: signal.raise_signal(signal.SIGTERM))
        assert llmrec("finetune", f"prepared={tiny_prepared}", *FACTORS, "run_dir=run").code == 143
    folder = Path("run/checkpoints/step-000005")
    progress = json.loads((folder / "progress.json").read_text())
    for key in ("accumulate", "schedule", "layer_decay", "ema", "precision"):
        del progress["plan"][f"optim.{key}"]
    del progress["progress"]["parts"], progress["progress"]["shrunk"]
    (folder / "progress.json").write_text(json.dumps(progress))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["progress.json"] = sha256(folder / "progress.json")
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    done = llmrec("finetune", "resume=run")
    assert done.code == 4
    assert "format 99 is not one that this llmrec reads" in done.err
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": 1}))
    assert llmrec("finetune", "resume=run").code == 0


def test_18_19_a_checkpoint_that_is_cut_short_or_has_a_flipped_bit_is_refused_with_4(llmrec, tiny_prepared,
                                                                                  monkeypatch):
    with monkeypatch.context() as patch:
        at_step(patch, 5, lambda: signal.raise_signal(signal.SIGTERM))
        assert llmrec("finetune", f"prepared={tiny_prepared}", *FACTORS, "run_dir=run").code == 143
    rng, refused = random.Random(5), 0
    for file in sorted(Path("run/checkpoints/step-000005").iterdir()):
        content = file.read_bytes()
        damaged = [content[:size] for size in (0, len(content) // 2, len(content) - 2)]
        for _ in range(3):
            flipped = bytearray(content)
            # Of the manifest only the hashes: a bit of a space is nobody's loss.
            place = rng.randrange(len(content)) if file.name != "manifest.json" else len(content) - 40
            flipped[place] ^= 1 << rng.randrange(7)
            damaged.append(bytes(flipped))
        for one in damaged:
            file.write_bytes(one)
            done = llmrec("finetune", "resume=run")
            assert (done.code, "step-000005" in done.err, "Traceback" in done.err) == (4, True, False), done.err
            assert "to go on from the" in done.err
            refused += 1
        file.write_bytes(content)
    assert refused == 18
    assert llmrec("finetune", "resume=run").code == 0


def test_53_a_loss_that_is_not_a_number_ends_with_6_and_leaves_the_last_finite_checkpoint(llmrec, tiny_prepared,
                                                                                       monkeypatch):
    measure, factor = ChoiceSteps.loss, [1.0]
    with monkeypatch.context() as patch:
        patch.setattr(ChoiceSteps, "loss", lambda self, batch: measure(self, batch) * factor[-1])
        at_step(patch, 5, lambda: factor.append(float("nan")))
        done = llmrec("finetune", f"prepared={tiny_prepared}", *FACTORS, "run_dir=run")
    assert done.code == 6
    assert "the loss is nan at step 6; lower optim.learning_rate=0.01" in done.err
    assert not Path("run/model").exists()
    assert sorted(path.name for path in Path("run/checkpoints").iterdir()) == ["step-000002", "step-000004"]
    assert llmrec("finetune", "resume=run").code == 0


def test_54_memory_that_runs_out_parts_the_steps_of_a_run_and_is_logged(llmrec, tiny_prepared, monkeypatch):
    measure, limit = ChoiceSteps.loss, [30]

    def short(self, batch):
        if len(batch.places if isinstance(batch, Part) else batch[0]) > limit[0]:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return measure(self, batch)

    recipe = ["finetune", f"prepared={tiny_prepared}", *FACTORS, "refit=none"]
    assert llmrec(*recipe, "run_dir=whole").code == 0
    monkeypatch.setattr(ChoiceSteps, "loss", short)
    assert llmrec(*recipe, "run_dir=short").code == 0
    events = {name: [json.loads(line) for line in Path(name, "log.jsonl").read_text().splitlines()]
              for name in ("whole", "short")}
    assert [e["parts"] for e in events["short"] if e["event"] == "out_of_memory"][:2] == [2, 4]
    losses = {name: [e["loss"] for e in events[name] if e["event"] == "step"] for name in events}
    assert losses["short"] == pytest.approx(losses["whole"], rel=1e-5)
    limit[0] = 0
    done = llmrec(*recipe, "run_dir=none")
    assert done.code == 5
    assert "mf: out of memory at step 1, and the step cannot be made smaller" in done.err


def test_54_memory_that_runs_out_anywhere_else_ends_with_5_and_no_traceback(llmrec, tiny_prepared, monkeypatch):
    def fail(*_):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr("llmrec_cli.heads.ease.Ease.fit", fail)
    done = llmrec("finetune", f"prepared={tiny_prepared}", "head=ease", "run_dir=run")
    assert done.code == 5
    assert "finetune: out of memory (Unable to allocate 9 TiB)" in done.err
    assert "Traceback" not in done.err


def test_12_a_closed_stdout_and_stderr_do_not_stop_a_run(tmp_path, tiny_prepared):
    command = f"'{LLMREC}' finetune head=popularity prepared='{tiny_prepared}' run_dir=run >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, check=False).returncode == 0
    assert (tmp_path / "run/model/manifest.json").is_file()


def test_12_a_reader_that_leaves_ends_the_command_without_a_traceback(tmp_path):
    process = subprocess.Popen([LLMREC, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


def test_12_without_a_terminal_nothing_but_plain_lines_is_written(llmrec, tiny_prepared, tiny_encoder):
    done = llmrec("finetune", f"prepared={tiny_prepared}", "head=two_tower", "head.embedding_size=8", "encoder=hf",
                  f"encoder.path={tiny_encoder}", "encoder.max_length=16", "peft=frozen", "optim.epochs=1",
                  "run_dir=run")
    assert done.code == 0
    assert all(c.isprintable() or c == "\n" for c in done.out + done.err)
    assert len(done.err.splitlines()) == 4  # The memory it takes, an epoch, the refit's, and where the run is.


def test_13_a_second_run_in_the_same_folder_ends_with_75(llmrec, tiny_prepared):
    with lock(Path("run/.lock"), "the first"):
        done = llmrec("finetune", "head=popularity", f"prepared={tiny_prepared}", "run_dir=run")
    assert done.code == 75
    assert done.err.startswith("llmrec: locked: run/.lock: another run is writing the run in run; wait for it to end")


def test_13_a_second_prepare_of_the_same_data_ends_with_75_and_leaves_it_as_it_was(llmrec, prepare_tiny):
    assert llmrec("prepare", *prepare_tiny).code == 0
    before = Path("data/prepared/tiny/manifest.json").read_bytes()
    with lock(Path("data/prepared/.tiny.lock"), "the first"):
        done = llmrec("prepare", *prepare_tiny, "split.seed=7")
    assert done.code == 75
    assert "another run is writing the prepared data data/prepared/tiny" in done.err
    assert Path("data/prepared/tiny/manifest.json").read_bytes() == before


# --- artifacts

def test_18_a_file_cut_short_anywhere_is_refused(model):
    files = [file for file in sorted(model.rglob("*")) if file.is_file()]
    assert len(files) > 8
    for file in files:
        content = file.read_bytes()
        for size in (0, len(content) // 2, len(content) - 2):  # The last byte of JSON is a line break.
            file.write_bytes(content[:size])
            with pytest.raises(ArtifactError, match=file.name):
                load_recommender(model, CONTEXT)
        file.unlink()
        with pytest.raises(ArtifactError, match=file.name):
            load_recommender(model, CONTEXT)
        file.write_bytes(content)
    load_recommender(model, CONTEXT)


def test_19_a_flipped_bit_is_refused(model):
    rng = random.Random(3)
    for file in [file for file in sorted(model.rglob("*")) if file.is_file() and file.name != "manifest.json"]:
        content = bytearray(file.read_bytes())
        place, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
        content[place] ^= bit
        file.write_bytes(content)
        with pytest.raises(ArtifactError, match=file.name):
            load_recommender(model, CONTEXT)
        content[place] ^= bit
        file.write_bytes(content)


def test_19_a_flipped_bit_of_the_manifest_is_refused_or_harmless(model):
    file, rng = model / "manifest.json", random.Random(4)
    content = bytearray(file.read_bytes())
    refused = 0
    for _ in range(150):
        place, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
        content[place] ^= bit
        file.write_bytes(content)
        try:
            load_recommender(model, CONTEXT)
        except ArtifactError:
            refused += 1
        content[place] ^= bit
    assert refused > 75


@pytest.mark.parametrize("content", ["[]", "{}", '{"format": 1}', '{"format": "1", "files": {}}',
                                     '{"format": 1, "files": {}}'])
def test_19_a_manifest_that_is_none_is_refused(model, content):
    (model / "manifest.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        load_recommender(model, CONTEXT)


@pytest.mark.parametrize("command", [["evaluate"], ["recommend", "queries=all"]])
def test_18_a_damaged_model_ends_a_command_with_4_and_the_remedy(llmrec, model, command):
    (model / "model.safetensors").write_bytes(b"")
    done = llmrec(*command, "model=model")
    assert done.code == 4
    assert done.err.startswith("llmrec: artifact error: model/model.safetensors: its SHA-256 is not the one")
    assert "train it again with `llmrec finetune`" in done.err
    assert "Traceback" not in done.err


def test_22_a_head_that_does_not_fit_its_tensors_is_refused(model):
    edit(model, "config.yaml", lambda text: text.replace("embedding_size: 8", "embedding_size: 16"))
    with pytest.raises(ArtifactError, match="does not fit the two_tower head"):
        load_recommender(model, CONTEXT)


def test_23_a_newer_format_is_refused_by_name(model):
    manifest = json.loads((model / "manifest.json").read_text())
    (model / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(ArtifactError, match="format 99 is newer than 1, the newest this llmrec reads; upgrade llmrec"):
        load_recommender(model, CONTEXT)


# --- data

ROWS = "user_id,item_id,value,timestamp\n" + "".join(f"u{n % 9},i{n % 7},1,{1_600_000_000 + n}\n" for n in range(40))


def prepared_ids(llmrec, content, *settings, name="clicks.csv"):
    """Prepare a file with prepare's own command and return the user ids that came out."""
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    done = llmrec("prepare", "dataset=files", "dataset.name=fault", f"dataset.interactions={name}", "split=none",
                  *settings)
    assert done.code == 0, done.err
    return pq.read_table("data/prepared/fault/interactions.parquet")["user_id"].to_pylist()


def refused(llmrec, content, *settings, name="clicks.csv"):
    """Prepare a file that is to be refused with 3, and return the one sentence that says why."""
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    done = llmrec("prepare", "dataset=files", f"dataset.interactions={name}", "split=none", *settings)
    assert done.code == 3
    assert "Traceback" not in done.err
    assert not Path("data/prepared/data").exists()
    return textwrap.dedent(done.err.removeprefix("llmrec: data error: ")).strip()


def test_26_bad_utf_8_is_named_by_line_and_byte(llmrec):
    assert refused(llmrec, ROWS.encode() + b"caf\xe9,i,1,1600000000\n") == (
        f"clicks.csv: line 42, byte {len(ROWS) + 3} (counted from 0): 0xe9 is not utf-8; set dataset.encoding to the "
        f"file's own, latin-1 or gb18030 say, or repair it")


def test_27_a_byte_order_mark_is_accepted_and_utf_16_refused(llmrec):
    assert len(prepared_ids(llmrec, b"\xef\xbb\xbf" + ROWS.encode())) == 40
    assert refused(llmrec, ROWS.encode("utf-16")) == (
        "clicks.csv: is encoded in UTF-16 or UTF-32; convert it to UTF-8, for example with "
        "`iconv -f utf-16 -t utf-8`")
    assert refused(llmrec, ROWS.encode("utf-16-le")) == (
        "clicks.csv: line 1 has zero bytes, so it is UTF-16 or not text; convert it to UTF-8")


def test_28_an_empty_file_and_one_of_only_a_header_are_refused(llmrec):
    assert refused(llmrec, "") == "clicks.csv: is empty; it needs a header and rows"
    assert refused(llmrec, "user_id,item_id\n") == "clicks.csv: has a header but no rows"


def test_29_a_missing_or_duplicate_column_is_refused_with_the_nearest_name(llmrec):
    assert refused(llmrec, "user_id,itemid\nu,i\n") == (
        "clicks.csv: no column 'item_id'; there are 'user_id', 'itemid'; map it with dataset.columns.item_id=<name> "
        "(did you mean 'itemid'?)")
    assert refused(llmrec, "user_id,item_id,user_id\nu,i,v\n") == (
        "clicks.csv: the column 'user_id' is there twice; rename one of them in the header")


def test_30_a_wider_row_is_rejected_and_one_empty_trailing_field_is_not_wider(llmrec):
    content = ROWS + "u1,shifted,1,1600000000,9\nu1,trailing,1,1600000000,\n"
    prepared_ids(llmrec, content, "dataset.max_reject_share=0.1")
    items = pq.read_table("data/prepared/fault/interactions.parquet")["item_id"].to_pylist()
    assert "trailing" in items
    assert "shifted" not in items
    assert pq.read_table("data/prepared/fault/rejects.parquet").to_pylist() == [
        {"file": "clicks.csv", "line": 42, "column": "", "reason": "5 fields where the header has 4"}]


@pytest.mark.parametrize("write", [
    lambda names: ("x.csv", "user_id,item_id\n" + "".join(f"{name},i\n" for name in names)),
    lambda names: ("x.jsonl", "".join(json.dumps({"user_id": name, "item_id": "i"}) + "\n" for name in names))])
def test_31_32_names_of_nothing_and_leading_zeros_are_ids_like_any_other(llmrec, write):
    names = ["NA", "null", "None", "nan", "007", "7", "7.0", "-", "true"]
    name, content = write(names)
    assert sorted(prepared_ids(llmrec, content, name=name)) == sorted(names)


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_33_integers_beyond_2_53_beside_a_blank_are_exact(llmrec, name):
    numbers = [2**53, 2**53 + 1, 2**63 - 1, None]
    if name == "x.parquet":
        pq.write_table(pa.table({"user_id": pa.array(numbers, pa.int64()), "item_id": ["i"] * 4}), "it")
        content = Path("it").read_bytes()
    elif name == "x.jsonl":
        content = "".join(json.dumps({"user_id": n, "item_id": "i"}) + "\n" for n in numbers)
    else:
        content = "user_id,item_id\n" + "".join(f"{'' if n is None else n},i\n" for n in numbers)
    ids = prepared_ids(llmrec, content, "dataset.max_reject_share=0.5", name=name)
    assert sorted(ids) == sorted(map(str, numbers[:3]))
    assert [(r["line"], r["column"], r["reason"]) for r in pq.read_table("data/prepared/fault/rejects.parquet")
            .to_pylist()] == [(4 + (name == "x.csv"), "user_id", "is empty")]


def test_34_numbers_and_texts_in_one_id_column_are_all_texts(llmrec):
    rows = [7, "7", "x", 1.5, 10**20]
    mixed = "".join(json.dumps({"user_id": n, "item_id": f"i{place}"}) + "\n" for place, n in enumerate(rows))
    texts = "".join(json.dumps({"user_id": str(n), "item_id": f"i{place}"}) + "\n" for place, n in enumerate(rows))
    texts = texts.replace("1e+20", "100000000000000000000")
    found = [prepared_ids(llmrec, content, name="x.jsonl") for content in (mixed, texts)]
    assert sorted(found[0]) == sorted(found[1]) == sorted(["7", "7", "x", "1.5", "100000000000000000000"])
    pq.write_table(pa.table({"user_id": [7, 8], "item_id": ["a", "b"]}), "a.parquet")
    pq.write_table(pa.table({"user_id": ["7", "x"], "item_id": ["c", "d"]}), "b.parquet")
    done = llmrec("prepare", "dataset=files", "dataset.name=both", "dataset.interactions=[a.parquet,b.parquet]",
                  "split=none")
    assert done.code == 0, done.err
    both = pq.read_table("data/prepared/both/interactions.parquet")
    assert sorted(both["user_id"].to_pylist()) == ["7", "7", "8", "x"]


SCRIPTS = ["latin", "ελληνικά", "кириллица", "עברית", "العربية", "فارسی", "हिन्दी", "বাংলা", "தமிழ்", "తెలుగు", "ไทย",
           "ລາວ", "မြန်မာ", "ខ្មែរ", "ქართული", "հայերեն", "አማርኛ", "汉字", "かな", "한국어",
           "🎬🇫🇷👩‍👩‍👧", "\u202eright\u202c",
           "é", "e\u0301", "ﬁ", "fi", "Å", "\u212b", "a\u200db", " padded ", "ß", "ẞ"]


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_43_ids_of_any_script_come_out_as_they_went_in(llmrec, name):
    if name == "x.parquet":
        pq.write_table(pa.table({"user_id": SCRIPTS, "item_id": SCRIPTS}), "it")
        content = Path("it").read_bytes()
    elif name == "x.jsonl":
        content = "".join(json.dumps({"user_id": n, "item_id": n}, ensure_ascii=len(n) % 2 == 0) + "\n"
                          for n in SCRIPTS)
    else:
        content = "user_id,item_id\n" + "".join(f"{n},{n}\n" for n in SCRIPTS)
    assert sorted(prepared_ids(llmrec, content, name=name)) == sorted(SCRIPTS)
    interactions = pq.read_table("data/prepared/fault/interactions.parquet")
    assert interactions["user_id"].to_pylist() == interactions["item_id"].to_pylist()
    for kind in ("user", "item"):
        found = pq.read_table(f"data/prepared/fault/{kind}s.parquet")
        assert sorted(found[f"{kind}_id"].to_pylist()) == sorted(SCRIPTS)


START = 1_600_000_000
GROUPED = "group_id,user_id\nduo,u0\nduo,u1\nduo,u1\nsolo,u2\nlost,x\nlost,y\n"


def counted():
    """Return the counts of what `prepared_ids` prepared."""
    return json.loads(Path("data/prepared/fault/manifest.json").read_text())["counts"]


def split_of(llmrec, content, split, *settings):
    """Prepare with a split, and return the split of each (user_id, item_id)."""
    prepared_ids(llmrec, content, f"split={split}", *settings)
    rows = pq.read_table("data/prepared/fault/interactions.parquet").to_pylist()
    return {(row["user_id"], row["item_id"]): row["split"] for row in rows}


@pytest.mark.parametrize(("policy", "value", "time"), [
    ("keep_last", 4.0, 9), ("keep_first", 3.0, 5), ("sum", 17.0, 9), ("max", 5.0, 9)])
def test_35_duplicates_become_one_by_policy_and_never_by_the_order_of_the_file(llmrec, policy, value, time):
    # The same row twice, two values at the last moment, two at the first.
    rows = [f"u,i,{v},{START + t}\n" for v, t in ((2, 9), (2, 9), (4, 9), (5, 5), (3, 5), (1, 7))]
    found = []
    for order in (rows, rows[::-1], rows[2:] + rows[:2]):
        prepared_ids(llmrec, ROWS + "".join(order), f"dataset.duplicates={policy}")
        assert counted()["duplicates"] == 5
        found += [(row["value"], row["timestamp"]) for row in pq.read_table(
            "data/prepared/fault/interactions.parquet").to_pylist() if row["user_id"] == "u"]
    assert found == [(value, (START + time) * 1000)] * 3


def test_35_duplicates_are_reported_and_may_be_refused(llmrec):
    content = ROWS + f"u0,i0,1,{START}\n" * 3
    Path("clicks.csv").write_text(content)
    done = llmrec("prepare", "dataset=files", "dataset.interactions=clicks.csv", "split=none")
    told = next(line for line in done.err.splitlines() if "merged" in line)
    assert " ".join(told.split()[1:-1]) == "merged │ 3 │ several of one user with one item; dataset.duplicates"
    shutil.rmtree("data")
    assert refused(llmrec, content, "dataset.duplicates=error") == (
        "clicks.csv: line 42: user 'u0' has an interaction with item 'i0' already, and dataset.duplicates=error; "
        "choose keep_last, keep_first, sum or max, or remove the duplicates")


@pytest.mark.parametrize("split", ["random", "temporal", "leave_last_out", "cold_items", "cold_users", "none"])
def test_36_shuffled_rows_give_the_same_bytes(llmrec, tmp_path, split):
    write_tiny(tmp_path)
    # All times thrice, and some pairs twice, so that there are ties to break.
    header, *rows = (tmp_path / "interactions.csv").read_text().splitlines(keepends=True)
    rows = [",".join([*row.split(",")[:3], f"{START + n // 3}\n"]) for n, row in enumerate(rows)]
    rows += [row.replace(",5,", ",4,") for row in rows[::9]]
    item_header, *items = (tmp_path / "items.csv").read_text("utf-8").splitlines(keepends=True)
    manifests = []
    for n in range(2):
        random.Random(n).shuffle(rows)
        random.Random(n).shuffle(items)
        Path("clicks.csv").write_text(header + "".join(rows))
        Path("items.csv").write_text(item_header + "".join(items), "utf-8")
        done = llmrec("prepare", "dataset=files", "dataset.name=fault", "dataset.interactions=clicks.csv",
                      "dataset.items=items.csv", "dataset.attributes.genres=list", f"split={split}")
        assert done.code == 0, done.err
        manifests.append(json.loads(Path("data/prepared/fault/manifest.json").read_text()))
    assert [manifests[0][key] for key in ("fingerprint", "counts", "files")] == \
        [manifests[1][key] for key in ("fingerprint", "counts", "files")]
    assert manifests[0]["counts"]["duplicates"] > 50


@pytest.mark.parametrize("time", ["-1", "NaN", "inf", "4102444801", "99999999999", "", "yesterday"])
def test_37_a_time_that_cannot_be_is_rejected_by_line(llmrec, time):
    prepared_ids(llmrec, ROWS + f"u1,i9,1,{time}\n", "dataset.max_reject_share=0.1")
    assert pq.read_table("data/prepared/fault/rejects.parquet").to_pylist() == [
        {"file": "clicks.csv", "line": 42, "column": "timestamp",
         "reason": f"'{time}' is not a time in 's', or is before 1970 or after 2100"}]


def test_37_seconds_among_milliseconds_are_refused_unless_the_unit_is_said(llmrec):
    content = ROWS + "u1,i9,1,1600000000000\n"
    assert refused(llmrec, content) == (
        "timestamps are written in more than one unit: clicks.csv line 42 has '1600000000000' (ms), clicks.csv line 2 "
        "has '1600000000' (s); write them all alike, or say which it is with dataset.timestamp_unit=s|ms|iso|order")
    assert refused(llmrec, content, "dataset.timestamp_unit=s") == (
        "clicks.csv: 1 of 41 rows (2.44%) are bad, more than dataset.max_reject_share=0.001 allows. The first:\n"
        "  line 42: timestamp '1600000000000' is not a time in 's', or is before 1970 or after 2100\n"
        "Repair them, or set dataset.max_reject_share=0.05 to leave such rows out (rejects.parquet then lists them)")
    assert len(prepared_ids(llmrec, content, "dataset.timestamp_unit=ms")) == 41


def test_38_of_equal_times_the_content_decides_what_is_last(llmrec):
    rows = [f"u,{item},1,{START}\n" for item in "cadbe"]
    for order in (rows, rows[::-1], sorted(rows)):
        found = split_of(llmrec, "user_id,item_id,value,timestamp\n" + "".join(order), "leave_last_out")
        assert found == {("u", "e"): "test", ("u", "d"): "valid"} | {("u", item): "train" for item in "abc"}


def test_38_one_moment_is_on_one_side_of_a_cutoff_in_time(llmrec):
    # A tenth would cut through both moments that are held out.
    rows = [f"u{n},i{n % 5},1,{START + (0 if n < 20 else n // 4)}\n" for n in range(40)]
    found = split_of(llmrec, "user_id,item_id,value,timestamp\n" + "".join(rows), "temporal")
    sides = {}
    for n in range(40):
        sides.setdefault(0 if n < 20 else n // 4, set()).add(found[f"u{n}", f"i{n % 5}"])
    assert sides == {0: {"train"}, 5: {"train"}, 6: {"train"}, 7: {"train"}, 8: {"valid"}, 9: {"test"}}


@pytest.mark.parametrize("split", ["random", "leave_last_out"])
def test_39_a_user_with_one_interaction_is_trained_on_and_counted(llmrec, split):
    found = split_of(llmrec, ROWS + f"one,i0,1,{START + 99}\n", split)
    assert found["one", "i0"] == "train"
    assert counted()["users_with_one_interaction"] == 1
    audit = json.loads(Path("data/prepared/fault/audit.json").read_text())
    assert "1 users have one interaction only, so nothing of theirs can be measured" in audit["notes"]


def test_39_a_cutoff_in_time_may_leave_such_a_user_cold_and_says_so(llmrec):
    found = split_of(llmrec, ROWS + f"one,i0,1,{START + 99}\n", "temporal")
    assert found["one", "i0"] == "test"
    assert (counted()["users_with_one_interaction"], counted()["users_cold"]) == (1, 1)


@pytest.mark.parametrize("split", ["cold_users", "temporal"])
def test_40_no_warm_user_to_evaluate_ends_with_3_and_no_metrics(llmrec, split):
    # Everybody's interactions are on one day of their own, so that the newest users are new.
    rows = [f"u{n // 6},i{n % 7},1,{START + n // 6 * 86_400}\n" for n in range(120)]
    split_of(llmrec, "user_id,item_id,value,timestamp\n" + "".join(rows), split)
    assert llmrec("finetune", "head=item_knn", "refit=none", "run_dir=run").code == 0
    done = llmrec("evaluate", "model=run", "run_dir=measured", "num_bootstrap=100")
    assert done.code == 3
    assert done.err == (
        "llmrec: data error: data/prepared/fault: none of the 2 users with test interactions can be measured: all have "
        "no history to recommend from; prepare with split=random or split=leave_last_out, which leave everybody some "
        "of theirs, or a cutoff in time with users on both sides of it\n")
    assert not Path("measured/metrics.json").exists()


def test_40_cold_items_are_found_by_attributes_and_a_head_without_them_says_why_it_finds_none(llmrec, prepare_tiny):
    assert llmrec("prepare", *prepare_tiny, "split=cold_items").code == 0
    found, told = {}, {}
    for name, settings in {"item_knn": ["head=item_knn"], "ease": ["head=ease", "head.features.attributes=3"]}.items():
        assert llmrec("finetune", *settings, f"run_dir={name}").code == 0
        done = llmrec("evaluate", f"model={name}", f"run_dir={name}_measured", "num_bootstrap=100", "baselines=[]")
        assert done.code == 0
        found[name] = json.loads(Path(f"{name}_measured/metrics.json").read_text())["metrics"]["hit@10"]["mean"]
        told[name] = "Nothing of what was to be found is in training" in done.err
    assert found["item_knn"] == 0
    assert found["ease"] > 0.3
    assert told == {"item_knn": True, "ease": False}


def test_41_an_item_without_text_has_its_id_for_a_title_and_the_share_is_told(llmrec):
    Path("items.csv").write_text("item_id,title,plot\ni0,Alien,in space\ni1,,\ni2, ,\n")
    prepared_ids(llmrec, ROWS, "dataset.items=items.csv")
    items = pq.read_table("data/prepared/fault/items.parquet").to_pylist()
    assert [(row["title"], row["text"]) for row in items][:4] == [("Alien", "Alien. in space"), ("i1", ""),
                                                                 ("i2", ""), ("i3", "")]
    audit = json.loads(Path("data/prepared/fault/audit.json").read_text())
    counts = counted()
    assert (audit["texts"]["item"]["empty"], counts["items_without_text"], counts["items_not_in_file"]) == (6, 6, 4)
    assert "6 items (85.7%) have no text" in audit["notes"]
    assert "4 items of the interactions are not in dataset.items; they are kept without text" in audit["notes"]


# 42, a text of a megabyte: ingest/test_entities.py, in a process of its own, for its memory is measured.


def test_44_unseen_users_and_items_take_the_cold_path_and_source_says_which(llmrec, model):
    Path("queries.jsonl").write_text("".join(json.dumps({"query_id": name, **query}) + "\n" for name, query in {
        "known": {"user_id": "u3"}, "nobody": {"user_id": "nobody"}, "words": {"user_id": "nobody", "text": "robot"},
        "items": {"user_id": "nobody", "history": ["i1", "unseen"]}, "unseen": {"history": ["unseen"]}}.items()))
    done = llmrec("recommend", f"model={model}", "queries=queries.jsonl", "output=lists.parquet", "k=5")
    assert done.code == 0
    rows = pq.read_table("lists.parquet").to_pylist()
    assert {row["query_id"]: row["source"] for row in rows} == {
        "known": "model", "nobody": "popularity", "words": "text", "items": "history", "unseen": "popularity"}
    assert len(rows) == 25
    assert "lists made: 1 by model, 1 by history, 1 by text, 2 by popularity" in done.err
    assert "not among the model's items, so ignored in histories: 2 ('unseen', 'unseen')" in done.err


def test_45_46_a_group_of_one_is_a_group_members_named_twice_are_one_and_strangers_are_counted(llmrec):
    Path("groups.csv").write_text(GROUPED)
    Path("joint.csv").write_text("group_id,item_id,timestamp\nduo,i0,1600000000\nnoone,i1,1600000000\n")
    prepared_ids(llmrec, ROWS, "dataset.groups=groups.csv", "dataset.group_interactions=joint.csv")
    members = pq.read_table("data/prepared/fault/groups.parquet").to_pylist()
    assert sorted((row["group_id"], row["user_id"]) for row in members) == [
        ("duo", "u0"), ("duo", "u1"), ("lost", "x"), ("lost", "y"), ("solo", "u2")]
    counts = counted()
    assert {key: counts[key] for key in ("groups", "groups_of_one", "group_members", "group_members_repeated",
                                         "users_without_interactions", "groups_without_members")} == {
        "groups": 3, "groups_of_one": 1, "group_members": 5, "group_members_repeated": 1,
        "users_without_interactions": 2, "groups_without_members": 1}
    audit = json.loads(Path("data/prepared/fault/audit.json").read_text())
    assert {"1 rows of dataset.groups name a member of a group again; each counts once", "1 groups have one member",
            "2 users without a kept interaction"} <= set(audit["notes"])
    assert audit["warnings"] == ["1 groups have interactions (1 rows, left out) but no members in dataset.groups; is "
                                 "it the file of another data set?"]


# 45 and 46, groups: tests/ingest/test_group_faults.py and tests/stages/test_group_stages.py.


def test_47_truncated_json_lines_are_refused_by_line(llmrec):
    content = "".join(json.dumps({"user_id": f"u{n}", "item_id": "i"}) + "\n" for n in range(30))
    assert refused(llmrec, content[:-4], name="x.jsonl") == (
        "x.jsonl: line 30: the file ends in the middle of a JSON object; it looks truncated, export or copy it again")


def test_47_truncated_parquet_is_refused_wherever_it_ends(llmrec):
    pq.write_table(pa.table({"user_id": [f"u{n}" for n in range(500)], "item_id": [f"i{n}" for n in range(500)]}), "it")
    content = Path("it").read_bytes()
    for size in (1, 4, 100, len(content) // 2, len(content) - 9, len(content) - 1):
        message = refused(llmrec, content[:size], name="x.parquet")
        assert message.startswith("x.parquet: is not a whole Parquet file (")
        assert message.endswith("); export or copy it again")


def test_47_a_parquet_file_that_is_damaged_inside_is_refused(llmrec):
    pq.write_table(pa.table({"user_id": [f"u{n}" for n in range(500)], "item_id": [f"i{n}" for n in range(500)]}), "it")
    content = bytearray(Path("it").read_bytes())
    content[40:400] = bytes(360)
    assert refused(llmrec, bytes(content), name="x.parquet").startswith("x.parquet: is not a whole Parquet file (")


def test_48_more_than_one_bad_row_in_a_thousand_stops_the_run_and_fewer_are_listed(llmrec):
    many = "user_id,item_id\n" + "".join(f"u{n},i\n" for n in range(1998))
    assert refused(llmrec, many + "u,i,x\n,i\nu\n") == (
        "clicks.csv: 3 of 2,001 rows (0.15%) are bad, more than dataset.max_reject_share=0.001 allows. The first:\n"
        "  line 2000: 3 fields where the header has 2\n  line 2001: user_id is empty\n"
        "  line 2002: 1 fields where the header has 2\n"
        "Repair them, or set dataset.max_reject_share=0.01 to leave such rows out (rejects.parquet then lists them)")
    assert len(prepared_ids(llmrec, many + "u,i,x\n,i\n")) == 1998
    assert pq.read_table("data/prepared/fault/rejects.parquet").to_pylist() == [
        {"file": "clicks.csv", "line": 2000, "column": "", "reason": "3 fields where the header has 2"},
        {"file": "clicks.csv", "line": 2001, "column": "user_id", "reason": "is empty"}]


def test_69_bombs_are_refused_before_they_fill_the_memory(llmrec, monkeypatch):
    monkeypatch.setattr(bombs, "MOST_BYTES", 1 << 20)
    packed = gzip.compress(b"user_id,item_id\n" + b"u,i\n" * (1 << 19))
    assert refused(llmrec, packed, name="x.csv.gz") == (
        f"x.csv.gz: its {len(packed) // 1024} KiB unpack to 2 MiB or more, over 200 times as much; that is no data but "
        f"a bomb. If you know better, unpack it yourself, split it into smaller files and name those")
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), ["x" * (10 << 20)])
    pq.write_table(pa.table({"user_id": long, "item_id": range(1_000_000)}), "it")
    assert " unpack to " in refused(llmrec, Path("it").read_bytes(), name="x.parquet")
    assert pa.default_memory_pool().max_memory() < 2 << 30


# --- configuration and training

@pytest.mark.parametrize(("command", "setting"), [
    ("evaluate", "k=[0]"), ("evaluate", "k=[10,-1]"), ("evaluate", "k=[nan]"), ("evaluate", "propensity=nan"),
    ("recommend", "k=0"), ("finetune", "optim.learning_rate=-1"), ("finetune", "optim.learning_rate=nan"),
    ("finetune", "optim.batch_size=0"), ("finetune", "tune.trials=-1")])
def test_51_a_number_out_of_range_ends_with_2_and_names_it(llmrec, tmp_path, command, setting):
    done = llmrec(command, setting)
    assert done.code == 2
    name, _, value = setting.partition("=")
    assert name in done.err
    assert value.strip("[]").rpartition(",")[2] in done.err
    assert not list(tmp_path.iterdir())


def test_52_a_gpu_that_is_not_there_is_refused_and_the_cpu_not_taken_instead(llmrec, tiny_prepared, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "cuda:1"):
        done = llmrec("finetune", "head=popularity", f"prepared={tiny_prepared}", f"device={device}")
        assert done.code == 2
        assert f"device={device}: no GPU that torch" in done.err
        assert "choose device=cpu" in done.err
    assert not Path("runs/finetune/latest").exists()


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_53_a_loss_that_is_no_number_ends_with_6_and_publishes_nothing(llmrec, tiny_prepared, tiny_encoder, similarity):
    assert llmrec("finetune", "head=popularity", f"prepared={tiny_prepared}", "run_dir=before").code == 0
    done = llmrec("finetune", f"prepared={tiny_prepared}", "head=two_tower", "head.embedding_size=8", "encoder=hf",
                  f"encoder.path={tiny_encoder}", "encoder.max_length=16", "peft=frozen",
                  f"loss.similarity={similarity}", "optim.learning_rate=1e30", "optim.batch_size=128",
                  "optim.warmup_share=0", "run_dir=run")
    assert done.code == 6
    assert done.err.splitlines()[-1].startswith("llmrec: diverged: ")
    assert "optim.learning_rate" in done.err
    assert not Path("run/model").exists()
    assert Path("runs/finetune/latest").resolve() == Path("before").resolve()


def test_55_batches_are_the_same_however_many_threads_there_are():
    """There are no data workers to have: batches are drawn in the process from its own generator and from nothing else.

    A step takes rows of arrays that are in memory, so a process beside it would cost more than it does.
    """
    interactions = Interactions(np.arange(90) % 9, np.arange(90) % 10, np.ones(90, np.float32), np.arange(90), 9, 10)
    steps = ChoiceSteps(None, Mf(embedding_size=4), Softmax(), interactions, 16, CONTEXT.device)
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 4, 8):
            torch.set_num_threads(threads)
            drawn = steps.batches(1, np.random.default_rng(1))
            found.append([(rows.tolist(), seeds.tolist()) for rows, seeds in drawn])
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]
    assert sorted(row for rows, _ in found[0] for row in rows) == list(range(90))


@pytest.fixture
def counting(tmp_path, tiny_prepared):
    """Save a popularity model whose counts were changed, and return what it may know beside the data."""
    def save(change):
        data = read_prepared(tiny_prepared)
        head = build(Recipe(head=Popularity()))
        head.fit(data.training("train", "valid"), CONTEXT)
        change(head.counts_N)
        save_recommender(tmp_path / "changed", head, data, ("train", "valid"), {"refit": "train_valid", "seed": 1})
        return data
    return save


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_56_scores_that_are_no_numbers_end_with_6_and_nothing_is_published(llmrec, counting, value):
    def spoil(counts_N):
        counts_N[3] = value
    counting(spoil)
    for command in (["evaluate", "baselines=[]"], ["recommend", "queries=all", "output=lists.jsonl"]):
        done = llmrec(*command, "model=changed", "run_dir=run")
        assert done.code == 6
        assert done.err.splitlines()[-1].startswith("llmrec: diverged: ")
        assert not Path("run/metrics.json").exists()
        assert not Path("lists.jsonl").exists()
        assert not Path(f"runs/{command[0]}/latest").exists()
        shutil.rmtree("run", ignore_errors=True)


def test_57_a_list_longer_than_the_catalogue_is_short_and_not_padded(llmrec, model):
    done = llmrec("recommend", "model=model", "query.history=[i0,i1]", "k=1000", "output=lists.parquet")
    assert done.code == 0
    lists = pq.read_table("lists.parquet")
    assert lists["rank"].to_pylist() == list(range(1, 43))
    assert len(set(lists["item_id"].to_pylist())) == 42


# --- hostile input

WATCH = """
import sys
import textwrap
from pathlib import Path
import numpy as np, torch
from llmrec_cli.heads.artifact import load_recommender
from llmrec_cli.heads.base import Context

def use():
    loaded = load_recommender(Path(sys.argv[1]), Context(torch.device("cpu"), 1))
    loaded.head.score_text(np.array(["robots"], object))

use()  # What has to be imported is imported now.
found, watching = set(), False
forbidden = ("pickle.", "marshal.", "subprocess.", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork",
             "socket.", "exec", "compile", "import", "ctypes.dlopen", "urllib.")
def hook(event, arguments):
    if watching and event.startswith(forbidden):
        found.add((event, str(arguments)[:80]))
sys.addaudithook(hook)
watching = True
use()
watching = False
print(sorted(found))
"""


def test_62_loading_a_model_and_its_encoder_runs_unpickles_and_connects_to_nothing(model):
    done = subprocess.run([sys.executable, "-c", WATCH, str(model)], capture_output=True, text=True, check=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("change", [
    {"_target_": "os.system"}, {"head": {"kind": "two_tower", "_target_": "os.system"}},
    {"head": {"kind": "os.system"}}, {"encoder": {"kind": "hf", "path": "x", "trust_remote_code": True}}])
def test_63_unknown_keys_in_a_models_config_are_refused_and_nothing_is_called(model, monkeypatch, change):
    monkeypatch.setattr(os, "system", lambda *_: pytest.fail("called"))
    edit(model, "config.yaml", lambda text: yaml.safe_dump(yaml.safe_load(text) | change))
    with pytest.raises(ArtifactError, match=r"config.yaml: .*(unknown key|no such head)"):
        load_recommender(model, CONTEXT)


def test_63_python_in_a_models_config_is_not_run(model):
    edit(model, "config.yaml", lambda text: text + "\nx: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ArtifactError, match=r"config.yaml: not readable"):
        load_recommender(model, CONTEXT)


def test_64_code_that_a_models_encoder_asks_for_is_refused(model):
    config = next((model / "encoders").glob("*/config.json")).relative_to(model)
    edit(model, str(config), lambda text: json.dumps(json.loads(text) | {"auto_map": {"AutoModel": "evil.Model"}}))
    loaded = load_recommender(model, CONTEXT)
    with pytest.raises(ArtifactError, match="'auto_map' asks for code from the model's folder, which is never run"):
        loaded.head.score_text(["robots"])


@pytest.mark.parametrize("path", ["../../elsewhere", "/elsewhere", "encoders/../../x", "owner/name"])
def test_65_an_encoder_outside_the_models_folder_is_refused(model, path):
    edit(model, "config.yaml", lambda text: yaml.safe_dump(
        {**yaml.safe_load(text), "encoder": {**yaml.safe_load(text)["encoder"], "path": path}}))
    with pytest.raises(ArtifactError, match="a model's encoder is inside its own folder"):
        load_recommender(model, CONTEXT)


def test_66_no_variable_of_the_environment_is_in_any_byte_of_what_is_written(llmrec, prepare_tiny, tiny_encoder,
                                                                        monkeypatch, tmp_path):
    marker = "marker-of-a-secret"
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DATABASE_URL", "WANDB_API_KEY"):
        monkeypatch.setenv(name, f"{marker}-{name}")
    runs = [["prepare", *prepare_tiny],
            ["finetune", "head=two_tower", "head.embedding_size=8", "encoder=hf", f"encoder.path={tiny_encoder}",
             "encoder.max_length=16", "peft=frozen", "optim.epochs=1", "refit=none"],
            ["evaluate", "num_bootstrap=100", "baselines=[popularity]"],
            ["recommend", "queries=all", "output=lists.jsonl"]]
    for arguments in runs:
        assert llmrec(*arguments).code == 0, arguments
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 25
    assert [file for file in files if marker.encode() in file.read_bytes()] == []


@pytest.mark.parametrize("name", ["../up", "/abs", "a/b", "a\0b", ".", "..", "latest", "~", ""])
def test_67_a_name_of_data_cannot_be_a_path(llmrec, prepare_tiny, tmp_path, name):
    done = llmrec("prepare", *prepare_tiny, f"dataset.name={name}")
    assert done.code == 2
    assert "name=" in done.err
    assert list(tmp_path.iterdir()) == []


def test_67_68_ids_and_titles_of_any_shape_are_data_and_come_back_as_they_were(llmrec, tmp_path):
    evil = ["../../up", "/etc/passwd", "a\\..\\b", "=cmd|' /C calc'!A0", "<script>alert(1)</script>", "\x1b[2J", "~",
            ".", "太空é", "NA", "007", "7"]
    rows = [f'"{user}","{item}",5,{n}\n' for m, user in enumerate(evil) for n, item in enumerate(evil) if (m + n) % 3]
    (tmp_path / "clicks.csv").write_text("user_id,item_id,value,timestamp\n" + "".join(rows), "utf-8")
    settings = ["dataset=files", "dataset.name=evil", "dataset.interactions=clicks.csv", "split=leave_last_out"]
    before = set(tmp_path.parent.iterdir())
    assert llmrec("prepare", *settings).code == 0
    assert llmrec("finetune", "head=item_knn", "run_dir=run").code == 0
    assert llmrec("recommend", "queries=all", "model=run", "output=lists.parquet", "k=3").code == 0
    shown = llmrec("recommend", "query.user_id=007", "model=run")
    assert "\x1b" not in shown.out
    lists = pq.read_table("lists.parquet")
    assert set(lists["user_id"].to_pylist()) <= set(evil)
    assert set(lists["item_id"].to_pylist()) <= set(evil)
    assert {path.name for path in tmp_path.iterdir()} == {"clicks.csv", "data", "runs", "run", "lists.parquet",
                                                          "lists.parquet.manifest.json"}
    assert set(tmp_path.parent.iterdir()) == before


# --- evaluation

def test_71_a_constant_scorer_scores_like_chance_and_its_ties_are_told(llmrec, counting, monkeypatch):
    def forget(counts_N):
        counts_N[:] = 0
    monkeypatch.setattr(evaluate, "render", lambda content: "report")
    data = counting(forget)
    for ties in ("hash", "expected"):
        done = llmrec("evaluate", "model=changed", "baselines=[]", "k=[10]", f"ties={ties}", f"run_dir={ties}")
        assert done.code == 0
        assert "warning: 100% of the lists have ties" in done.err
    metrics = {ties: json.loads(Path(ties, "metrics.json").read_text()) for ties in ("hash", "expected")}
    assert metrics["hash"]["tie_rate"] == 1
    asked, test = np.unique(data.part("test").user), data.part("test").matrix
    seen = np.diff(data.part("train", "valid").matrix.indptr)[asked]
    chance_Q = 10 / (len(data.items) - seen)
    assert metrics["expected"]["metrics"]["recall@10"]["mean"] == pytest.approx(chance_Q.mean())
    spread = np.sqrt((chance_Q * (1 - chance_Q) / np.diff(test.indptr)[asked]).sum()) / len(asked)
    assert abs(metrics["hash"]["metrics"]["recall@10"]["mean"] - chance_Q.mean()) < 4 * spread


def test_72_the_whole_catalogue_is_ranked_unless_a_label_says_otherwise(llmrec, counting, monkeypatch):
    monkeypatch.setattr(evaluate, "render", lambda content: "report")
    data = counting(lambda counts_N: None)
    found = {}
    for name, settings in (("all", []), ("sampled", ["candidates=sampled:5"])):
        done = llmrec("evaluate", "model=changed", "baselines=[]", "k=[10]", *settings, f"run_dir={name}")
        assert done.code == 0
        assert ("Sampled candidates" in done.err) == (name == "sampled")
        found[name] = json.loads(Path(name, "metrics.json").read_text())["protocol"]
    assert found["all"]["candidates"] == "all"
    assert found["all"]["num_candidates"] == len(data.items)
    assert found["sampled"]["candidates"] == "sampled: 5 at random per user, and what was held out"


def test_73_a_user_without_any_recommendation_scores_0_and_is_counted():
    nobody = sp.csr_array((2, 3), dtype=np.float32)
    own = sp.csr_array(np.array([[0, 0, 0], [1, 1, 1]], np.float32))
    relevant = sp.csr_array(np.array([[1, 0, 0], [1, 0, 0]], np.float32))
    asked = known_users(np.arange(2), np.array(["u", "v"], object), nobody, nobody)
    lists = recommend_lists(lambda queries: torch.tensor([[3.0, 2, 1]] * len(queries)), asked, 2, np.arange(3),
                            candidates_QN=own, relevant_QN=relevant)
    assert lists.items_QK.tolist() == [[-1, -1], [0, 1]]
    found = ranking_metrics(hits(lists.items_QK, relevant), np.array([1, 1]), [2])
    assert all(values.tolist()[0] == 0 for values in found.values())
    assert found["ndcg@2"].mean() == 0.5


@pytest.mark.parametrize("head", ["ease", "user_knn", "two_tower"])
def test_74_changing_what_comes_after_the_cutoff_leaves_the_weights_bitwise_as_they_were(
        llmrec, tmp_path, prepare_tiny, tiny_encoder, head):
    recipe = {"ease": ["head.features.attributes=3"], "user_knn": [], "two_tower": [
        "head.embedding_size=8", "peft=frozen", "optim.epochs=2", "encoder=hf", f"encoder.path={tiny_encoder}",
        "encoder.max_length=16"]}[head]
    write_tiny(tmp_path / "raw")
    file = tmp_path / "raw/interactions.csv"
    settings = [text for text in prepare_tiny if not text.startswith("dataset.interactions")]
    settings += [f"dataset.interactions={file}", "split=temporal"]
    found, tests = [], []
    for n in range(2):
        assert llmrec("prepare", *settings).code == 0
        assert llmrec("finetune", f"head={head}", *recipe, "refit=none", f"run_dir=run{n}").code == 0
        model = tmp_path / f"run{n}/model"
        found.append([(model / name).read_bytes() for name in ("model.safetensors", "config.yaml")])
        kept = pq.read_table("data/prepared/tiny/interactions.parquet").to_pylist()
        tests.append({(row["user_id"], row["item_id"]) for row in kept if row["split"] == "test"})
        file.write_text(with_other_items(file.read_text(), tests[0], kept))
    assert len(tests[0] - tests[1]) == 20
    assert found[0] == found[1]


def with_other_items(text, test, kept):
    """Return the interactions with other items in 20 test rows, such as are in training and new to the user."""
    warm = sorted({row["item_id"] for row in kept if row["split"] == "train"})
    lines = text.splitlines()
    for user, item in sorted(test)[:20]:
        had = {line.split(",")[1] for line in lines if line.startswith(f"{user},")}
        other = next(key for key in warm if key not in had)
        lines = [line.replace(f"{user},{item},", f"{user},{other},") if line.startswith(f"{user},{item},") else line
                 for line in lines]
    return "\n".join(lines) + "\n"


def test_75_k_beyond_the_relevant_items_caps_the_ideal_list_and_the_list_alike():
    found_QK = np.array([[True, True, False, False, False]])
    metrics = ranking_metrics(found_QK, np.array([2]), [1, 5])
    assert metrics["ndcg@1"] == metrics["ndcg@5"] == metrics["recall@5"] == metrics["map@5"] == 1
    assert all(0 <= value <= 1 for value in metrics.values())


# 76, metrics beside pytrec_eval, ranx, scikit-learn and brute force on generated cases: metrics/test_ranking.py,
# metrics/test_auc.py, metrics/test_rating.py, scoring/test_generated.py and scoring/test_ties.py.
