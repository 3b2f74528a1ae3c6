"""Settings: plain data in, checked dataclasses out, every problem reported."""

import ast
import dataclasses
import inspect

import pytest

from llmrec_cli.config import compose
from llmrec_cli.errors import ConfigError
from llmrec_cli.help import field_doc
from llmrec_cli.settings.base import Builder, defaults, nearest, to_plain
from llmrec_cli.settings.dataset import FilesSettings
from llmrec_cli.settings.engine import SparkSettings
from llmrec_cli.settings.evaluate import EvaluateConfig
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.head import EaseSettings, FusionSettings, ModelConfig, TwoTowerSettings
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.settings.loss import LOSSES, SoftmaxSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.settings.stages import COMMANDS, FinetuneConfig

OPTIONS = [cls for table in CONFIG_GROUPS.values() for cls in table.values()]


def build(cls, data):
    builder = Builder(CONFIG_GROUPS)
    return builder.settings(cls, data), builder.problems


@pytest.mark.parametrize("cls", [*OPTIONS, *COMMANDS.values()], ids=lambda cls: cls.__name__)
def test_every_setting_has_a_docstring_under_it(cls):
    for field in dataclasses.fields(cls):
        if "group" not in field.metadata and field.name not in ("kind", "features", "members", "query"):
            assert field_doc(cls, field.name)


@pytest.mark.parametrize("cls", OPTIONS, ids=lambda cls: cls.__name__)
def test_all_defaults_but_required_settings_are_in_range(cls):
    must_be_given = {"FilesSettings": "interactions: missing", "HuggingFaceSettings": "path: missing",
                     "FusionSettings": "members: empty",
                     "GroupAggregateSettings": "members: empty",
                     "AmazonReviewsSettings": "reviews: missing", "MindSettings": "path: missing",
                     "MafengwoSettings": "path: missing", "Camra2011Settings": "path: missing"}
    messages = list(cls().problems())
    assert [problem.startswith(must_be_given.get(cls.__name__, "nothing")) for problem in messages] == [True] * (
        cls.__name__ in must_be_given)


@pytest.mark.parametrize("cls", OPTIONS, ids=lambda cls: cls.__name__)
def test_every_number_with_a_range_in_its_docstring_is_checked(cls):
    """If a docstring contains `above 0` or `at least 1`, a lower value must be refused."""
    for field in dataclasses.fields(cls):
        if field.name == "kind" or not isinstance(field.default, int | float) or isinstance(field.default, bool):
            continue
        meaning = field_doc(cls, field.name)
        if "above 0" in meaning or "at least" in meaning or " to " in meaning:
            broken = list(dataclasses.replace(cls(), **{field.name: -1}).problems())
            assert any(problem.startswith(f"{field.name}=-1") for problem in broken), field.name


@pytest.mark.parametrize("number", [10**12, 10**22, -10**12, 10**400], ids=["1e12", "1e22", "-1e12", "1e400"])
@pytest.mark.parametrize("cls", OPTIONS, ids=lambda cls: cls.__name__)
def test_a_whole_number_beyond_what_any_setting_needs_is_refused_with_its_range(cls, number):
    for field in dataclasses.fields(cls):
        if type(field.default) is int and not (field.name.endswith("seed") and abs(number) == 10**12):
            messages = [problem for problem in build(cls, {field.name: number})[1]
                        if problem.startswith(f"{field.name}=")]
            assert any("must be from" in p or "must be at" in p or "must be above" in p for p in messages), field.name
        elif type(field.default) is float and number == 10**400:
            expected = f"{field.name}={str(number)[:200]}...: must be a finite number"
            assert expected in build(cls, {field.name: number})[1]


@pytest.mark.parametrize(("command", "typed", "expected"), [
    ("finetune", "monitor=ndcg@99999999999999999999", "k must be from 1 to 100000"),
    ("finetune", "optim.batch_size=1000000000000", "must be from 1 to 2147483647"),
    ("finetune", "optim.epochs=10000000000000000000000", "must be from 1 to 2147483647"),
    ("finetune", "head.members.tower={head: two_tower, encoded_items: 1000000000000}", "must be from 1 to 2147483647"),
    ("evaluate", "k=[5,1000000000000]", "list lengths must be from 1 to 100000"),
    ("evaluate", "candidates=sampled:99999999999999999999", "n must be from 1 to 2147483647"),
    ("evaluate", "candidates=sampled:" + "9" * 5000, "n must be from 1 to 2147483647"),
    ("evaluate", "slices=[item:popularity:99999999999]", "the number of quantiles must be from 2 to 1000"),
    ("evaluate", "num_bootstrap=2000000000", "must be at most 1000000"),
    ("recommend", "k=1000000000000", "must be at most 100000"),
    ("finetune", "optim.epochs=" + "9" * 5000, "cannot be read as a value"),
    ("finetune", "device=cuda:" + "9" * 5000, "choose one of auto, cpu, cuda, cuda:N")])
def test_a_number_beyond_its_range_is_refused_with_the_range(command, typed, expected):
    with pytest.raises(ConfigError, match=expected):
        compose(command, [typed, *["queries=all"] * (command == "recommend")])


@pytest.mark.parametrize("kind", [[], {}, None, 3, ["ease"]])
def test_the_name_of_an_option_is_text(kind):
    assert "head.kind=" in build(ModelConfig, {"head": {"kind": kind}})[1][0]


