"""The YAML files and the dataclasses say the same: each option has both, and every file composes and builds."""

import re

import pytest
import yaml

from llmrec_cli.config import compose
from llmrec_cli.errors import ConfigError
from llmrec_cli.heads.base import Head, build
from llmrec_cli.option_files import choices, configs_dir
from llmrec_cli.overrides import groups_of
from llmrec_cli.settings.base import to_plain
from llmrec_cli.settings.groups import GROUPS
from llmrec_cli.settings.head import Fusion, Recipe
from llmrec_cli.settings.stages import COMMANDS

# Encoders that `pretrain`, the first command that has encoders, cannot train.
WITHOUT_LAYERS = ("static", "tfidf", "lsa", "concat")
# What an option needs beside its name.
NEEDED = {"apr": ["head=mf"], "distillation": ["head=content", "head.features.tuned=true"],
          **{name: ["head=item_similarity"] for name in WITHOUT_LAYERS},
          **{name: ["head=ease", "head.features.entities=1"] for name in ("transe", "rotate", "complex")},
          "files": ["dataset.interactions=x.csv"], "hf": ["encoder.path=x"],
          **{name: ["dataset.path=x"] for name in ("amazon_reviews", "mind", "mafengwo", "camra2011")}}
OPTIONS = [(group, name) for group in GROUPS for name in choices(group)]


def commands_of(group):
    return [command for command in COMMANDS if group in groups_of(command)]


def typed_for(command):
    return {"prepare": ["dataset.interactions=x.csv"], "recommend": ["queries=all"]}.get(command, [])


def content_of(file):
    """The settings of a YAML file and the dataclass that its schema names."""
    content = yaml.safe_load(file.read_text("utf-8"))
    schema, own = content.pop("defaults")
    assert own == "_self_", file
    group, name = re.fullmatch(r"/schema/(\w+)/(\w+)@_here_", schema).groups()
    assert group == file.parent.name, file
    return content, name


def test_every_option_has_a_yaml_file_and_every_yaml_file_is_an_option_or_one_with_other_values():
    for group, table in GROUPS.items():
        schemas = {name: content_of(configs_dir() / group / f"{name}.yaml") for name in choices(group)}
        assert {name for name, (_, schema) in schemas.items() if name == schema} == set(table)
        shared = {name: content for name, (content, _) in schemas.items() if name not in table}
        assert all(shared.values()), f"without values of its own, an option is only another name: {shared}"
        assert {schema for _, schema in schemas.values()} == set(table)
    folders = {path.name for path in configs_dir().iterdir() if path.is_dir()}
    assert folders == {*GROUPS, "experiment"}
    assert {path.stem for path in configs_dir().glob("*.yaml")} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes_with_its_defaults(command):
    assert isinstance(compose(command, typed_for(command)), COMMANDS[command])


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_option_composes_to_its_dataclass_with_the_dataclass_defaults(group, name):
    command = "finetune" if name in WITHOUT_LAYERS else commands_of(group)[0]
    alone = [] if group == "head" else {"encoder": ["head=two_tower"], "peft": ["head=two_tower"]}.get(group, [])
    typed = [f"{group}={name}", *NEEDED.get(name, []), *(alone if command == "finetune" and name not in NEEDED else [])]
    built = getattr(compose(command, typed if command != "prepare" or group == "dataset" else
                            [*typed, *NEEDED["files"]]), group)
    content, schema = content_of(configs_dir() / group / f"{name}.yaml")
    assert type(built) is GROUPS[group][schema]
    assert built.kind == schema
    typed_keys = {text.partition("=")[0].split(".")[1] for text in typed if text.startswith(f"{group}.")}
    for key in content.keys() - typed_keys - {"members", "search"}:
        assert to_plain(getattr(built, key)) == content[key], f"{key} of {name}.yaml"


@pytest.mark.parametrize("name", GROUPS["head"])
def test_every_head_builds(name):
    head = build(compose("finetune", [f"head={name}"]).recipe)
    assert isinstance(head, Head)
    assert head.recipe.head.kind == name


def test_every_member_of_the_default_fusion_is_a_recipe_that_builds():
    settings = compose("finetune", []).head
    assert isinstance(settings, Fusion)
    for member in settings.members.values():
        assert isinstance(member, Recipe)
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
        # A published folder has no place of its own; whoever has it says where.
        more += [text for typed in content.get(command, []) if typed in ("dataset=mafengwo", "dataset=camra2011")
                 for text in NEEDED[typed.partition("=")[2]]]
        # Of several values, for --multirun, each is composed.
        several = [text.partition("=") for text in content.get(command, []) if "," in text and "[" not in text]
        each = [f"{key}={value}" for key, _, values in several if key in GROUPS for value in values.split(",")]
        for one in [[typed] for typed in each] or [[]]:
            assert isinstance(compose(command, [f"experiment={name}", *more, *one]), COMMANDS[command])


def test_a_loss_that_nobody_chose_is_one_that_the_head_can_be_trained_by():
    assert compose("finetune", ["head=interest"]).loss.kind == "bce"
    assert compose("finetune", ["head=content", "head.features.tuned=true"]).loss.kind == "distillation"
    fusion = compose("finetune", ["head.members.content={head: content, features: {tuned: true}}"])
    assert fusion.head.members["content"].loss.kind == "distillation"
    assert fusion.head.members["tower"].loss.kind == "softmax"
    for typed in (["loss=bpr"], ["loss.temperature=0.2"]):
        with pytest.raises(ConfigError, match="head=interest cannot be trained by it; choose one of bce, mse"):
            compose("finetune", ["head=interest", *typed])


TABLES = [(name, model, settings) for name in choices("experiment")
          for model, settings in yaml.safe_load((configs_dir() / "experiment" / f"{name}.yaml").read_text("utf-8"))
          .get("table", {}).get("models", {}).items()]


@pytest.mark.parametrize(("name", "model", "settings"), TABLES, ids=lambda value: str(value)[:40])
def test_every_model_of_an_experiments_table_composes(name, model, settings):
    assert isinstance(compose("finetune", [f"experiment={name}", *settings]), COMMANDS["finetune"])


def test_what_the_yaml_changes_is_a_setting_of_the_schema():
    """Hydra merges any key; the builder refuses unknown ones, so a stale key in a file cannot hide."""
    for file in configs_dir().glob("*/*.yaml"):
        if file.parent.name == "experiment":
            continue
        content, schema = content_of(file)
        assert set(content) <= set(GROUPS[file.parent.name][schema].__dataclass_fields__), file
