"""Settings files: one file of plain data serves all commands, below the command line and above defaults and
experiments."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmrec_cli.config import compose, compose_runs, describe
from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.stages import COMMANDS
from tests.some_slow import num_examples

SHOP = """
dataset:
  name: shop
  interactions: clicks.csv
  columns: {item_id: 商品 编号, timestamp: Größe (cm)}
  attributes: {类目: category, user.id: number}
  event_weights: {浏览: 1, 购买: 5}
split: {kind: temporal, test_days: 7}
head: {kind: ease, l2: 300, features: {text: 4}}
encoder: minilm
optim: {epochs: 3}
seed: 7
recommend: {k: 20, output: lists.csv, query: {history: [7, 007]}}
evaluate: {k: 10, split: valid}
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(name, content):
    Path(name).write_text(content, "utf-8")
    return f"settings={name}"


def problems(command, *typed):
    with pytest.raises(ConfigError) as error:
        compose(command, typed)
    return error.value.problems


def test_one_file_serves_all_commands_and_each_takes_its_settings():
    shop = write("shop.yaml", SHOP)
    prepare = compose("prepare", [shop])
    assert (prepare.dataset.kind, prepare.dataset.interactions, prepare.dataset.name) == ("files", "clicks.csv", "shop")
    assert prepare.dataset.columns == {"item_id": "商品 编号", "timestamp": "Größe (cm)"}
    assert prepare.dataset.attributes == {"类目": "category", "user.id": "number"}
    assert prepare.dataset.event_weights == {"浏览": 1.0, "购买": 5.0}
    assert (prepare.split.kind, prepare.split.test_days) == ("temporal", 7.0)
    finetune = compose("finetune", [shop])
    assert (finetune.head.kind, finetune.head.l2, finetune.head.features.text, finetune.seed) == ("ease", 300, 4, 7)
    assert (compose("pretrain", [shop]).optim.epochs, compose("pretrain", [shop]).seed) == (3, 7)
    evaluate = compose("evaluate", [shop])
    assert (evaluate.k, evaluate.split, evaluate.seed) == ([10], "valid", 7)
    recommend = compose("recommend", [shop])
    assert (recommend.k, recommend.output.path, recommend.query.history) == (20, "lists.csv", ["7", "007"])


def test_the_command_line_is_above_the_file_and_the_file_above_experiment_and_defaults(capsys):
    Path("c/experiment").mkdir(parents=True)
    Path("c/experiment/mine.yaml").write_text("finetune: [head=ease, head.l2=5, seed=3, refit=all]\n")
    file = write("s.yaml", "head: {kind: ease, weight: log}\nseed: 4\n")
    cfg = compose("finetune", ["experiment=mine", file, "seed=5"], "c")
    # The option of the file replaces all settings of the experiment for its config group.
    assert (cfg.head.l2, cfg.head.weight, cfg.seed, cfg.refit) == (None, "log", 5, "all")
    assert capsys.readouterr().err == "note: experiment=mine: no effect with head=ease: head.l2=5\n"
    assert compose("finetune", ["experiment=mine", file], "c").seed == 4
    assert compose("finetune", ["experiment=mine", write("t.yaml", "head: {l2: 9}")], "c").head.l2 == 9


def test_another_option_on_the_command_line_leaves_the_files_settings_of_its_group_out():
    shop = write("shop.yaml", SHOP)
    assert compose("prepare", [shop, "split=temporal"]).split.test_days == 7
    assert compose("prepare", [shop, "split=random"]).split.kind == "random"
    assert compose("prepare", [shop, "dataset=movielens_100k"]).dataset.name == "movielens_100k"
    assert compose("finetune", [shop, "head=popularity"]).head.kind == "popularity"  # encoder: has no effect
    assert problems("finetune", write("p.yaml", "head: popularity\nloss: bpr\n"))[0].startswith(
        "p.yaml, line 2: loss=bpr: has no effect, since head=popularity")
    runs = compose_runs("finetune", [shop, "head=ease,item_knn"])
    assert [getattr(run.settings.head, "l2", None) for run in runs] == [300, None]
    assert [run.label for run in runs] == ["head=ease", "head=item_knn"]