def test_options_are_built_by_their_kind_and_come_back_as_they_went():
    plain = {"head": {"kind": "fusion", "members": {"a": {"head": {"kind": "ease", "l2": 3, "features": {"text": 1}}}}},
             "loss": {"kind": "softmax", "temperature": 1}, "optim": None}
    config, messages = build(ModelConfig, plain)
    assert messages == []
    member = EaseSettings(l2=3.0, features=FeatureWeightsSettings(text=1.0))
    assert config.head == FusionSettings(members={"a": ModelConfig(head=member)})
    assert config.loss == SoftmaxSettings(temperature=1.0)
    again, messages = build(ModelConfig, to_plain(config))
    assert (again, messages) == (config, [])


def test_every_problem_is_collected_under_its_path():
    _, messages = build(ModelConfig, {"head": {"kind": "two_tower", "dropout": 2, "droput": 1, "embedding_size": "x"},
                                   "optim": {"kind": "adamw", "epochs": 0}, "loss": {"kind": "softmx"}, "peft": 3,
                                   "x": 1})
    assert messages == [
        "head.droput: unknown key (did you mean 'dropout'?)", "head.embedding_size=x: expected a whole number",
        "head.dropout=2.0: must be at most 0.99", "optim.epochs=0: must be at least 1",
        f"loss.kind=softmx: no such loss (did you mean 'softmax'?); choose one of {', '.join(LOSSES)}",
        "peft=3: expected one option of the group 'peft' with its kind", "x: unknown key"]


@pytest.mark.parametrize(("key", "value", "message"), [
    ("epochs", 1.0, "expected a whole number"), ("epochs", True, "expected a whole number"),
    ("epochs", None, "expected a whole number"), ("learning_rate", "1e-3", "expected a number"),
    ("learning_rate", float("nan"), "must be a finite number"),
    ("learning_rate", float("-inf"), "must be a finite number"),
    ("learning_rate", True, "expected a number"), ("kind", 3, "expected text (in YAML, quote it)")])
def test_values_of_the_wrong_type_are_refused_not_converted(key, value, message):
    built, (problem,) = build(AdamWSettings, {key: value})
    assert problem.endswith(message)
    assert getattr(built, key) == getattr(AdamWSettings(),
                                          key)  # Has its default, so that the rest is still checked.


def test_whole_numbers_are_accepted_for_float_settings():
    assert build(AdamWSettings, {"learning_rate": 1})[0].learning_rate == 1.0


def test_lists_and_mappings_with_a_bad_entry_are_told_by_the_entry():
    assert build(EvaluateConfig, {"k": [5, "x", None]})[1] == [
        "k[1]=x: expected a whole number", "k[2]=null: expected a whole number"]
    assert build(FilesSettings, {"interactions": "a", "columns": {"user_id": 3}})[1] == [
        "columns.user_id=3: expected text (in YAML, quote it)"]
    assert build(FusionSettings, {"members": {"a": {"head": {"kind": "ease"}}}, "weights": {"a": "x"}})[1] == [
        "weights.a=x: expected a number"]


def test_one_file_or_a_list_of_files():
    for value in ("a.csv", ["a.csv", "b.csv"]):
        assert build(FilesSettings, {"interactions": value})[0].interactions == value


def test_a_missing_setting_is_reported_with_an_example():
    assert build(FinetuneConfig, {})[1] == ["head: missing; set head=<value>"]


def test_defaults_are_plain_and_leave_groups_out():
    assert defaults(TwoTowerSettings)["encoded_items"] == 128
    assert defaults(EaseSettings)["features"] == {"text": 0.0, "words": 0.0, "attributes": 0.0, "knowledge": 0.0,
                                                  "two_hops": 0.0, "entities": 0.0, "documents": 0.0, "tuned": False,
                                                  "stop_after": None, "folds": 1, "frozen_text": 0.0,
                                                  "interpolation": 1.0}
    assert "head" not in defaults(FinetuneConfig)


def test_the_nearest_name_is_named_only_when_it_is_near():
    assert nearest("droput", ["dropout", "epochs"]) == " (did you mean 'dropout'?)"
    assert nearest("zzz", ["dropout", "epochs"]) == ""


def test_settings_import_nothing_of_ours_but_settings_and_nothing_heavy():
    import llmrec_cli.settings.groups as groups

    for module in {inspect.getmodule(cls) for cls in OPTIONS} | {groups}:
        tree = ast.parse(inspect.getsource(module))
        names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        # Phrases, for settings in words on a page, import nothing of ours themselves.
        assert {name for name in names if name.startswith("llmrec_cli") and ".settings." not in name} <= {
            "llmrec_cli.language.phrases"}
        assert names & {"torch", "numpy", "pandas", "scipy", "transformers", "hydra", "omegaconf", "pyarrow"} == set()


def test_a_key_with_dots_in_a_mapping_to_text_is_one_key() -> None:
    builder = Builder(CONFIG_GROUPS)
    conf = {"spark": {"executor": {"memory": "8g"}, "sql": {"shuffle": {"partitions": 4}}, "ui": {"enabled": False}}}
    built = builder.settings(SparkSettings, {"kind": "spark", "conf": conf})
    assert not builder.problems
    assert built.conf == {"spark.executor.memory": "8g", "spark.sql.shuffle.partitions": "4",
                          "spark.ui.enabled": "false"}
