"""Options are registered once, in the tables of settings; a YAML file holds values. All compose and build."""

import copy
import re
from dataclasses import dataclass
from typing import ClassVar

import pytest
import yaml
from hydra.core.config_store import ConfigStore

from llmrec_cli.config import compose
from llmrec_cli.errors import ConfigError
from llmrec_cli.heads.base import Head, build
from llmrec_cli.keys import config_groups_of
from llmrec_cli.option_files import choices, configs_dir
from llmrec_cli.settings.base import to_plain
from llmrec_cli.settings.encoder import ENCODERS, EncoderSettings
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.head import FusionSettings, ModelConfig
from llmrec_cli.settings.stages import COMMANDS

# Encoders that `pretrain`, the first command with encoders, cannot train.
WITHOUT_LAYERS = [name for name, encoder in ENCODERS.items() if not encoder.has_layers]
# Required settings of options.
NEEDED = {"apr": ["head=mf"], "distillation": ["head=content", "head.features.tuned=true"],
          "sampled_softmax": ["head=sequential"], "gbce": ["head=sequential"],
          "readers": ["head=content", "head.features.tuned=true"],
          **{name: ["head=item_similarity"] for name in WITHOUT_LAYERS},
          **{name: ["head=ease", "head.features.entities=1"] for name in ("transe", "rotate", "complex")},
          "files": ["dataset.interactions=x.csv"], "hf": ["encoder.path=x"],
          **{name: ["dataset.path=x"] for name in ("amazon_reviews", "mind", "mafengwo", "camra2011")}}
OPTIONS = [(group, name) for group in CONFIG_GROUPS for name in choices(group)]


def commands_of(group):
    return [command for command in COMMANDS if group in config_groups_of(command)]


def typed_for(command):
    return {"prepare": ["dataset.interactions=x.csv"], "recommend": ["queries=all"]}.get(command, [])


def content_of(file):
    """Return the settings of a YAML file and the dataclass of its schema."""
    content = yaml.safe_load(file.read_text("utf-8"))
    schema, own = content.pop("defaults")
    assert own == "_self_", file
    group, name = re.fullmatch(r"/schema/(\w+)/(\w+)@_here_", schema).groups()
    assert group == file.parent.name, file
    return content, name


def test_every_yaml_file_of_a_group_holds_values_of_an_option_in_its_table():
    for group, table in CONFIG_GROUPS.items():
        for file in (configs_dir() / group).glob("*.yaml"):
            content, schema = content_of(file)
            assert content, f"{file}: holds no value, and the table registers the option already"
            assert schema in table
            assert file.stem == schema or file.stem not in table
    folders = {path.name for path in configs_dir().iterdir() if path.is_dir()}
    assert folders <= {*CONFIG_GROUPS, "experiment"}
    assert {path.stem for path in configs_dir().glob("*.yaml")} == set(COMMANDS)


def test_an_option_needs_no_yaml_file_to_be_chosen(monkeypatch):
    @dataclass
    class HashedText(EncoderSettings):
        implementation: ClassVar[str] = "llmrec_cli.encoders.tfidf.TfIdfEncoder"
        kind: str = "hashed"
        buckets: int = 64

    compose("finetune", [])  # The first composition fills Hydra's own store.
    store = ConfigStore.instance()
    monkeypatch.setattr(store, "repo", copy.deepcopy(store.repo))
    monkeypatch.setitem(CONFIG_GROUPS["encoder"], "hashed", HashedText)
    assert "hashed" in choices("encoder")
    encoder = compose("finetune", ["head=two_tower", "peft=frozen", "encoder=hashed", "encoder.buckets=8"]).encoder
    assert encoder == HashedText(buckets=8)
    with pytest.raises(ConfigError, match=r"encoder=hashd: no such encoder \(did you mean 'hashed'\?\)"):
        compose("finetune", ["encoder=hashd"])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes_with_its_defaults(command):
    assert isinstance(compose(command, typed_for(command)), COMMANDS[command])


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_option_composes_to_its_dataclass_with_the_dataclass_defaults(group, name):
    command = "finetune" if name in WITHOUT_LAYERS else commands_of(group)[0]
    alone = [] if group == "head" else ["head=two_tower"] if group in ("encoder", "peft", "adversarial", "loss") else []
    typed = [f"{group}={name}", *NEEDED.get(name, []), *(alone if command == "finetune" and name not in NEEDED else [])]
    files = ["dataset=files", "dataset.train=a", "dataset.test=b"] if name == "given" else NEEDED["files"]
    built = getattr(compose(command, typed if command != "prepare" or group == "dataset" else [*typed, *files]), group)
    file = configs_dir() / group / f"{name}.yaml"
    content, schema = content_of(file) if file.exists() else ({}, name)
    assert type(built) is CONFIG_GROUPS[group][schema]
    assert built.kind == schema
    typed_keys = {text.partition("=")[0].split(".")[1] for text in typed if text.startswith(f"{group}.")}
    for key in content.keys() - typed_keys - {"members", "search"}:
        assert to_plain(getattr(built, key)) == content[key], f"{key} of {name}.yaml"


