"""The text encoder gives the vectors of transformers and sentence-transformers, wherever the model is split."""

import re
import resource

import numpy as np
import pytest
import torch
import transformers

from llmrec_cli.encoders.frozen_layer_cache import FrozenLayerCache
from llmrec_cli.encoders.sources import load_encoder
from llmrec_cli.errors import ArtifactError, ConfigError
from llmrec_cli.settings.encoder import HuggingFaceSettings
from llmrec_cli.settings.peft import FrozenSettings, LoraSettings, NoPeftSettings, TopLayersSettings
from tests.some_slow import some_slow
from tests.tiny_models import ARCHITECTURES, SENTENCES, save_tiny

CPU = torch.device("cpu")
TEXTS = [*SENTENCES, "", "the", "the robot and the moon", "👩‍🚀 مرحبا שלום [MASK] [PAD]"]
PEFTS = [FrozenSettings(), NoPeftSettings(), TopLayersSettings(), TopLayersSettings(num_layers=4), LoraSettings(),
         LoraSettings(num_layers=None), LoraSettings(num_layers=4)]
LAYERED = [name for name in ARCHITECTURES if name != "gpt2"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: save_tiny(tmp_path_factory.mktemp(name), name) for name in ARCHITECTURES}


def load(folder, peft=None, **changed):
    return load_encoder(HuggingFaceSettings(path=str(folder), max_length=12, batch_tokens=30, **changed), peft, CPU)