def test_values_of_a_file_without_effect_are_printed_with_their_lines(capsys):
    file = write("shop.yaml", "head: {kind: ease, l2: 300}\nencoder: lsa\nseed: 4\n")
    assert compose("finetune", [file, "head=item_knn"]).seed == 4
    assert capsys.readouterr().err.splitlines() == [
        "note: shop.yaml, line 1: no effect with head=item_knn: head.l2=300",
        "note: shop.yaml, line 2: no effect with head=item_knn: encoder=lsa"]
    compose_runs("finetune", [file, "head=item_knn,popularity", "seed=1,2"])
    assert capsys.readouterr().err.count(": head.l2=300\n") == 2  # Once for each head, not for each run.
    compose("finetune", [write("knn.yaml", "head: {kind: item_knn, k: 9}\n"), "head=item_knn"])
    assert capsys.readouterr().err == ""


def test_of_several_files_the_later_wins():
    write("a.yaml", "dataset: {kind: movielens_100k, name: a}\nseed: 1\nhead: {kind: ease, l2: 5}\n")
    write("b.yaml", "dataset: {name: b}\nhead: item_knn\n")
    for typed in (["settings=[a.yaml,b.yaml]"], ["settings=a.yaml", "settings=b.yaml"]):
        assert compose("prepare", typed).dataset.name == "b"
        assert compose("prepare", typed).dataset.kind == "movielens_100k"
        assert compose("finetune", typed).head.kind == "item_knn"
    assert compose("prepare", ["settings=[b.yaml,a.yaml]"]).dataset.name == "a"


def test_settings_of_a_dataset_without_a_kind_are_of_files_whatever_the_experiment_names():
    file = write("s.yaml", "dataset: {interactions: x.csv}\n")
    cfg = compose("prepare", ["experiment=movielens_100k", file])
    assert (cfg.dataset.kind, cfg.dataset.interactions) == ("files", "x.csv")


@pytest.mark.parametrize(("content", "keys"), [
    ("head.members: {ease: {l2: 9}, item_knn: null, near: {head: item_knn, k: 3}}", {"ease": 9}),
    ("head:\n  members.ease.l2: 9\n  members.item_knn: null\n  members: {near: {head: item_knn, k: 3}}", {"ease": 9}),
    ("head: {kind: fusion, members: {ease: {l2: 9, encoder: tfidf}, item_knn: ~, near: {head: item_knn, k: 3}}}",
     {"ease": 9})])
def test_keys_are_nested_or_dotted_and_members_of_a_fusion_are_mappings(content, keys):
    members = compose("finetune", [write("s.yaml", content)]).head.members
    assert set(members) == {"ease", "plain_ease", "neighbours", "item_similarity", "ials", "near"}
    assert (members["ease"].head.l2, members["near"].head.k) == (keys["ease"], 3)


@pytest.mark.parametrize(("line", "value"), [
    ("name: 2024", "2024"), ("name: 007", "007"), ("name: no", "no"), ("item_text: '${oc.env:HOME} {a}'",
                                                                       "${oc.env:HOME} {a}"),
    ("item_text: null", None), ("drop_users: [1, null, no, ' x']", ["1", None, "no", " x"]), ("drop_users: 5", ["5"]),
    ("interactions: [a.csv, 'b,c.csv']", ["a.csv", "b,c.csv"]), ("interactions: 'a,b.csv'", "a,b.csv"),
    ("group_size: 3", [3]), ("knowledge: kg.csv", "kg.csv"), ("min_value: 1e-1", 0.1)])
def test_a_value_is_read_as_the_setting_takes_it_and_texts_are_literal(line, value):
    key = line.partition(":")[0]
    others = [other for other in ("name: n", "interactions: x.csv") if not other.startswith(f"{key}:")]
    file = write("s.yaml", "\n  ".join(["dataset:", *others, line]))
    plain = yaml.safe_load(describe("prepare", [file]).replace("\\${", "${"))["dataset"][key]
    assert plain == ({"triples": value} | {"entities": None, "link_on": [], "relations": {}} if key == "knowledge"
                     else value)


