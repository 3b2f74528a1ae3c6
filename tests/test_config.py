"""Composing: a command line becomes checked settings, or all its problems are reported at once."""

import json
from dataclasses import dataclass

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec_cli.config import Run, compose, compose_runs
from llmrec_cli.errors import ConfigError
from llmrec_cli.overrides import to_changes
from llmrec_cli.references import resolve_references
from llmrec_cli.settings.base import Builder, implementation_of, to_plain
from llmrec_cli.settings.encoder import ENCODERS, EncoderSettings, HuggingFaceSettings, MiniLMSettings, PartSettings
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.head import EaseSettings, FusionSettings, TwoTowerSettings
from llmrec_cli.settings.peft import FrozenSettings
from llmrec_cli.settings.stages import COMMANDS
from tests.some_slow import some_slow


def problems(command, *typed, config_dir=None):
    with pytest.raises(ConfigError) as error:
        compose(command, typed, config_dir)
    return error.value.problems


def test_defaults_compose_to_the_dataclasses():
    cfg = compose("finetune", [])
    assert isinstance(cfg.head, FusionSettings)
    assert isinstance(cfg.encoder, MiniLMSettings)
    assert (cfg.monitor, cfg.refit, cfg.seed, cfg.device) == ("ndcg@10", "train_valid", 1, "auto")


# --- values are taken literally

TRAPS = ["slow science fiction, about memory", "{title} ({year}). {genres}", "a=b", "[1,2]", "{}", "null", "true",
         "1e3", "it's", '"quoted"', "a\\", "a\\\n", "a\\'b", "${x}", "${oc.env:HOME}", "\\${x}", "#no comment",
         " spaced ", "", "太空 🚀", "a\nb", "~x", "+1", "@", ":", "C:\\new\\table", "x?[ab]*.csv"]


@pytest.mark.parametrize("text", TRAPS)
def test_a_text_arrives_as_it_was_typed(text):
    assert compose("prepare", ["dataset.interactions=x.csv", f"dataset.item_text={text}"]).dataset.item_text == text


@pytest.mark.parametrize("key", ["user_id", "group_id", "query_id", "text"])
@pytest.mark.parametrize("text", [*TRAPS, "007", "NA", "None", "nan", "0x1f", "1_000"])
def test_a_query_id_is_the_typed_text_also_null(key, text):
    query = compose("recommend", [f"query.{key}={text}", "query.history=[1]"] if key == "query_id"
                    else [f"query.{key}={text}"]).query
    assert getattr(query, key) == text


@pytest.mark.parametrize(("typed", "ids"), [
    ("[null,007]", ["null", "007"]), ("[true, 1e5 ,~]", ["true", "1e5", "~"]), ("[{a},b]", ["{a}", "b"]),
    ('["a,b",c]', ["a,b", "c"]), ('[" a ",b c]', [" a ", "b c"]), ('["say ""x""",it\'s]', ['say "x"', "it's"]),
    ('[a"b,${x},c\\]', ['a"b', "${x}", "c\\"]), ("[]", []), ("null", ["null"]), ("x", ["x"])])
@pytest.mark.parametrize("key", ["history", "members"])
def test_ids_in_a_list_are_the_typed_text_also_null(key, typed, ids):
    assert getattr(compose("recommend", [f"query.{key}={typed}", "query.text=x"]).query, key) == ids


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.sampled_from("ab 1\n\t太é\\\\'\"$${}{}[](),=:#~"), min_size=1, max_size=8), max_size=4))
def test_any_ids_arrive_from_a_list_of_quoted_ones(ids):
    typed = ",".join('"' + key.replace('"', '""') + '"' for key in ids)
    ((change,),), messages = to_changes("recommend", [f"query.history=[{typed}]"])
    assert messages == []
    assert resolve_references({"ids": change.value}) == {"ids": ids}


def test_null_means_none_for_settings_other_than_ids():
    assert compose("recommend", ["queries=all", "history=null"]).history is None


