"""Shared files are data: they set values of their own config group, and nothing that they name is run."""

import json
import os
import pickle
from pathlib import Path

import hydra
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from llmrec_cli.config import apply_changes, compose, register_schemas
from llmrec_cli.errors import ConfigError
from llmrec_cli.keys import config_groups_of
from llmrec_cli.option_files import choices, configs_dir
from llmrec_cli.overrides import Change
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.stages import COMMANDS

SCHEMA = "defaults: [/schema/head/ease@_here_, _self_]\n"


class Leaves:
    """Opens the file `marker` when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return (open, (self.marker, "w"))


@pytest.fixture
def shared(tmp_path):
    """A folder for --config-dir, and a pickle that creates the file `marker` when it is loaded."""
    folder = tmp_path / "shared"
    (tmp_path / "trap.pkl").write_bytes(pickle.dumps(Leaves(tmp_path / "marker")))

    def write(name, content):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            call = f"{{_target_: pandas.read_pickle, filepath_or_buffer: {tmp_path}/trap.pkl}}"
            content = content.replace("CALL", call).encode()
        file.write_bytes(content)
        return file

    folder.mkdir()
    return write


REACHING = [
    ("head/x.yaml", "# @package _global_\ndefaults: [/schema/head/ease@head]\nhydra: {callbacks: {x: CALL}}\n", 1),
    ("head/x.yaml", "#@package _group_\nkind: ease\n", 1),
    ("head/x.yaml", f"{SCHEMA}\nhydra: {{callbacks: {{x: CALL}}}}\n", 3),
    ("head/x.yaml", f"{SCHEMA}hydra.launcher: CALL\n", 2), ("head/x.yaml", f"{SCHEMA}'hydra/callbacks': x\n", 2),
    ("head/x.yaml", f"{SCHEMA}search:\n  l2: CALL\n", 3), ("head/x.yaml", f"{SCHEMA}_target_: builtins.open\n", 2),
    ("head/x.yaml", f"{SCHEMA}l2:\n  _partial_: true\n", 3),
    ("head/x.yaml", f"{SCHEMA}l2: !!python/object/apply:os.system [exit]\n", 2),
    ("head/x.yaml", f"{SCHEMA}l2: ${{oc.env:HOME}}\n", 2), ("head/x.yaml", f"{SCHEMA}l2: '${{oc.decode:\"1\"}}'\n", 2),
    ("head/x.yaml", f"{SCHEMA}l2: ${{hydra:runtime.cwd}}\n", 2), ("head/x.yaml", f"{SCHEMA}l2: ${{now:%Y}}\n", 2),
    ("experiment/x.yaml", "finetune:\n  - head=ease\n  - hydra.sweep.dir=/tmp\n", 3),
    ("experiment/x.yaml", "finetune:\n  - '+hydra.callbacks.x=CALL'\n", 2),
    ("experiment/x.yaml", "finetune:\n  - ~hydra.launcher\n", 2),
    ("experiment/x.yaml", "finetune: [hydra/launcher=x]\n", 1),
    ("experiment/x.yaml", "# @package _global_\nfinetune: []\n", 1),
    ("experiment/x.yaml", "hydra: {job: {chdir: true}}\n", 1),
    ("experiment/x.yaml", "finetune: ['head={kind: ease, _target_: builtins.open}']\n", 1),
    ("experiment/x.yaml", "finetune:\n- 'optim.epochs=${oc.env:HOME}'\n", 2)]


@pytest.mark.parametrize("several", [[], ["--multirun"]], ids=["one run", "multirun"])
@pytest.mark.parametrize(("name", "content", "line"), REACHING)
def test_a_shared_file_that_reaches_beyond_its_group_is_refused_by_its_line_and_nothing_runs(
        llmrec, shared, tmp_path, tiny_prepared, name, content, line, several):
    file = shared(name, content)
    done = llmrec("finetune", f"--config-dir={tmp_path / 'shared'}", f"prepared={tiny_prepared}",
                  f"{file.parent.name}=x", *several)
    assert done.code == 2
    assert f"{file}, line {line}: " in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "marker").exists()
    assert not Path("runs").exists()


@pytest.mark.parametrize("several", [[], ["--multirun"]], ids=["one run", "multirun"])
@pytest.mark.parametrize("typed", ["+hydra.callbacks.x={_target_: pandas.read_pickle, filepath_or_buffer: trap.pkl}",
                                   "hydra/launcher=basic", "~hydra.launcher", "~hydra", "hydra.searchpath=[file:///tmp]",
                                   "head@hydra.launcher=ease", "++hydra.job.chdir=true", "hydra.verbose=true",
                                   "hydra.sweep.dir=/tmp", "optim.epochs=${oc.env:HOME}", "hydra=x"])
def test_nothing_of_hydras_own_is_set_on_the_command_line(llmrec, shared, tmp_path, typed, several):
    done = llmrec("finetune", typed, *several)
    assert done.code == 2
    assert typed.partition("=")[0].lstrip("+~") in done.err
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("option", ["--config-path=/tmp", "--config-name=x", "-cp", "-cn", "--experimental-rerun=x",
                                    "--package=head", "--info", "-i", "--hydra-help", "--run", "--resolve"])
def test_hydras_command_line_options_are_refused(llmrec, option):
    done = llmrec("finetune", option)
    assert done.code == 2
    assert done.err.startswith(f"llmrec: configuration error: {option}: no such option")


def test_a_multirun_makes_nothing_of_hydras_launchers_sweepers_and_callbacks(llmrec, tiny_prepared, monkeypatch):
    import hydra._internal.callbacks
    import hydra._internal.instantiate._instantiate2
    import hydra.utils
    from hydra.core.plugins import Plugins

    def fail(*_, **__):
        pytest.fail("made something of Hydra's")

    for owner, name in [(Plugins, "instantiate_launcher"), (Plugins, "instantiate_sweeper"), (Plugins, "_instantiate"),
                        (hydra._internal.callbacks.Callbacks, "__init__"), (hydra, "main"),
                        (hydra._internal.instantiate._instantiate2, "instantiate"), (hydra.utils, "instantiate")]:
        monkeypatch.setattr(owner, name, fail)
    done = llmrec("finetune", f"prepared={tiny_prepared}", "head=popularity,item_knn", "--multirun", "run_dir=many")
    assert done.code == 0, done.err
    assert sorted(os.listdir()) == ["many", "runs"]
    assert sorted(os.listdir("many")) == ["0", "1"]
    assert sorted(os.listdir("runs/finetune")) == ["latest"]


UNREADABLE = [
    ("- a\n", "not a list"), ("text\n", "not a single value"), ("", "is empty"), ("l2: [1,\n", "is not YAML"),
    (b"l2: 1 # \xe9\n", "is not UTF-8"), ("l2: 1".encode("utf-16"), "is not UTF-8"),
    ("l2: " + "[" * 1000 + "]" * 1000, "line 1: is"),
    ("a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)), "aliases"),
    ("#" * 300_000, "is larger than 256 KiB"), ("l2: 1\nl2: 2\n", "line 2: l2: occurs twice")]


@pytest.mark.parametrize(("content", "expected"), UNREADABLE)
@pytest.mark.parametrize("group", ["experiment", *CONFIG_GROUPS])
def test_a_file_that_cannot_be_read_is_refused_by_its_name_in_every_group(shared, tmp_path, group, content, expected):
    file = shared(f"{group}/x.yaml", content)
    command = command_of(group) if group in CONFIG_GROUPS else "finetune"
    with pytest.raises(ConfigError) as error:
        compose(command, [f"{group}=x"], str(tmp_path / "shared"))
    assert error.value.problems[0].startswith(str(file))
    assert expected in error.value.problems[0]


def command_of(group):
    """Return a command that has the config group."""
    return next(command for command in ("finetune", "prepare", "pretrain") if group in config_groups_of(command))


def test_pipes_and_links_out_of_the_folder_are_not_read_and_links_inside_are(shared, tmp_path):
    real = shared("data/x.yaml", f"{SCHEMA}l2: 5\n")
    folder = shared("head/y.yaml", SCHEMA).parent
    os.mkfifo(folder / "pipe.yaml")
    (folder / "inside.yaml").symlink_to(real)
    (folder / "outside.yaml").symlink_to("/etc/hostname")
    (folder / "nowhere.yaml").symlink_to(folder / "nothing")
    (tmp_path / "link").symlink_to(tmp_path / "shared")
    assert compose("finetune", ["head=inside"], str(tmp_path / "link")).head.l2 == 5
    for name, expected in [("pipe", "is not a regular file"), ("outside", "is a link to"),
                           ("nowhere", "cannot be read")]:
        with pytest.raises(ConfigError, match=f"head/{name}.yaml: .*{expected}"):
            compose("finetune", [f"head={name}"], str(tmp_path / "shared"))


@pytest.mark.parametrize(("name", "expected"), [
    ("head/ease.yaml", "llmrec has head=ease already; give the file another name"),
    ("experiment/movielens_100k.yaml", "llmrec has experiment=movielens_100k already"),
    ("finetune.yaml", "the defaults of a command cannot be replaced"), ("hydra/launcher/x.yaml", "remove the folder"),
    ("schema/head/ease.yaml", "remove the folder"), ("head/a,b.yaml", "rename the file"),
    ("head/${x}.yaml", "rename the file")])
def test_a_file_with_a_name_of_ours_is_refused_whatever_is_chosen(shared, tmp_path, name, expected):
    shared(name, SCHEMA)
    with pytest.raises(ConfigError, match=expected):
        compose("finetune", ["head=popularity"], str(tmp_path / "shared"))


@pytest.mark.parametrize(("content", "l2"), [
    (f"{SCHEMA}l2: 500\n", 500), ("defaults: [ease, _self_]\nl2: 500\n", 500), ("defaults: [ease]\nl2: 500\n", 500),
    ("kind: ease\nl2: 500\n", 500), ("defaults: [base, _self_]\n", 7), ("defaults: [ease, _self_]\nl2: ${seed}\n", 1),
    ("a: &a {text: 1}\n", None)])
def test_an_option_begins_with_the_dataclass_or_with_another_option(shared, tmp_path, content, l2):
    shared("head/base.yaml", f"{SCHEMA}l2: 7\n")
    shared("head/x.yaml", content)
    if l2 is None:
        with pytest.raises(ConfigError, match="names no base head"):
            compose("finetune", ["head=x"], str(tmp_path / "shared"))
    else:
        assert compose("finetune", ["head=x"], str(tmp_path / "shared")).head.l2 == l2
        assert compose("finetune", ["head=x", "head.l2=3"], str(tmp_path / "shared")).head.l2 == 3


@pytest.mark.parametrize("base", ["[override hydra/launcher: basic]", "[{override /hydra/launcher: basic}, _self_]",
                                  "[/hydra/launcher/basic@_here_]", "[/schema/loss/bce@_here_, _self_]", "[x, _self_]",
                                  "[round, _self_]", "[ease, popularity, _self_]", "[_self_, ease]",
                                  "[optional nothing]", "ease", "{}", "[[ease]]", "[ease@_global_]", "[../loss/bce]",
                                  "[1]", "[null]"])
def test_any_other_defaults_are_refused_by_the_file(shared, tmp_path, base):
    shared("head/round.yaml", "defaults: [x, _self_]\n")
    file = shared("head/x.yaml", f"defaults: {base}\nl2: 5\n")
    with pytest.raises(ConfigError) as error:
        compose("finetune", ["head=x"], str(tmp_path / "shared"))
    assert str(file.parent) in error.value.problems[0]
    assert "defaults: " in error.value.problems[0]


@pytest.mark.parametrize(("command", "typed", "expected"), [
    ("finetune", "run_dir=/elsewhere", "the current folder"), ("finetune", "run_dir=a/../../b", "the current folder"),
    ("finetune", "cache=~/x", "the current folder"), ("recommend", "output=/x.csv", "the current folder"),
    ("recommend", "output.path=/x.csv", "the current folder"),
    ("finetune", "tracker.database=sqlite:////x.db", "the current folder"),
    ("finetune", "resume=runs/x", "cannot resume"),
    ("prepare", "engine.master=spark://there:7077", "another machine"),
    ("prepare", "engine.conf.spark.driver.extraJavaOptions=-javaagent:x.jar", "could name code"),
    ("prepare", "engine.conf={spark.jars: x.jar}", "could name code"),
    ("prepare", "engine.conf.spark.pyspark.python=x.sh", "could name code")])
def test_a_shared_experiment_neither_writes_elsewhere_nor_runs_code_through_spark(shared, tmp_path, command, typed,
                                                                                 expected):
    option = {"prepare": ["engine=spark"], "finetune": ["tracker=mlflow"]}.get(command, [])
    file = shared("experiment/x.yaml", yaml.safe_dump({command: [*option, typed]}))
    with pytest.raises(ConfigError) as error:
        compose(command, ["experiment=x", *["queries=all"] * (command == "recommend")], str(tmp_path / "shared"))
    assert [problem for problem in error.value.problems if problem.startswith(f"{file}: {typed[:6]}")]
    assert expected in error.value.problems[0]


def test_spark_resources_and_a_folder_beside_the_data_can_be_shared(shared, tmp_path):
    shared("engine/big.yaml", "defaults: [spark, _self_]\nconf: {spark.driver.memory: 8g}\nmaster: local[4]\n")
    shared("experiment/x.yaml", "prepare: [engine=big, dataset.interactions=x.csv, output=data/prepared/x]\n")
    cfg = compose("prepare", ["experiment=x"], str(tmp_path / "shared"))
    assert (cfg.engine.master, cfg.engine.conf, cfg.output) == (
        "local[4]", {"spark.driver.memory": "8g"}, "data/prepared/x")


@pytest.mark.parametrize("key", ["größe", "a b", "a.b", "it's", '"quoted"', "太空", "hydra", "a[].b", "x:y", "${x}",
                                 "#"])
def test_names_of_columns_are_any_text(shared, tmp_path, key):
    shared("dataset/x.yaml", yaml.safe_dump({"defaults": ["files", "_self_"], "attributes": {key: "number"},
                                             "interactions": "x.csv"}, allow_unicode=True))
    typed = [["dataset=x"], ["dataset.interactions=x.csv", f"dataset.attributes.{key}=number"],
             ["dataset.interactions=x.csv", f"dataset.attributes={{{json.dumps(key, ensure_ascii=False)}: number}}"]]
    for each in typed:
        assert compose("prepare", each, str(tmp_path / "shared")).dataset.attributes == {key: "number"}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_options_of_ours_give_what_hydra_would_compose(command):
    register_schemas()
    options = {group: choices(group) for group in config_groups_of(command)}
    for n in range(max(map(len, options.values()), default=0)):
        chosen = {group: names[n % len(names)] for group, names in options.items()}
        changes = [Change((group,), name, "", "choose") for group, name in chosen.items()]
        with hydra.initialize_config_dir(str(configs_dir()), version_base="1.3"):
            by_hydra = hydra.compose(command, [f"{group}={name}" for group, name in chosen.items()])
        assert apply_changes(command, changes, []) == OmegaConf.to_container(by_hydra, resolve=False)


# --- any content

keys = st.sampled_from(["l2", "kind", "defaults", "hydra", "_target_", "search", "features", "weight", "x", "<<",
                        "größe", "hydra.run", "members", "text"]) | st.text(max_size=5)
values = st.sampled_from(["ease", "fusion", "/schema/head/ease@_here_", "_self_", "${seed}", "${oc.env:HOME}", "${.l2}",
                          "${", "null", "builtins.open", ["ease", "_self_"], ["/schema/head/ease@_here_", "_self_"]]) \
    | st.none() | st.booleans() | st.integers(-10**25, 10**25) | st.floats() | st.text(max_size=8)
trees = st.recursive(values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
                     max_leaves=12)
files = st.dictionaries(keys, trees, max_size=4).map(
    lambda tree: yaml.safe_dump(tree, allow_unicode=True).encode()) | st.binary(max_size=100)
entries = st.builds(lambda key, value: f"{key}={value}", st.sampled_from([
    "head", "head.l2", "head.search.l2", "optim.epochs", "+x", "~head", "~optim.epochs", "hydra.x", "seed", "k",
    "head.members", "run_dir", "dataset.attributes", "encoder.path", "head.members.a.head", "experiment", "resume", "",
    "head.features"]),
    st.text("1,a[]{}:'\"$=\\ .-e(é~", max_size=10) | values.map(str))


def refused(group, content, folder):
    """Return the problems of a file in a shared folder; [] if it can be used."""
    file = folder / group / "x.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    try:
        compose("finetune", [f"{group}=x"], str(folder))
    except ConfigError as error:
        return error.problems
    return []


def check(group, content, folder):
    secret, before = "a secret of the environment", sorted(folder.parent.iterdir())
    os.environ["HOME_OF_SECRETS"] = secret
    problems = refused(group, content, folder)
    assert all(problem and len(problem) < 2000 and secret not in problem for problem in problems)
    assert sorted(folder.parent.iterdir()) == before


@pytest.mark.slow
@given(content=files)
@settings(max_examples=100)
def test_any_option_file_is_used_or_refused(tmp_path_factory, content):
    check("head", content, tmp_path_factory.mktemp("shared"))


@pytest.mark.slow
@given(overrides=st.lists(entries, max_size=4))
@settings(max_examples=100)
def test_any_experiment_is_used_or_refused(tmp_path_factory, overrides):
    content = yaml.safe_dump({"finetune": overrides}, allow_unicode=True).encode()
    check("experiment", content, tmp_path_factory.mktemp("shared"))


@pytest.mark.faults
@given(group=st.sampled_from(["head", "encoder", "optim", "loss", "experiment"]), content=files,
       overrides=st.lists(entries, max_size=6))
@settings(max_examples=1500)
def test_any_of_1_500_files_is_used_or_refused(tmp_path_factory, group, content, overrides):
    content = yaml.safe_dump({"finetune": overrides}, allow_unicode=True).encode() if group == "experiment" else content
    check(group, content, tmp_path_factory.mktemp("shared"))