@pytest.mark.parametrize(("content", "expected"), [
    ("datset: {name: x}", "s.yaml, line 1: datset: no command has such a setting (did you mean 'dataset'?)"),
    ("seed: 1\ndataset:\n  interaction: x",
     "s.yaml, line 3: dataset.interaction: unknown key (did you mean 'interactions'?)"),
    ("split: {kind: temporal,\n  seed: 3}", "s.yaml, line 2: split.seed: unknown key"),
    ("finetune: {sed: 3}", "s.yaml, line 1: sed: `llmrec finetune` has no such setting (did you mean 'seed'?)"),
    ("finetune: 3", "s.yaml, line 1: finetune: expected settings of `llmrec finetune`"),
    ("k: 10", "s.yaml, line 1: k: differs between `llmrec evaluate` and `llmrec recommend` and"),
    ("hydra: {run: x}", "s.yaml, line 1: hydra: a settings file is data"),
    ("defaults: [x]", "s.yaml, line 1: defaults: a settings file is data"),
    ("_target_: os.system", "s.yaml, line 1: _target_: a settings file is data"),
    ("head: {_target_: os.system}", "s.yaml, line 1: head._target_: unknown key"),
    ("plugins: [x]", "s.yaml, line 1: plugins: can only be given on the command line"),
    ("experiment: x", "s.yaml, line 1: experiment: can only be given on the command line"),
    ("resume: x", "s.yaml, line 1: resume: can only be given on the command line"),
    ("settings: x", "s.yaml, line 1: settings: can only be given on the command line"),
    ("head: [ease]", "s.yaml, line 1: head: expected the name of an option, head: <name>"),
    ("head:\n", "s.yaml, line 1: head: expected the name of an option"),
    ("- a", "s.yaml, line 1: expected settings, <key>: <value>"), ("", "s.yaml: is empty"),
    ("seed: [1", "s.yaml, line 2: is not YAML"), ("seed: 1\nseed: 2", "s.yaml, line 2: seed: occurs twice"),
    ("seed: !!python/object:x 1", "s.yaml, line 1: has the tag")])
@pytest.mark.parametrize("command", ["finetune", "recommend"])
def test_a_key_of_no_command_is_refused_by_every_command_with_its_line(command, content, expected):
    typed = [write("s.yaml", content)] + ["queries=all"] * (command == "recommend")
    assert problems(command, *typed)[0].startswith(expected)


@pytest.mark.parametrize(("content", "expected"), [
    ("seed: x", "s.yaml, line 1: seed=x: expected a whole number"),
    ("seed: ${optim.epochs}", "s.yaml, line 1: seed="),
    ("seed: '1'", "s.yaml, line 1: seed=1: expected a whole number, without quotes"),
    ("\nhead: eaze", "s.yaml, line 2: head=eaze: no such head (did you mean 'ease'?)"),
    ("head:\n  kind: ease\n  l2: -1", "s.yaml, line 3: head.l2=-1.0: must be above 0"),
    ("head: {kind: fusion, members: {\n ease: {\n l3: 4}}}",
     "s.yaml, line 3: head.members.ease.l3: unknown key (did you mean 'l2'?)"),
    ("monitor: ndgc@10", "s.yaml, line 1: monitor=ndgc@10: write <metric>@<k>")])
def test_a_value_is_checked_as_on_the_command_line_and_reported_with_its_line(content, expected):
    assert problems("finetune", write("s.yaml", content))[0].startswith(expected)
    assert compose("evaluate", [write("s.yaml", content)]) if "seed" not in content else True


def test_spark_settings_of_a_file_can_not_name_code_or_other_machines():
    for line in ("master: spark://there:7077", "conf: {spark.jars: x.jar}", "conf: {spark: {jars: x.jar}}"):
        file = write("s.yaml", f"engine: {{kind: spark, {line}}}\n")
        assert "give it on the command line" in problems("prepare", file, "dataset.interactions=x.csv")[0]
    file = write("s.yaml", "engine: {kind: spark, conf: {spark.driver.memory: 8g}}\n")
    assert compose("prepare", [file, "dataset.interactions=x"]).engine.conf == {"spark.driver.memory": "8g"}


@pytest.mark.parametrize(("typed", "expected"), [
    ("settings=nowhere.yaml", "settings=nowhere.yaml: cannot be read (No such file or directory)"),
    ("settings=a.yaml,b.yaml", "several files are a list, settings=[a.yaml,b.yaml]"),
    ("settings=folder", "folder: is not a regular file"), ("settings=", "settings=: names no file"),
    ("settings.x=1", "settings.x=1: names files on the command line"),
    ("+settings=s.yaml", "names files on the command line")])