def test_a_setting_may_be_typed_with_the_name_of_its_command_before_it():
    assert compose("recommend", ["queries=all", "recommend.delisted=keep"]).delisted == "keep"
    with pytest.raises(ConfigError, match="`llmrec recommend` has no such setting"):
        compose("recommend", ["queries=all", "evaluate.k=3"])
    with pytest.raises(ConfigError, match=r"delisted=no: must be one of|delisted=no: choose one of"):
        compose("recommend", ["queries=all", "recommend.delisted=no"])


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("ab 1\n\t太é\\\\'\"$${}{}[](),=:#~"), max_size=12))
def test_any_text_arrives_as_it_was_typed(text):
    ((change,),), messages = to_changes("prepare", [f"dataset.item_text={text}"])
    assert messages == []
    assert resolve_references({"text": change.value}) == {"text": text}


def test_a_text_is_one_file_and_a_list_is_several_files():
    def files(value):
        return compose("prepare", [f"dataset.interactions={value}"]).dataset.interactions

    assert files("a, b.csv") == "a, b.csv"
    assert files("[a.csv, 'b c.csv',\"d,e.csv\"]") == ["a.csv", "'b c.csv'", "d,e.csv"]


def test_histories_are_lists_of_text_even_when_they_look_like_numbers():
    def history(value):
        return compose("recommend", [f"query.history={value}"]).query.history

    assert history("[007,7,x y]") == ["007", "7", "x y"]
    assert history("7") == ["7"]


def test_ids_that_look_like_numbers_stay_text():
    assert compose("recommend", ["query.user_id=007"]).query.user_id == "007"


def test_column_maps_take_one_name_at_a_time_or_a_mapping():
    one = compose("prepare", ["dataset.interactions=x", "dataset.columns.user_id=uid", "dataset.columns.item_id=sku"])
    whole = compose("prepare", ["dataset.interactions=x", "dataset.columns={user_id: uid, item_id: sku}"])
    assert one.dataset.columns == whole.dataset.columns == {"user_id": "uid", "item_id": "sku"}


NAMES = ["类目", "商品 编号", "カテゴリ", "분류 이름", "الفئة", "Категория", "Größe", "Straße (cm)", "Product Name",
         "user.id", "items[].sku", "a=b", "it's", '5"-screen', '"quoted"', "'single'", "x:y", "x: y", "a, b",
         "${seed}", "C:\\x", "#1", "007", "null", "kind", "-", "a..b"]


@pytest.mark.parametrize("several", some_slow([False, True]), ids=["one run", "multirun"])
@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_column_or_an_event_can_be_a_key_and_a_value(name, several):
    in_key = "'" + name.replace("'", "''") + "'"
    in_mapping = json.dumps(name, ensure_ascii=False)
    typed = ["dataset.interactions=x.csv", f"dataset.attributes.{in_key}=text", f"dataset.event_weights.{in_key}=2",
             f"dataset.user_attributes={{{in_mapping}: list, other: number}}", f"dataset.columns.item_id={name}",
             f"dataset.user_columns={{user_id: {in_mapping}}}", "dataset.users=u.csv"]
    if several:  # Commas separate values, so a value may be in quotes.
        typed[4] = f'dataset.columns.item_id="{name}"'
    (run,) = compose_runs("prepare", typed) if several else [Run(compose("prepare", typed), "")]
    dataset = run.settings.dataset
    assert (dataset.attributes, dataset.event_weights) == ({name: "text"}, {name: 2.0})
    assert dataset.user_attributes == {name: "list", "other": "number"}
    assert dataset.user_columns == {"user_id": name}
    assert dataset.columns["item_id"] == name


@pytest.mark.parametrize(("typed", "expected"), [
    ("{浏览: 1, 购买: 5}", {"浏览": 1, "购买": 5}), ("{浏览:1,购买:5}", {"浏览": 1, "购买": 5}), ("{}", {}),
    ("{add to cart: 2, page.view: -0.5}", {"add to cart": 2, "page.view": -0.5}), ("{x:y: 1e-1}", {"x:y": 0.1}),
    ("{'it''s': 1, \"\\u6d4f\": 2}", {"it's": 1, "浏": 2})])