@pytest.mark.parametrize("name", CONFIG_GROUPS["head"])
def test_every_head_builds(name):
    head = build(compose("finetune", [f"head={name}"]).config)
    assert isinstance(head, Head)
    assert head.config.head.kind == name


def test_every_member_of_the_default_fusion_is_a_recipe_that_builds():
    settings = compose("finetune", []).head
    assert isinstance(settings, FusionSettings)
    for member in settings.members.values():
        assert isinstance(member, ModelConfig)
        assert isinstance(build(member), Head)
        assert member.head.uses() <= {group for group in ("encoder", "peft", "adversarial", "loss", "optim")
                                      if getattr(member, group) is not None}


@pytest.mark.parametrize("name", choices("experiment"))
def test_every_experiment_composes_for_every_command(name):
    content = yaml.safe_load((configs_dir() / "experiment" / f"{name}.yaml").read_text("utf-8"))
    assert set(content) <= {*COMMANDS, "table"}
    for command in COMMANDS:
        own = [text.partition("=")[0] for text in content.get(command, [])]
        more = [text for text in typed_for(command) if command != "prepare" or "dataset" not in own]
        # Published data has no fixed folder; the user sets it.
        more += [text for typed in content.get(command, []) if typed in ("dataset=mafengwo", "dataset=camra2011")
                 for text in NEEDED[typed.partition("=")[2]]]
        # Each value of a multirun is composed.
        several = [text.partition("=") for text in content.get(command, []) if "," in text and "[" not in text]
        each = [f"{key}={value}" for key, _, values in several if key in CONFIG_GROUPS for value in values.split(",")]
        for one in [[typed] for typed in each] or [[]]:
            assert isinstance(compose(command, [f"experiment={name}", *more, *one]), COMMANDS[command])


def test_the_default_loss_can_train_the_head():
    assert compose("finetune", ["head=interest"]).loss.kind == "bce"
    assert compose("finetune", ["head=content", "head.features.tuned=true"]).loss.kind == "readers"
    fusion = compose("finetune", ["head.members={content: {head: content, features: {tuned: true}}, "
                                  "tower: {head: two_tower}}"])
    assert fusion.head.members["content"].loss.kind == "readers"
    assert fusion.head.members["tower"].loss.kind == "softmax"
    for typed in (["loss=bpr"], ["loss.temperature=0.2"]):
        with pytest.raises(ConfigError, match="cannot train head=interest; choose one of bce, mse"):
            compose("finetune", ["head=interest", *typed])


TABLES = [(name, model, settings) for name in choices("experiment")
          for model, settings in yaml.safe_load((configs_dir() / "experiment" / f"{name}.yaml").read_text("utf-8"))
          .get("table", {}).get("models", {}).items()]


@pytest.mark.parametrize(("name", "model", "settings"), TABLES, ids=lambda value: str(value)[:40])
def test_every_model_of_an_experiments_table_composes(name, model, settings):
    assert isinstance(compose("finetune", [f"experiment={name}", *settings]), COMMANDS["finetune"])


def test_every_key_of_an_option_file_is_a_setting():
    """Hydra merges any key; the builder refuses unknown ones, so a stale key in a file cannot hide."""
    for file in configs_dir().glob("*/*.yaml"):
        if file.parent.name == "experiment":
            continue
        content, schema = content_of(file)
        assert set(content) <= set(CONFIG_GROUPS[file.parent.name][schema].__dataclass_fields__), file
