"""Encoder settings on the command line."""

import pytest

from llmrec_cli.config import compose
from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.encoder import HuggingFaceSettings, LsaSettings, MiniLMSettings, TfIdfSettings


def composed(*typed, command="finetune"):
    alone = ["head=content"] if command == "finetune" else []
    return compose(command, [*alone, *typed]).encoder


def test_concat_is_minilm_and_lsa_by_default():
    encoder = composed("encoder=concat")
    assert {name: (type(part.encoder), part.weight) for name, part in encoder.parts.items()} == {
        "minilm": (MiniLMSettings, 1.0), "lsa": (LsaSettings, 0.7)}


def test_parts_are_named_changed_and_left_out_on_the_command_line():
    encoder = composed("encoder=concat", "encoder.parts.lsa.weight=0", "encoder.parts.minilm.encoder.max_length=32",
                       "encoder.parts.words.encoder=tfidf", "encoder.parts.words.weight=0.3",
                       "encoder.parts.other={encoder: {kind: hf, path: 'some folder (1)'}}")
    parts = encoder.parts
    assert parts["lsa"].weight == 0
    assert parts["minilm"].encoder.max_length == 32
    assert (type(parts["words"].encoder), parts["words"].weight) == (TfIdfSettings, 0.3)
    assert (type(parts["other"].encoder), parts["other"].encoder.path) == (HuggingFaceSettings, "some folder (1)")


@pytest.mark.parametrize(("typed", "message"), [
    ("encoder.parts.words.encoder=tfdif", r"no such encoder \(did you mean 'tfidf'\?\)"),
    ("encoder.parts.lsa.encoder.embeding_size=3", r"unknown key \(did you mean 'embedding_size'\?\)"),
    ("encoder.parts.lsa.weight=-1", "must be at least 0"),
    ("encoder.parts.lsa.weight=0", "give at least two"),
    ("encoder.parts.lsa.encoder.embedding_size=0", "must be at least 1"),
    ("encoder.whitening=2", "must be at most 1"),
    ("encoder.parts.lsa.encoder=concat", "cannot be a part")])
def test_mistakes_in_parts_are_reported_when_composing(typed, message):
    with pytest.raises(ConfigError, match=message):
        composed("encoder=concat", typed)


@pytest.mark.parametrize(("typed", "message"), [
    (["encoder=lsa"], "encoder=lsa: has no trainable layers"),
    (["encoder.whitening=0.5"], "has no effect on pretraining"), (["encoder.projection=8"], "no effect on pretraining"),
    (["encoder.pooling=attention"], "pooling=attention: has no effect with objective=mlm"),
    (["encoder=hf", "encoder.path=x", "encoder.bidirectional=true"], "cannot be combined with objective=mlm"),
    (["encoder.bidirectional=true"], "has no effect, since MiniLM is bidirectional"),
    (["encoder.pooling=mena"], r"did you mean 'mean'\?")])
def test_settings_without_effect_on_pretraining_are_reported_when_composing(typed, message):
    with pytest.raises(ConfigError, match=message):
        composed(*typed, command="pretrain")


def test_prompts_are_set_as_text_or_read_from_the_folder():
    assert composed("encoder.item_prompt=passage: ").item_prompt == "passage: "
    assert composed().item_prompt is None
    assert composed("encoder.item_prompt=").item_prompt == ""