def test_event_weights_are_a_mapping_of_any_names(typed, expected):
    found = compose("prepare", ["dataset.interactions=x.csv", f"dataset.event_weights={typed}"]).dataset.event_weights
    assert found == expected


@pytest.mark.parametrize(("typed", "expected"), [
    ("{浏览：1，购买：5}", "write the ASCII characters ':' and ',' instead of '：' and '，'"),
    ("{a: 1, a: 2}", "names 'a' twice; remove one of them"), ("{a: x}", "event_weights.a=x: expected a number")])
def test_a_mapping_that_cannot_be_read_is_refused_with_the_remedy(typed, expected):
    assert expected in problems("prepare", "dataset.interactions=x.csv", f"dataset.event_weights={typed}")[0]


def test_columns_whose_names_begin_alike_are_both_kept():
    typed = ["dataset.interactions=x.csv", "dataset.attributes.user=category", "dataset.attributes.user.id=number"]
    assert compose("prepare", typed).dataset.attributes == {"user": "category", "user.id": "number"}
    typed += ["~dataset.attributes.user.id"]
    assert compose("prepare", typed).dataset.attributes == {"user": "category"}


def test_a_double_quoted_name_keeps_its_quotes_unless_it_needs_them():
    typed = ["dataset.interactions=x.csv", 'dataset.attributes."a"=list', 'dataset.attributes."b c"=list',
             'dataset.attributes."d.e"=list', "dataset.attributes.'\"f g\"'=list"]
    assert list(compose("prepare", typed).dataset.attributes) == ['"a"', "b c", "d.e", '"f g"']


def test_a_single_number_is_a_list_of_one():
    assert compose("evaluate", ["k=10"]).k == [10]
    assert compose("evaluate", ["cold_users=true", "cold_users.first=3"]).cold_users.first == [3]
    assert [run.settings.k for run in compose_runs("evaluate", ["k=5,[10,20]"])] == [[5], [10, 20]]
    assert problems("evaluate", "k=true") == ["k=True: expected whole numbers, 10 or [5,10]"]


@pytest.mark.parametrize(("command", "typed", "remedy"), [
    ("evaluate", "models=runs/a,runs/b", "write models=[runs/a,runs/b]"),
    ("recommend", "query.history=50,172", "write query.history=[50,172]")])
def test_several_texts_without_brackets_are_refused_not_read_as_one(command, typed, remedy):
    assert remedy in problems(command, typed)[0]


def test_a_setting_may_have_the_name_of_another_commands_config_group():
    assert compose("evaluate", ["split=valid"]).split == "valid"


# --- all problems are reported, with the nearest name

def test_all_mistakes_are_reported_together():
    messages = problems("finetune", "sed=3", "+foo=1", "optim.learning_rate=nan", "optim.batch_size=0",
                        "optim.epochs=x", "head.members.ease.l3=5", "split=random", "device=gpu")
    assert messages == [
        "sed: `llmrec finetune` has no such setting (did you mean 'seed'?)",
        "foo: `llmrec finetune` has no such setting",
        "split: `llmrec finetune` has no such setting; it is a setting of `llmrec prepare` and `llmrec evaluate`",
        "head.members.ease.l3: unknown key (did you mean 'l2'?)",
        "optim.learning_rate=nan: must be a finite number",
        "optim.epochs=x: expected a whole number",
        "optim.batch_size=0: must be at least 1",
        "device=gpu: choose one of auto, cpu, cuda, cuda:N"]