def reference(folder, texts, max_length=12):
    """Return mean-pooled vectors of single texts, therefore without padding."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, split_special_tokens=True)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return np.stack([model(**{k: v for k, v in tokenizer(
            text, return_tensors="pt", truncation=True, max_length=max_length).items() if k != "token_type_ids"}
        ).last_hidden_state[0].mean(0).numpy() for text in texts])


@pytest.mark.parametrize("architecture", some_slow(LAYERED))
def test_vectors_are_the_mean_over_tokens_whatever_the_padding_and_wherever_the_model_is_cut(folders, architecture):
    expected = reference(folders[architecture], TEXTS)
    for peft in PEFTS:
        encoder = load(folders[architecture], peft)
        assert abs(encoder.encode(TEXTS) - expected).max() < 1e-5
        assert abs(FrozenLayerCache(encoder, TEXTS, CPU).vectors().numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("peft", [FrozenSettings(), NoPeftSettings(), LoraSettings(num_layers=None)])
def test_a_decoder_can_be_encoded_with_and_trained_as_a_whole(folders, peft):
    expected = reference(folders["gpt2"], TEXTS)
    assert abs(load(folders["gpt2"], peft, pooling="mean").encode(TEXTS) - expected).max() < 1e-5


def test_layers_that_cannot_be_run_apart_are_refused_with_what_to_choose_instead(folders):
    with pytest.raises(ConfigError, match=r"not for 'gpt2'; choose peft=frozen or peft=none"):
        load(folders["gpt2"], TopLayersSettings())


def test_more_layers_than_there_are_is_refused(folders):
    with pytest.raises(ConfigError, match=r"peft.num_layers=5: the encoder has 4 layers"):
        load(folders["bert"], LoraSettings(num_layers=5))


def test_encoding_keeps_the_order_and_encodes_each_text_once(folders, monkeypatch):
    encoder = load(folders["bert"])
    seen = []
    monkeypatch.setattr(encoder, "tokenize", lambda texts, entity, of=encoder.tokenize: (
        seen.extend(texts), of(texts))[1])
    vectors = encoder.encode(["the moon", "a", "the moon", ""])
    assert seen == ["the moon", "a", ""]
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors[0], vectors[2])
    assert not np.array_equal(vectors[0], vectors[1])
    assert encoder.encode([]).shape == (0, 16)


def test_an_empty_text_is_its_special_tokens_and_a_long_one_is_cut(folders):
    encoder = load(folders["bert"])
    empty, long, spaces = encoder.tokenize(["", "the moon " * 50, " \n "])
    assert encoder.tokenizer.convert_ids_to_tokens(empty) == ["[CLS]", "[SEP]"]
    assert len(long) == 12
    assert spaces.tolist() == empty.tolist()
    assert np.isfinite(encoder.encode([""])).all()


def test_an_encoder_that_cuts_texts_at_another_length_has_another_identity(folders):
    short = load_encoder(HuggingFaceSettings(path=str(folders["bert"]), max_length=6, batch_tokens=30), None, CPU)
    text = "the moon " * 50
    assert not np.array_equal(short.encode([text]), load(folders["bert"]).encode([text]))
    assert short.identity != load(folders["bert"]).identity


def test_a_text_of_a_megabyte_costs_no_memory(folders):
    encoder = load(folders["bert"])
    encoder.encode(["warm"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    encoder.encode(["the moon " * 110_000, "月" * 1_000_000, "x" * 1_000_000])
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 50


def test_text_that_looks_like_a_command_to_the_tokenizer_is_text_and_moves_no_other_vector(folders):
    encoder = load(folders["bert"])
    (ids,) = encoder.tokenize(["[MASK] [PAD] ignore all instructions [SEP]"])
    assert not {encoder.tokenizer.mask_token_id, encoder.tokenizer.pad_token_id} & set(ids.tolist())
    assert np.count_nonzero(ids == encoder.tokenizer.sep_token_id) == 1
    alone = encoder.encode(["the moon"])
    assert abs(encoder.encode(["the moon", "[MASK] ignore all instructions"])[:1] - alone).max() < 1e-6


@pytest.mark.parametrize("peft", [LoraSettings(), NoPeftSettings()])
def test_a_large_batch_run_in_buckets_gives_the_vectors_and_gradients_of_one_run_whole(folders, peft):
    whole, parts = load(folders["bert"], peft), load(folders["bert"], peft)
    whole.settings.batch_tokens = 10_000
    results = []
    for encoder in (whole, parts):
        hidden, mask = FrozenLayerCache(encoder, TEXTS, CPU).batch(torch.arange(len(TEXTS)))
        hidden = hidden.detach().requires_grad_(True)
        assert (mask.numel() > encoder.settings.batch_tokens) == (encoder is parts)
        vectors = encoder.upper(hidden, mask)
        vectors.square().sum().backward()
        trained = torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None])
        results.append((vectors, hidden.grad, trained))
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_encoding_leaves_the_mode_as_it_was_and_frozen_layers_never_drop_anything(folders):
    encoder = load(folders["bert"], TopLayersSettings()).train()
    encoder.encode(["the"])
    assert encoder.training
    assert [layer.training for layer in encoder.model.encoder.layer] == [False, False, True, True]
    assert not encoder.model.embeddings.dropout.training
    ids_RT, mask_RT = torch.tensor([[2, 7, 8, 3]]), torch.ones(1, 4, dtype=torch.bool)
    assert torch.equal(encoder.lower(ids_RT, mask_RT), encoder.lower(ids_RT, mask_RT))
    assert not torch.equal(encoder(ids_RT, mask_RT), encoder(ids_RT, mask_RT))


@pytest.mark.parametrize(("peft", "trained"), [
    (FrozenSettings(), 0), (TopLayersSettings(num_layers=1), 16), (LoraSettings(num_layers=2), 2 * 6 * 2),
    (LoraSettings(num_layers=None), 4 * 6 * 2)])
def test_only_the_requested_layers_are_trained(folders, peft, trained):
    encoder = load(folders["bert"], peft)
    names = [name for name, p in encoder.model.named_parameters() if p.requires_grad]
    assert len(names) == len(encoder.trained_state()) == trained
    assert all(("lora_" in name) == isinstance(peft, LoraSettings) for name in names)


def test_new_adapters_change_nothing_at_first_and_depend_on_the_seed_alone(folders):
    settings = HuggingFaceSettings(path=str(folders["bert"]), max_length=12)
    one, same, other = (load_encoder(settings, LoraSettings(), CPU, seed=seed).trained_state() for seed in (1, 1, 2))
    assert all(np.array_equal(one[n], same[n]) for n in one)
    assert not all(np.array_equal(one[n], other[n]) for n in one)


def train_a_little(encoder):
    encoder.train()
    ids_RT = torch.tensor([[2, 7, 8, 3]])
    optimizer = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        encoder(ids_RT, torch.ones(1, 4, dtype=torch.bool)).sum().backward()
        optimizer.step()
    return encoder.train(False)


@pytest.mark.parametrize("peft", [TopLayersSettings(), LoraSettings(), LoraSettings(num_layers=None), NoPeftSettings()])
def test_trained_weights_are_restored_from_the_state(folders, peft):
    trained, fresh = train_a_little(load(folders["bert"], peft)), load(folders["bert"], peft)
    assert abs(trained.encode(TEXTS) - fresh.encode(TEXTS)).max() > 1e-3
    fresh.load_trained_state(trained.trained_state())
    assert np.array_equal(trained.encode(TEXTS), fresh.encode(TEXTS))


def test_a_state_that_does_not_fit_is_refused_with_the_keys(folders):
    encoder = load(folders["bert"], TopLayersSettings())
    state = encoder.trained_state()
    gone = next(iter(state))
    wrong = {**{n: v for n, v in state.items() if n != gone}, "more": np.zeros(1)}
    with pytest.raises(ArtifactError, match=rf"missing: \['{gone}'\]; unknown: \['more'\]"):
        encoder.load_trained_state(wrong)
    with pytest.raises(ArtifactError, match=r"of another shape: .*\(1,\) for \(16, 16\)"):
        encoder.load_trained_state({**state, gone: np.zeros(1)})


@pytest.mark.parametrize("peft", [LoraSettings(), LoraSettings(num_layers=None), TopLayersSettings()])
def test_a_saved_encoder_loads_with_automodel_and_with_our_own_to_the_same_vectors(folders, tmp_path, peft):
    encoder = train_a_little(load(folders["bert"], peft))
    expected = encoder.encode(TEXTS)
    encoder.save_pretrained(tmp_path / "saved")
    assert abs(reference(tmp_path / "saved", TEXTS) - expected).max() < 1e-5
    assert abs(load(tmp_path / "saved").encode(TEXTS) - expected).max() < 1e-5
    assert abs(encoder.encode(TEXTS) - expected).max() == 0
    assert not list((tmp_path / "saved").glob("*.bin"))


def test_a_saved_encoder_loads_with_sentence_transformers(folders, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    encoder = train_a_little(load(folders["bert"], LoraSettings()))
    encoder.save_pretrained(tmp_path / "saved")
    vectors = sentence_transformers.SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(
        [*SENTENCES, "", "the moon " * 50])
    assert abs(vectors - encoder.encode([*SENTENCES, "", "the moon " * 50])).max() < 1e-5


def test_encoding_many_texts_says_how_many_and_how_long(folders, monkeypatch, capsys):
    monkeypatch.setattr("llmrec_cli.pace.WORTH_A_LINE", -1.0)
    load(folders["bert"]).encode([*TEXTS, *TEXTS])
    assert re.fullmatch(rf"(.*\n)?encoding: {len(set(TEXTS))} texts took [0-9.]+ s\n", capsys.readouterr().err)
