"""pretrain: prepared data to an encoder that transformers and sentence-transformers load."""

import json
import os

import numpy as np
import pytest
import torch
import transformers

from llmrec_cli.encoders.sources import load_encoder
from llmrec_cli.errors import ArtifactError, ConfigError, DivergedError
from llmrec_cli.run_dir import RunDir
from llmrec_cli.settings.encoder import HuggingFaceSettings, PretrainedSettings, ScratchSettings
from llmrec_cli.settings.objective import (
    CausalLanguageModelSettings,
    ContrastiveSettings,
    MaskedLanguageModelSettings,
    NextSentenceSettings,
)
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.settings.stages import PrepareConfig, PretrainConfig
from llmrec_cli.settings.tracker import NoTrackerSettings
from llmrec_cli.stages import prepare, pretrain
from tests.some_slow import some_slow
from tests.tiny import write_tiny
from tests.tiny_models import save_tiny

SCRATCH = ScratchSettings(max_length=32, vocabulary_size=150, hidden_size=16, num_layers=2, num_attention_heads=2)
TEXTS = ["Robot and Android (1980)", "", "爱情 and 情书"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    from llmrec_cli.settings.dataset import FilesSettings
    from llmrec_cli.settings.engine import DuckDbSettings
    from llmrec_cli.settings.split import RandomSettings
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny(folder)
    before = os.getcwd()
    os.chdir(folder)
    try:
        files = FilesSettings(name="tiny", interactions=str(folder / "interactions.csv"),
                              items=str(folder / "items.csv"),
                              item_text="{title} ({year}). {genres}")
        prepare.run(PrepareConfig(dataset=files, split=RandomSettings(), engine=DuckDbSettings(),
                                  output=str(folder / "prepared")),
                    RunDir.create("prepare"))
    finally:
        os.chdir(before)
    return folder / "prepared"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def config(prepared, encoder=SCRATCH, optim=None, **changed):
    optim = optim or AdamWSettings(epochs=2, batch_size=16, learning_rate=3e-3, checkpoint_every=2)
    objective = changed.pop("objective", MaskedLanguageModelSettings(holdout_share=0.2))
    return PretrainConfig(prepared=str(prepared), encoder=encoder, objective=objective, optim=optim,
                          **{"tracker": NoTrackerSettings(), "device": "cpu", **changed})


def pretrained(prepared, folder, **changed):
    run_dir = RunDir.create("pretrain", str(folder))
    pretrain.run(config(prepared, **changed), run_dir)
    return run_dir


def read(file):
    return json.loads(file.read_text())


def weights(run_dir):
    from safetensors.numpy import load_file
    return load_file(run_dir.encoder / "model.safetensors")


@pytest.mark.slow
def test_an_encoder_from_scratch_learns_and_reports_its_result(prepared, tmp_path, capsys):
    run_dir = pretrained(prepared, tmp_path / "run", optim=AdamWSettings(epochs=8, batch_size=16, learning_rate=3e-3))
    metrics = read(run_dir.file("metrics.json"))
    assert metrics["after"]["loss"] < metrics["before"]["loss"] - 0.3
    assert metrics["after"]["num_scored"] == metrics["before"]["num_scored"] > 20
    assert read(run_dir.file("manifest.json"))["after"] == metrics["after"]
    out = capsys.readouterr().out
    assert f"{metrics['before']['loss']:.3f}" in out
    assert f"{metrics['after']['accuracy']:.1%}" in out
    assert (tmp_path / "runs" / "pretrain" / "latest").resolve() == run_dir.path.resolve()


@pytest.mark.slow
def test_the_encoder_loads_with_automodel_sentence_transformers_and_our_own_to_the_same_vectors(prepared, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    run_dir = pretrained(prepared, tmp_path / "run")
    ours = load_encoder(PretrainedSettings(max_length=32), None, torch.device("cpu")).encode(TEXTS)
    theirs = sentence_transformers.SentenceTransformer(str(run_dir.encoder), device="cpu").encode(TEXTS)
    assert abs(ours - theirs).max() < 1e-5
    tokenizer = transformers.AutoTokenizer.from_pretrained(run_dir.encoder)
    model = transformers.AutoModel.from_pretrained(run_dir.encoder).eval()
    with torch.no_grad():
        first = model(**tokenizer(TEXTS[0], return_tensors="pt")).last_hidden_state[0].mean(0).numpy()
    assert abs(ours[0] - first).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("architecture", some_slow(["bert", "roberta", "distilbert"]))
def test_a_model_in_a_folder_is_trained_on(prepared, tmp_path, architecture):
    folder = save_tiny(tmp_path / "model", architecture)
    settings = HuggingFaceSettings(path=str(folder), max_length=24)
    run_dir = pretrained(prepared, tmp_path / "run", encoder=settings)
    metrics = read(run_dir.file("metrics.json"))
    assert metrics["head_is_new"]
    assert metrics["after"]["loss"] < metrics["before"]["loss"]
    cpu = torch.device("cpu")
    before, after = (load_encoder(s, None, cpu).encode(TEXTS) for s in (settings, PretrainedSettings(max_length=24)))
    assert before.shape == after.shape
    assert not np.allclose(before, after)


@pytest.mark.slow
def test_a_head_that_the_folder_brings_is_used(prepared, tmp_path):
    folder = save_tiny(tmp_path / "model", "bert")
    transformers.AutoModelForMaskedLM.from_pretrained(folder).save_pretrained(folder)
    run_dir = pretrained(prepared, tmp_path / "run", encoder=HuggingFaceSettings(path=str(folder), max_length=24))
    assert not read(run_dir.file("metrics.json"))["head_is_new"]


def test_a_model_without_masked_tokens_is_refused(prepared, tmp_path):
    folder = save_tiny(tmp_path / "model", "gpt2")
    with pytest.raises(ConfigError, match=r"'gpt2' in .* has no masked tokens to predict"):
        pretrained(prepared, tmp_path / "run", encoder=HuggingFaceSettings(path=str(folder), max_length=24))


def test_nothing_held_out_reaches_the_corpus(prepared):
    from llmrec_cli.data.prepared import read_prepared
    from llmrec_cli.training.corpus import build_corpus
    data = read_prepared(prepared)
    train = data.part("train")
    allowed = [" ".join(data.items.titles[train.matrix[[user]].indices]) for user in range(len(data.users))]
    corpus = build_corpus(data.training("train"), MaskedLanguageModelSettings(holdout_share=0.2, history_length=3), 1)
    runs = [text.split("; ") for text in corpus.train + corpus.held_out if "; " in text]
    assert runs
    assert all(any(all(title in titles for title in run) for titles in allowed) for run in runs)


def killed_at(step, run_dir, cfg):
    """Pretrain in a separate process that is killed after this many steps."""
    if (child := os.fork()) == 0:
        def log(event, **values):
            if event == "step" and values["step"] == step:
                os._exit(9)
        run_dir.log = log
        try:
            pretrain.run(cfg, run_dir)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


OBJECTIVES = {"clm": CausalLanguageModelSettings(holdout_share=0.2),
              "nsp": NextSentenceSettings(holdout_share=0.2, max_histories=60),
              "history": ContrastiveSettings(holdout_share=0.2, max_histories=100),
              "dropout": ContrastiveSettings(holdout_share=0.2, views="dropout"),
              "pieces": MaskedLanguageModelSettings(holdout_share=0.2, whole_words=False, mask_share=0.3)}


def num_steps(run_dir):
    return sum(json.loads(line)["event"] == "step" for line in run_dir.file("log.jsonl").read_text().splitlines())


def same(one, other):
    mine, others = weights(one), weights(other)
    return mine.keys() == others.keys() and all(np.array_equal(mine[name], others[name]) for name in mine)


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_published_and_goes_on_to_the_same_bits(prepared, tmp_path):
    whole = pretrained(prepared, tmp_path / "whole")
    steps = num_steps(whole)
    assert steps >= 8
    (tmp_path / "runs" / "pretrain" / "latest").unlink()

    killed = RunDir.create("pretrain", str(tmp_path / "killed"))
    killed_at(steps // 2 + 1, killed, config(prepared))
    assert not killed.encoder.exists()
    assert not (tmp_path / "runs" / "pretrain" / "latest").exists()
    with pytest.raises(ConfigError, match=r"objective.mask_share=0.3: the interrupted run had 0.15"):
        pretrain.run(config(prepared, objective=MaskedLanguageModelSettings(holdout_share=0.2, mask_share=0.3),
                            resume=str(killed.path)), killed)
    pretrain.run(config(prepared, resume=str(killed.path)), killed)
    assert same(whole, killed)
    assert read(killed.file("metrics.json")) == read(whole.file("metrics.json"))
    assert not list(killed.checkpoints.glob("step-*"))
    with pytest.raises(ConfigError, match="this run has finished"):
        pretrain.run(config(prepared, resume=str(killed.path)), killed)


@pytest.mark.parametrize("name", some_slow(OBJECTIVES))
def test_each_objective_lowers_its_loss_and_goes_on_to_the_same_bits_after_a_kill(prepared, tmp_path, name):
    chosen = {"objective": OBJECTIVES[name],
              "optim": AdamWSettings(epochs=3, batch_size=16, learning_rate=3e-3, checkpoint_every=2)}
    whole = pretrained(prepared, tmp_path / "whole", **chosen)
    killed = RunDir.create("pretrain", str(tmp_path / "killed"))
    killed_at(num_steps(whole) // 2 + 1, killed, config(prepared, **chosen))
    pretrain.run(config(prepared, resume=str(killed.path), **chosen), killed)
    assert same(whole, killed)
    metrics = read(whole.file("metrics.json"))
    assert metrics == read(killed.file("metrics.json"))
    assert metrics["after"]["loss"] < metrics["before"]["loss"]
    assert len(metrics["epochs"]) == 3
    result = load_encoder(PretrainedSettings(path=str(whole.path), max_length=32), None,
                          torch.device("cpu")).encode(TEXTS)
    assert np.isfinite(result).all()
    assert whole.file("report.html").stat().st_size > 10_000


def test_going_on_with_other_data_is_refused(prepared, tmp_path):
    run_dir = RunDir.create("pretrain", str(tmp_path / "run"))
    run_dir.file("inputs.json").write_text('{"data_fingerprint": "another"}')
    with pytest.raises(ArtifactError, match="has changed since the run started"):
        pretrain.run(config(prepared, resume=str(run_dir.path)), run_dir)


def test_a_learning_rate_that_diverges_publishes_nothing(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr("llmrec_cli.training.mlm.MaskedTexts.loss", lambda self, batch: next(
        self.model.parameters()).sum() * float("nan"))
    with pytest.raises(DivergedError, match=r"nan at step 1; lower optim.learning_rate"):
        pretrained(prepared, tmp_path / "run")
    assert not (tmp_path / "run" / "encoder").exists()
    assert not (tmp_path / "runs").exists()


def test_only_safetensors_json_and_text_are_written(prepared, tmp_path):
    run_dir = pretrained(prepared, tmp_path / "run")
    kinds = {p.suffix for p in run_dir.path.rglob("*") if p.is_file() and p.parent != run_dir.tensorboard}
    assert kinds <= {".safetensors", ".json", ".jsonl", ".txt", ".html", ".md"}