def test_a_value_that_the_head_does_not_use_is_named(capsys):
    compose("finetune", ["head=ease", "optim.epochs=3", "loss.temperature=0.3"])
    assert capsys.readouterr().err == "note: command line: no effect with head=ease: optim.epochs=3, " \
                                      "loss.temperature=0.3\n"
    compose("finetune", ["head=mf", "optim.epochs=3"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("typed", ["optim.lerning_rate=1", "+optim.lerning_rate=1", "++optim.lerning_rate=1"])
def test_an_unknown_key_is_refused_with_the_nearest_name_whatever_stands_before_it(typed):
    assert problems("finetune", typed) == ["optim.lerning_rate: unknown key (did you mean 'learning_rate'?)"]


@pytest.mark.parametrize(("command", "typed", "expected"), [
    ("finetune", "head=eas", "head=eas: no such head (did you mean 'ease'?); choose one of"),
    ("prepare", "split=leave_last", "split=leave_last: no such split (did you mean 'leave_last_out'?)"),
    ("finetune", "experiment=movielens_100",
     "experiment=movielens_100: no such experiment (did you mean 'movielens_100k'?)"),
    ("finetune", "monitor=ndgc@10", "monitor=ndgc@10: write <metric>@<k> with one of recall,"),
    ("finetune", "monitor=ndcg@²", "monitor=ndcg@²: write <metric>@<k>"),
    ("finetune", "monitor=ndcg", "monitor=ndcg: write <metric>@<k>"),
    ("finetune", "device=5", "device=5: choose one of auto, cpu, cuda, cuda:N"),
    ("finetune", "device=cuda:²", "device=cuda:²: choose one of"),
    ("finetune", "seed=-1", "seed=-1: must be at least 0"),
    ("finetune", "seed=99999999999999999999", "seed=99999999999999999999: must be at most"),
    ("finetune", "seed=1.5", "seed=1.5: expected a whole number"),
    ("finetune", "seed=true", "seed=True: expected a whole number"),
    ("finetune", "refit=most", "refit=most: choose one of none, train_valid, all"),
    ("finetune", "bogus", "bogus: expected a setting, key=value"),
    ("finetune", "", ": expected a setting, key=value"),
    ("finetune", "seed=[1", "seed=[1: cannot be read as a value"),
    ("finetune", "seed=1,2", "seed=1,2: several values; add --multirun"),
    ("finetune", "optim=3", "optim=3: no such optim; choose one of adamw"),
    ("finetune", "optim.kind=x", "optim.kind=x: choose an option with optim=<name>"),
    ("finetune", "head.members.ease.kind=x", "head.members.ease.kind=x: choose an option with head.members.ease.head="),
    ("finetune", "~head", "head: missing; set head=<value>"),
    ("finetune", "encoder=hf", "encoder.path: missing; set encoder.path=<folder of a Hugging Face model>"),
    ("evaluate", "k=[]", "k=[]: list lengths must be at least 1"),
    ("evaluate", "k=[5,0]", "k=[5, 0]: list lengths must be at least 1"),
    ("evaluate", "k=five", "k=five: expected whole numbers, 10 or [5,10]"),
    ("evaluate", "k=[a,b]", "k[0]=a: expected a whole number"),
    ("evaluate", "split=train", "split=train: choose one of test, valid"),
    ("evaluate", "resume=x", "resume: `llmrec evaluate` has no such setting"),
    ("prepare", "dataset.columns.userid=u", "dataset.columns.userid: no such column (did you mean 'user_id'?)"),
    ("prepare", "dataset.name=../up", "dataset.name=../up: use letters, digits"),
    ("recommend", "k=0", "k=0: must be at least 1"),
    ("recommend", "output=x.txt queries=all", "output=x.txt: the name must end in .parquet, .jsonl or .csv"),
    ("recommend", "query=x", "query=x: expected a mapping of settings"),
])
def test_a_mistake_is_reported_in_one_sentence_with_the_remedy(command, typed, expected):
    assert problems(command, *(typed.split() or [""]))[0].startswith(expected)


def test_an_unknown_option_is_reported_without_problems_of_its_settings():
    (problem,) = problems("prepare", "dataset=movielens_100")
    assert problem.startswith("dataset=movielens_100: no such dataset (did you mean 'movielens_100k'?); choose one of ")


@pytest.mark.parametrize("typed", ["_target_=os.system", "+_target_=os.system", "head._target_=os.system",
                                   "head.members.ease._target_=os.system", "+head._partial_=true"])
def test_nothing_in_a_config_is_instantiated(typed):
    (problem,) = problems("finetune", typed)
    assert "unknown key" in problem or "no such setting" in problem


def test_a_group_without_effect_is_refused_when_it_was_chosen_on_purpose():
    assert problems("finetune", "head=ease", "peft=lora") == [
        "peft=lora: has no effect, since head=ease does not use it; leave it out, set "
        "head.features.tuned=true with head.features.text above 0, or choose another head"]
    assert compose("finetune", ["head=ease", "peft=none"]).head.kind == "ease"
    assert compose("finetune", ["head=ease", "head.features.text=6", "encoder=minilm"]).head.features.text == 6


def test_peft_is_frozen_unless_tuned_and_other_peft_is_refused_without_training():
    for typed in (["head=item_similarity"], ["head=content"], ["head=ease", "head.features.text=6"]):
        assert compose("finetune", [*typed, "peft=frozen"]).peft.kind == "frozen"
        assert problems("finetune", *typed, "peft=lora")[0].startswith("peft=lora: has no effect, since head=")
        assert compose("finetune", [*typed, "head.features.tuned=true", "peft=lora"]).peft.kind == "lora"
        # The frozen encoder is the baseline of --multirun peft=frozen,lora,...
        assert compose("finetune", [*typed, "head.features.tuned=true", "peft=frozen"]).peft.kind == "frozen"
    assert problems("finetune", "head=ease", "peft=frozen")[0].startswith("peft=frozen: has no effect")


def test_an_encoder_without_an_implementation_is_named_as_the_mistake_it_is(monkeypatch):
    @dataclass
    class MiniLM6(EncoderSettings):
        kind: str = "minilm6"

    monkeypatch.setitem(ENCODERS, "minilm6", MiniLM6)
    builder = Builder({"encoder": ENCODERS})
    builder.settings(PartSettings, {"encoder": {"kind": "minilm6"}}, "part")
    others = ", ".join(name for name in ENCODERS if name != "minilm6")
    assert builder.problems[0] == (
        f"part.encoder.kind=minilm6: has settings but no implementation; name one in MiniLM6.implementation, or choose "
        f"one of {others} (did you mean 'minilm'?)")


@pytest.mark.parametrize(("group", "name"), [(group, name) for group, table in CONFIG_GROUPS.items() for name in table])
def test_every_option_names_an_implementation_of_ours_that_can_be_called(group, name):
    settings = CONFIG_GROUPS[group][name]
    assert settings.implementation.startswith("llmrec_cli.")
    assert callable(implementation_of(settings))


@pytest.mark.parametrize("reference", ["${oc.env:HOME}", "${ oc.env:HOME}", "${oc.env:HOME,x}",
                                       "${oc.${optim.word}:HOME}"])
def test_a_config_cannot_read_the_environment(tmp_path, reference):
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "mine.yaml").write_text(
        f"defaults: [/schema/encoder/hf@_here_, _self_]\npath: '{reference}'\n")
    (problem,) = problems("finetune", "encoder=mine", config_dir=str(tmp_path))
    assert problem.startswith(f"{tmp_path}/encoder/mine.yaml, line 2: ${{")
    assert "a config cannot read the environment" in problem
    assert ("$HOME" in problem) == ("optim" not in reference)


def test_options_in_a_users_config_folder_can_be_chosen(tmp_path):
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "strong.yaml").write_text("defaults: [/schema/head/ease@_here_, _self_]\nl2: 500\n")
    assert compose("finetune", ["head=strong"], str(tmp_path)).head.l2 == 500
    (tmp_path / "head" / "strong.yaml").write_text("defaults: [/schema/head/ease@_here_, _self_]\nl3: 500\n")
    assert problems("finetune", "head=strong", config_dir=str(tmp_path)) == [
        "head.l3: unknown key (did you mean 'l2'?)"]


