"""Decoders, T5 and ModernBERT, every pooling, prompts and linear maps: their vectors, and saved folders."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import save_file

from llmrec_cli.encoders.modules import Training
from llmrec_cli.encoders.sources import load_encoder
from llmrec_cli.errors import ArtifactError, ConfigError
from llmrec_cli.settings.encoder import HuggingFaceSettings
from llmrec_cli.settings.peft import LoraSettings, NoPeftSettings
from tests.some_slow import some_slow
from tests.tiny_models import ARCHITECTURES, MORE, SENTENCES, byte_tokenizer, save_tiny

CPU = torch.device("cpu")
TEXTS = [*SENTENCES, "", "the", "the robot and the moon", "👩‍🚀 مرحبا שלום [MASK]", "太空 " * 40]
DECODERS = ("gpt2", "llama", "qwen2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: save_tiny(tmp_path_factory.mktemp(name), name, byte_tokenizer() if name in DECODERS else None)
            for name in (*ARCHITECTURES, *MORE)}


def load(folder, peft=None, **changed):
    return load_encoder(HuggingFaceSettings(path=str(folder), max_length=12, batch_tokens=40, **changed), peft, CPU)


def states(folder, texts, kind=transformers.AutoModel, prompt=""):
    """Return the last hidden states of each text, run alone and therefore without padding."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, split_special_tokens=True)
    model = kind.from_pretrained(folder).eval()
    hidden = []
    with torch.no_grad():
        for text in texts:
            ids = tokenizer(prompt + text, truncation=True, max_length=12)["input_ids"] or [tokenizer.bos_token_id]
            hidden.append(model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy())
    return hidden


POOLED = {"mean": lambda h: h.mean(0), "cls": lambda h: h[0], "last": lambda h: h[-1]}


@pytest.mark.parametrize("pooling", some_slow(POOLED))
@pytest.mark.parametrize("architecture", [*DECODERS, "modernbert", "bert", "roberta", "distilbert"])
def test_vectors_are_those_of_the_model_whatever_the_padding(folders, architecture, pooling):
    expected = np.stack([POOLED[pooling](h) for h in states(folders[architecture], TEXTS)])
    assert abs(load(folders[architecture], pooling=pooling).encode(TEXTS) - expected).max() < 1e-5


def test_only_the_encoder_of_t5_is_used(folders):
    expected = np.stack([h.mean(0) for h in states(folders["t5"], TEXTS, transformers.T5EncoderModel)])
    for peft in (None, NoPeftSettings(), LoraSettings(num_layers=None)):
        assert abs(load(folders["t5"], peft).encode(TEXTS) - expected).max() < 1e-5


def test_by_default_decoders_pool_the_last_token_and_others_the_mean(folders):
    assert {name: load(folder).pooler.pooling for name, folder in folders.items()} == {
        name: "last" if name in DECODERS else "mean" for name in folders}


@pytest.mark.parametrize("architecture", DECODERS)
def test_a_bidirectional_decoder_reads_later_tokens_with_and_without_padding(folders, architecture):
    texts = ["the moon", "the sun", "the moons"]
    causal, both = (load(folders[architecture], pooling="cls", bidirectional=b) for b in (False, True))
    first, second, _ = causal.encode(texts)
    assert np.array_equal(first, second)
    alone = np.concatenate([both.encode([text]) for text in texts])
    assert abs(alone - both.encode(texts)).max() < 1e-5
    assert abs(alone[0] - alone[1]).max() > 1e-3
    assert both.identity != causal.identity


@pytest.mark.parametrize("architecture", DECODERS)
def test_a_saved_bidirectional_decoder_stays_so_for_automodel_and_for_us(folders, tmp_path, architecture):
    encoder = load(folders[architecture], LoraSettings(num_layers=None), bidirectional=True, pooling="mean")
    encoder.save_pretrained(tmp_path / "saved")
    expected = encoder.encode(TEXTS)
    assert abs(load(tmp_path / "saved").encode(TEXTS) - expected).max() < 1e-5
    theirs = np.stack([h.mean(0) for h in states(tmp_path / "saved", TEXTS)])
    assert abs(theirs - expected).max() < 1e-5


def test_bidirectional_is_refused_where_it_has_no_effect(folders):
    for name in ("bert", "t5", "modernbert"):
        with pytest.raises(ConfigError, match=f"bidirectional=true: has no effect, since '{name}'"):
            load(folders[name], bidirectional=True)