def test_a_file_that_cannot_be_read_is_refused(typed, expected):
    Path("folder").mkdir()
    assert expected in problems("finetune", typed)[0]


def test_an_option_of_a_shared_folder_can_be_named_in_a_settings_file():
    Path("c/head").mkdir(parents=True)
    Path("c/head/strong.yaml").write_text("defaults: [ease, _self_]\nl2: 500\n")
    assert compose("finetune", [write("s.yaml", "head: {kind: strong, weight: log}")], "c").head.l2 == 500
    assert compose("finetune", [write("s.yaml", "head: {kind: strong, weight: log}")], "c").head.weight == "log"


def test_the_run_keeps_the_composed_config_and_the_hash_of_the_file(llmrec, tiny_prepared):
    file = write("s.yaml", f"head: popularity\nprepared: {tiny_prepared}\nrun_dir: run\n")
    done = llmrec("finetune", file)
    assert done.code == 0, done.err
    digest = hashlib.sha256(Path("s.yaml").read_bytes()).hexdigest()
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert (config["settings"], config["head"]["kind"]) == ({"s.yaml": digest}, "popularity")
    started = json.loads(Path("run/log.jsonl").read_text().splitlines()[0])
    assert started["settings"] == {"s.yaml": digest}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_with_nothing_for_a_command_changes_nothing(command):
    needed = {"prepare": ["dataset=movielens_100k"], "recommend": ["queries=all"]}.get(command, [])
    file = write("s.yaml", "prepare: {force: false}\nfinetune: {refit: train_valid}\n")
    changed = compose(command, [*needed, file])
    changed.settings = {}
    assert changed == compose(command, needed)


keys = st.sampled_from(
    ["dataset", "head", "split", "kind", "members", "ease", "l2", "features", "text", "search", "optim", "epochs", "k",
     "query", "history", "finetune", "recommend", "head.l2", "dataset.columns", "columns", "settings", "engine", "conf",
     "encoder", "parts", "seed", "<<", "hydra", "a.b", "'x", "="]) | st.text(max_size=4)
values = st.sampled_from(["ease", "fusion", "files", "${seed}", "${oc.env:HOME}", "null", "{a: 1}", "[", ["a", 1]]) \
    | st.none() | st.booleans() | st.integers(-10**25, 10**25) | st.floats() | st.text(max_size=6)
trees = st.recursive(values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
                     max_leaves=12)


@settings(max_examples=num_examples(1000) // 4, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(keys, trees, max_size=4).map(lambda tree: yaml.safe_dump(tree, allow_unicode=True)),
       st.sampled_from(list(COMMANDS)))
def test_any_content_ends_in_settings_or_in_problems_with_the_file(content, command):
    file = write("any.yaml", content)
    found = []
    try:
        assert compose(command, [file]).settings.keys() == {"any.yaml"}
    except ConfigError as error:
        found = error.problems
    assert all(problem and len(problem) < 2000 for problem in found)


def test_training_reads_the_data_that_the_file_names_and_not_the_newest():
    file = write("shop.yaml", "dataset: {name: shop, interactions: x.csv}\n")
    assert compose("finetune", [file]).prepared == compose("pretrain", [file]).prepared == "data/prepared/shop"
    assert compose("finetune", [file, "prepared=elsewhere"]).prepared == "elsewhere"
    assert compose("evaluate", [file]).prepared == ""
    other = write("other.yaml", "dataset: {name: shop, interactions: x.csv}\nprepare: {output: big/shop}\n")
    assert compose("finetune", [other]).prepared == "big/shop"
    assert compose("finetune", [write("mine.yaml", "prepared: mine\ndataset.name: shop\n")]).prepared == "mine"


def test_a_mistake_on_the_command_line_is_not_placed_in_the_file():
    file = write("shop.yaml", "dataset:\n  name: shop\n  interactions: x.csv\n")
    assert problems("prepare", file, "dataset.colums.value=x") == [
        "dataset.colums: unknown key (did you mean 'columns'?)"]


def test_a_file_may_name_the_encoder_of_its_texts_beside_a_head_without_texts(capsys):
    file = write("shop.yaml", "encoder: lsa\nhead: ease\n")
    assert compose("finetune", [file]).head.kind == "ease"
    assert capsys.readouterr().err == "note: shop.yaml, line 1: no effect with head=ease: encoder=lsa\n"