# --- experiments

def test_each_command_reads_its_part_of_an_experiment_and_typed_settings_win(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(yaml.safe_dump({
        "prepare": ["split=temporal", "dataset.interactions=a,b.csv"],
        "finetune": ["head=ease", "head.l2=7", "seed=3"]}))
    cfg = compose("prepare", ["experiment=mine"], str(tmp_path))
    assert (cfg.split.kind, cfg.dataset.interactions) == ("temporal", "a,b.csv")
    cfg = compose("finetune", ["seed=5", "experiment=mine"], str(tmp_path))
    assert (cfg.head.l2, cfg.seed) == (7, 5)
    assert compose("evaluate", ["experiment=mine"], str(tmp_path)).split == "test"


def with_experiment(folder, *lines):
    """Write experiment=mine of these lines for finetune, and return its shared folder."""
    (folder / "experiment").mkdir(exist_ok=True)
    (folder / "experiment" / "mine.yaml").write_text(yaml.safe_dump({"finetune": list(lines)}))
    return str(folder)


def test_values_of_an_experiment_that_a_typed_head_makes_useless_are_named_in_one_note(tmp_path, capsys):
    folder = with_experiment(tmp_path, "seed=3", "head=two_tower", "~head.search", "+head.encoded_items=9", "peft=lora",
                             "adversarial=fgm")
    note = "note: experiment=mine: no effect with head={}: +head.encoded_items=9, peft=lora, adversarial=fgm\n"
    cfg = compose("finetune", ["experiment=mine", "head=ease"], folder)
    assert (cfg.head.kind, cfg.seed, capsys.readouterr().err) == ("ease", 3, note.format("ease"))
    # An adversary of texts does not fit a head without texts, which has adversaries of its own.
    cfg = compose("finetune", ["experiment=mine", "head=mf"], folder)
    assert (cfg.head.kind, cfg.adversarial.kind, capsys.readouterr().err) == ("mf", "none", note.format("mf"))
    compose_runs("finetune", ["experiment=mine", "head=ease,mf", "seed=1,2"], folder)
    assert capsys.readouterr().err == note.format("ease") + note.format("mf")
    assert compose("finetune", ["experiment=mine", "seed=5"], folder).adversarial.kind == "fgm"
    assert capsys.readouterr().err == ""


def test_a_loss_of_an_experiment_that_cannot_train_the_typed_head_is_named(tmp_path, capsys):
    folder = with_experiment(tmp_path, "head=item_similarity", "head.features.tuned=true", "peft=embedding_adapter",
                             "loss=distillation")
    assert compose("finetune", ["experiment=mine", "head=mf"], folder).loss.kind != "distillation"
    assert capsys.readouterr().err == ("note: experiment=mine: no effect with head=mf: head.features.tuned=true, "
                                       "peft=embedding_adapter, loss=distillation\n")


@pytest.mark.parametrize(("typed", "problem"), [
    (["head=ease", "peft=lora"], "peft=lora: has no effect, since head=ease does not use it"),
    (["head=ease", "peft.rank=4"], "peft=lora: has no effect, since head=ease does not use it"),
    (["head=mf", "adversarial.epsilon=0.5"], "adversarial=fgm: has no effect on head=mf; choose one of none, apr"),
    (["head=mf", "adversarial=pgd"], "adversarial=pgd: has no effect on head=mf; choose one of none, apr")])
def test_a_typed_value_without_effect_is_refused_beside_an_experiment_too(tmp_path, typed, problem):
    folder = with_experiment(tmp_path, "head=two_tower", "peft=lora", "adversarial=fgm")
    (found,) = problems("finetune", "experiment=mine", *typed, config_dir=folder)
    assert problem in found


def test_a_value_that_has_no_effect_with_the_experiments_own_head_is_refused_with_its_name(tmp_path):
    folder = with_experiment(tmp_path, "head=ease", "peft=lora")
    (found,) = problems("finetune", "experiment=mine", config_dir=folder)
    assert found.startswith("experiment=mine: peft=lora: has no effect, since head=ease")


@pytest.mark.parametrize("content", [{"finetun": ["seed=1"]}, {"finetune": {"seed": 1}}, {"finetune": [1]}])
def test_an_invalid_experiment_is_refused_with_its_file(tmp_path, content):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(yaml.safe_dump(content))
    (problem,) = problems("finetune", "experiment=mine", config_dir=str(tmp_path))
    assert "mine.yaml" in problem
    assert f"expected a command ({', '.join(COMMANDS)})" in problem


# --- members of a fusion

TOWER = "head.members.tower.head=two_tower"


def members(*typed):
    return compose("finetune", typed).head.members


def test_members_inherit_unset_settings_from_the_top_level():
    tower = members(TOWER, "peft=frozen", "encoder=hf", "encoder.path=there", "optim.epochs=7", "loss=bce")["tower"]
    assert isinstance(tower.head, TwoTowerSettings)
    assert isinstance(tower.peft, FrozenSettings)
    assert isinstance(tower.encoder, HuggingFaceSettings)
    assert (tower.encoder.path, tower.optim.epochs, tower.loss.kind) == ("there", 7, "bce")


def test_a_member_sets_its_own():
    configs = members(TOWER, "head.members.tower.peft=lora", "head.members.tower.optim.epochs=3",
                    "optim.batch_size=9", "head.members.tower.id_scale=0", "head.members.ease.features.text=8",
                    "head.members.tower.encoder=hf", "head.members.tower.encoder.path=a, b")
    tower = configs["tower"]
    assert (tower.peft.kind, tower.optim.epochs, tower.optim.batch_size) == ("lora", 3, 9)
    assert configs["tower"].head.id_scale == 0
    assert (configs["tower"].encoder.kind, configs["tower"].encoder.path) == ("hf", "a, b")
    assert (configs["ease"].head.features.text, configs["ease"].encoder.kind) == (8, "minilm")


def test_members_can_be_added_and_removed():
    configs = members("head.members.item_knn=null", "~head.members.neighbours", "head.members.near.head=item_knn",
                    "head.members.near.k=3")
    assert list(configs) == ["ease", "plain_ease", "item_similarity", "ials", "near"]
    assert configs["near"].head.k == 3


def test_all_members_can_be_replaced():
    assert list(members("~head.members", "head.members.near.head=item_knn")) == ["near"]


def test_weights_are_given_one_by_one_or_as_a_mapping():
    two = ["~head.members", "head.members={ease: {head: ease}, near: {head: item_knn}}"]
    one = compose("finetune", [*two, "head.weights.ease=1", "head.weights.near=0.5"])
    whole = compose("finetune", [*two, "head.weights={ease: 1, near: 0.5}"])
    assert one.head.weights == whole.head.weights == {"ease": 1.0, "near": 0.5}
    assert problems("finetune", *two, "head.weights.ease=1")[0] == \
        "head.weights.near: weights and members must have the same names"


@pytest.mark.parametrize(("typed", "expected"), [
    ("head.members.ease.head=esae", "head.members.ease.head=esae: no such head (did you mean 'ease'?)"),
    ("head.members.x.l2=5", "head.members.x.head: missing; set head.members.x.head=<clusters|content|"),
    ("head.members=5", "head.members=5: expected a mapping"),
    ("head.members.x=5", "head.members.x.head: missing"),
    ("head.members.ease.encoder=5", "head.members.ease.encoder=5: no such encoder"),
    ("head.members.t2={head: two_tower, encoder: {kind: ../../x}}", "head.members.t2.encoder=../../x: no such encoder"),
    ("head.members.t2={head: two_tower, encoder: 5}", "head.members.t2.encoder=5: expected one option of the group"),
    ("head.members.t2={head: ../../x}", "head.members.t2.head=../../x: no such head"),
    ("head.members.t2={head: two_tower, optim: {epoch: 3}}",
     "head.members.t2.optim.epoch: unknown key (did you mean 'epochs'?)"),
    ("head.members.ease.l2=-1", "head.members.ease.l2=-1.0: must be above 0"),
    ("head.members.x.head=fusion", "head.members.x.head=fusion: a fusion cannot be a member of a fusion"),
])
def test_mistakes_inside_members_are_reported_with_the_members_key(typed, expected):
    messages = problems("finetune", typed)
    assert messages[0].startswith(expected)


def test_a_setting_of_another_option_is_named_with_its_options():
    assert problems("finetune", "head=ease", "head.max_length=3") == [
        "head.max_length: unknown key; it is a setting of head=sequential"]
    assert "head.k: unknown key; it is a setting of head=item_knn, head=user_knn" in problems(
        "finetune", "head=ease", "head.k=3")[0]


def test_a_top_level_mistake_is_reported_once_not_per_member():
    assert problems("finetune", "optim.epochs=0") == ["optim.epochs=0: must be at least 1"]


@pytest.mark.parametrize("name", ["../up", "a/b", "a b", "é"])
def test_a_members_name_cannot_become_a_path(name):
    config = {"head": {"kind": "popularity"}}
    builder = Builder(CONFIG_GROUPS)
    builder.settings(CONFIG_GROUPS["head"]["fusion"], {"kind": "fusion", "members": {name: config}})
    assert any("in the name of a member" in problem for problem in builder.problems)


# --- composed settings are saved as data and read back unchanged

@pytest.mark.parametrize("typed", [[], ["head=two_tower", "loss=bce", "peft=none", "adversarial=fgm"],
                                   ["head=ease", "head.features.text=6", "optim.learning_rate=0.00001"]])
def test_saved_settings_read_back_equal(typed):
    cfg = compose("finetune", typed)
    plain = yaml.safe_load(yaml.safe_dump(to_plain(cfg), allow_unicode=True))
    builder = Builder(CONFIG_GROUPS)
    assert builder.settings(COMMANDS["finetune"], plain) == cfg
    assert builder.problems == []


def test_a_resumed_run_takes_its_settings_from_the_run_alone(tmp_path):
    cfg = compose("finetune", ["head=ease", "seed=3"])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(to_plain(cfg)))
    resumed = compose("finetune", [f"resume={tmp_path}", "device=cpu"])
    assert (resumed.seed, resumed.device, resumed.resume) == (3, "cpu", str(tmp_path))
    assert isinstance(resumed.head, EaseSettings)
    (problem,) = problems("finetune", f"resume={tmp_path}", "seed=4", "head=popularity")
    assert problem.startswith("seed=4 head=popularity: a resumed run takes its settings from the run")


@pytest.mark.parametrize("content", [None, "", "- 1", "head: [", "\x00"])
def test_a_run_that_cannot_be_resumed_is_refused_by_its_file(tmp_path, content):
    if content is not None:
        (tmp_path / "config.yaml").write_text(content)
    (problem,) = problems("finetune", f"resume={tmp_path}")
    assert str(tmp_path / "config.yaml") in problem
    assert "give the directory of an interrupted run" in problem


def test_an_edited_config_is_refused_by_file_and_key(tmp_path):
    plain = to_plain(compose("finetune", ["head=ease"])) | {"_target_": "os.system"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    assert problems("finetune", f"resume={tmp_path}") == [f"{tmp_path / 'config.yaml'}: _target_: unknown key"]


def test_a_setting_that_two_heads_share_is_read_as_the_chosen_one_takes_it():
    # A number for mf, the name of a head for interest.
    assert compose("finetune", ["head=mf", "head.candidates=10"]).head.candidates == 10
    assert compose("finetune", ["head=interest", "loss=bce", "head.candidates=ease"]).head.candidates == "ease"