def test_attention_pooling_begins_as_the_mean_and_is_trained_with_the_rest(folders, tmp_path):
    encoder, mean = (load(folders["bert"], LoraSettings(), pooling=p) for p in ("attention", "mean"))
    assert abs(encoder.encode(TEXTS) - mean.encode(TEXTS)).max() < 1e-6
    before = encoder.identity
    with torch.no_grad():
        encoder.pooler.query.copy_(torch.linspace(-2, 2, 16))
    assert encoder.identity != before
    (hidden,) = states(folders["bert"], ["the robot and the moon"])
    weight = np.exp(hidden @ np.linspace(-2, 2, 16) / 4)
    expected = (weight[:, None] * hidden).sum(0) / weight.sum()
    assert abs(encoder.encode(["the robot and the moon"])[0] - expected).max() < 1e-5
    encoder(torch.tensor([[2, 7, 8, 3]]), torch.ones(1, 4, dtype=torch.bool)).sum().backward()
    assert encoder.pooler.query.grad.abs().sum() > 0
    assert "pooler.query" in encoder.trained_state()

    encoder.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert abs(again.encode(TEXTS) - encoder.encode(TEXTS)).max() < 1e-5
    fresh = load(folders["bert"], LoraSettings(), pooling="attention")
    fresh.load_trained_state(encoder.trained_state())
    assert np.array_equal(fresh.encode(TEXTS), encoder.encode(TEXTS))
    assert load(tmp_path / "saved", pooling="mean").pooler.pooling == "mean"


def test_attention_pooling_needs_something_that_is_trained(folders):
    with pytest.raises(ConfigError, match=r"encoder\.pooling=attention: its query has to be learned.*peft=frozen"):
        load(folders["bert"], pooling="attention")


def test_an_item_and_a_query_have_prompts_of_their_own(folders):
    encoder = load(folders["bert"], item_prompt="a robot ", query_prompt="love ")
    plain = load(folders["bert"])
    assert np.array_equal(encoder.encode(["the moon"]), plain.encode(["a robot the moon"]))
    assert np.array_equal(encoder.encode(["the moon"], "query"), plain.encode(["love the moon"]))
    assert encoder.identity != plain.identity


def test_pairs_are_joined_as_the_tokenizer_says_and_the_longer_is_cut_first(folders):
    encoder = load(folders["bert"])
    encoder.tokenizer.backend_tokenizer.post_processor = _pairs(encoder.tokenizer)
    (ids,) = encoder.tokenize_pairs(["the moon"], ["a robot"])
    assert encoder.tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "the", "moon", "[SEP]", "a", "robot", "[SEP]"]
    (ids,) = encoder.tokenize_pairs(["the moon"], ["robot " * 50])
    words = encoder.tokenizer.convert_ids_to_tokens(ids)
    assert (len(words), words[:4], words.count("robot")) == (12, ["[CLS]", "the", "moon", "[SEP]"], 7)
    assert [len(ids) for ids in encoder.tokenize_pairs(["", "x " * 500_000], ["", "y"])] == [3, 12]
    assert encoder.tokenize_pairs([], []) == []


def _pairs(tokenizer):
    from tokenizers import processors
    return processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.convert_tokens_to_ids(token)) for token in ("[CLS]", "[SEP]")])


def saved(folder, place):
    """Save the encoder like a third-party folder, without the hashes that would detect edits."""
    load(folder).save_pretrained(place)
    (place / "llmrec_hashes.json").unlink()


def with_dense(folder, place, activation="torch.nn.modules.activation.Tanh", shape=(6, 16), **more):
    """Save the encoder in `folder` to `place` with a linear map after its pooling."""
    saved(folder, place)
    modules = json.loads((place / "modules.json").read_text())
    modules += [{"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
                {"idx": 3, "name": "3", "path": "3_Normalize", "type": "sentence_transformers.models.Normalize"}]
    (place / "modules.json").write_text(json.dumps(modules))
    (place / "2_Dense").mkdir()
    (place / "2_Dense" / "config.json").write_text(json.dumps({
        "in_features": shape[1], "out_features": shape[0], "bias": True, "activation_function": activation, **more}))
    generator = np.random.default_rng(1)
    save_file({"linear.weight": generator.normal(size=shape).astype(np.float32),
               "linear.bias": generator.normal(size=shape[0]).astype(np.float32)}, place / "2_Dense/model.safetensors")
    return place


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_linear_map_behind_the_pooling_is_part_of_the_encoder_and_saved_again(folders, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    encoder = load(with_dense(folders["bert"], tmp_path / "with"), NoPeftSettings())
    assert (encoder.embedding_size, encoder.hidden_size) == (6, 16)
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "with"), device="cpu")
    theirs.max_seq_length = 12
    assert abs(unit(encoder.encode(TEXTS[:8])) - theirs.encode(TEXTS[:8])).max() < 1e-5
    with torch.no_grad():
        encoder.pooler.dense[0].bias.neg_()
    encoder.save_pretrained(tmp_path / "again")
    again = sentence_transformers.SentenceTransformer(str(tmp_path / "again"), device="cpu").encode(TEXTS[:8])
    assert abs(encoder.encode(TEXTS[:8]) - again).max() < 1e-5
    assert abs(load(tmp_path / "again").encode(TEXTS) - encoder.encode(TEXTS)).max() < 1e-5
    assert load(tmp_path / "again").identity != load(tmp_path / "with").identity


@pytest.mark.parametrize(("architecture", "pooling"), [("bert", "cls"), ("modernbert", "mean"), ("qwen2", "last"),
                                                       ("gpt2", "mean"), ("t5", "mean"), ("roberta", "mean")])
def test_sentence_transformers_gives_the_same_vectors_prompts_and_all(folders, tmp_path, architecture, pooling):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    encoder = load(folders[architecture], pooling=pooling, item_prompt="a ", query_prompt="the ")
    encoder.save_pretrained(tmp_path / "saved")
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    texts = [text for text in TEXTS if "[MASK]" not in text]  # sentence-transformers reads it as the special token.
    if architecture == "gpt2":
        texts = [text for text in texts if text]  # sentence-transformers gives an empty text no tokens.
    assert abs(theirs.encode(texts) - encoder.encode(texts)).max() < 1e-5
    assert abs(theirs.encode(texts, prompt_name="query") - encoder.encode(texts, "query")).max() < 1e-5
    again = load(tmp_path / "saved")
    assert abs(again.encode(TEXTS) - encoder.encode(TEXTS)).max() < 1e-5
    assert again.prompts == encoder.prompts


def test_sentence_transformers_refuses_attention_pooling(folders, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    load(folders["bert"], LoraSettings(), pooling="attention").save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match="AttentionPooling"):
        sentence_transformers.SentenceTransformer(str(tmp_path / "saved"), device="cpu")


def test_the_model_card_says_what_it_is_and_how_to_load_it(folders, tmp_path):
    base = tmp_path / "base"
    load(folders["bert"]).save_pretrained(base)
    (base / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\nlicense: mit\n")
    load(base, item_prompt="a\n# ").save_pretrained(tmp_path / "saved", Training("mlm", "12 item texts of clowns"))
    card = (tmp_path / "saved" / "README.md").read_text()
    assert card.startswith("---\n")
    for text in ("license: apache-2.0", "Base: base", "Trained: mlm, on 12 item texts of clowns", "Pooling: mean",
                 "at most 12", "SentenceTransformer(", "AutoModel.from_pretrained(", r'"a\n# "'):
        assert text in card
    load(tmp_path / "saved").save_pretrained(tmp_path / "again")
    assert "license: apache-2.0" in (tmp_path / "again" / "README.md").read_text()
    assert str(tmp_path) not in card


@pytest.mark.parametrize(("changed", "message"), [
    ({"activation": "os.system"}, "activation os.system is not supported"),
    ({"use_residual": True}, "use_residual=True is not supported"),
    ({"shape": (6, 15)}, "do not fit its hidden size of 16")])
def test_a_linear_map_that_is_not_understood_is_refused(folders, tmp_path, changed, message):
    with pytest.raises(ArtifactError, match=message):
        load(with_dense(folders["bert"], tmp_path / "with", **changed))


@pytest.mark.parametrize(("types", "message"), [
    (["Transformer", "Pooling", "LSTM"], "the module LSTM is not supported"), (["Transformer"], "then one Pooling"),
    (["Pooling", "Transformer"], "then one Pooling"), (["Transformer", "Pooling", "Pooling"], "then one Pooling")])
def test_modules_that_are_not_understood_are_refused(folders, tmp_path, types, message):
    saved(folders["bert"], tmp_path / "saved")
    (tmp_path / "saved" / "modules.json").write_text(json.dumps(
        [{"idx": n, "name": str(n), "path": "", "type": f"sentence_transformers.models.{t}"}
         for n, t in enumerate(types)]))
    with pytest.raises(ArtifactError, match=message):
        load(tmp_path / "saved")


def test_modules_outside_the_folder_are_refused(folders, tmp_path):
    saved(folders["bert"], tmp_path / "saved")
    file = tmp_path / "saved" / "modules.json"
    file.write_text(file.read_text().replace("1_Pooling", "../1_Pooling"))
    with pytest.raises(ArtifactError, match=r"'\.\./1_Pooling' is not a direct subfolder"):
        load(tmp_path / "saved")
