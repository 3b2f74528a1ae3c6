"""The command line: commands, help, options, exit codes, and what goes to stdout and stderr."""

import re
import shlex

import pytest
import yaml

from llmrec_cli import __version__, cli
from llmrec_cli.cli import OPTIONS, SUMMARIES, divide
from llmrec_cli.config import compose, compose_runs
from llmrec_cli.errors import ArtifactError, CommandFailedError, ConfigError, DataError, LlmrecError
from llmrec_cli.help import ABOUT, options_help
from llmrec_cli.keys import config_groups_of
from llmrec_cli.metrics.table import METRICS
from llmrec_cli.option_files import choices
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.head import HEADS
from llmrec_cli.settings.stages import COMMANDS


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_the_help_lists_every_command_and_the_next_step(llmrec, arguments):
    done = llmrec(*arguments)
    assert (done.code, done.err) == (0, "")
    assert list(SUMMARIES) == list(COMMANDS)
    assert all(re.search(rf"^  {command} ", done.out, re.MULTILINE) for command in COMMANDS)
    assert "llmrec <command> --help" in done.out


@pytest.mark.parametrize("arguments", [("--version",), ("-V",)])
def test_the_version_is_the_packages(llmrec, arguments):
    assert llmrec(*arguments).out == f"llmrec {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_says_what_it_reads_and_writes_and_its_settings(llmrec, command):
    done = llmrec(command, "--help")
    assert (done.code, done.err) == (0, "")
    for word in ("reads:", "writes:", "settings:", "examples:", f"llmrec {command} --cfg job"):
        assert word in done.out
    assert max(map(len, done.out.partition("examples:")[0].splitlines())) <= 120
    for group in config_groups_of(command):
        if len(CONFIG_GROUPS[group]) == 1:
            continue  # Nothing to choose.
        assert re.search(rf" {group}=\w+ [^=]+ Choose one of ", " ".join(done.out.split())), group


def test_the_help_of_evaluate_defines_every_metric_of_the_table(llmrec):
    printed = " ".join(llmrec("evaluate", "--help").out.split())
    for metric in METRICS.values():
        assert f"{metric.column('k')} {'* ' if metric.monitored else ''}{metric.definition}" in printed


def test_every_example_of_the_help_composes():
    for _, _, _, examples in ABOUT.values():
        for example in examples:
            _, command, *typed = shlex.split(example)
            if "--multirun" not in typed:
                assert compose(command, cli.expand_short_forms(command, typed)) is not None


def test_a_setting_in_the_help_is_shown_with_its_default_and_meaning(llmrec):
    out = llmrec("finetune", "--help").out
    assert "monitor=ndcg@10" in out
    assert "optim.epochs=20                    Maximum number of passes over the training data, at least 1." in out
    assert f"Choose one of {', '.join(sorted(HEADS))}" in " ".join(out.split())


@pytest.mark.parametrize("arguments", [("--help", "head=ease"), ("head=ease", "head.l2=3", "-h")])
def test_the_help_of_an_option_has_its_settings_with_defaults_meaning_and_ranges(llmrec, arguments):
    done = llmrec("finetune", *arguments)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("llmrec finetune head=ease: EASE, a linear item-item model (Steck 2019)")
    assert "\n  head.l2=null                       Ridge penalty of an item of average popularity, above 0." in done.out
    assert "\n  head.features.words=0.0            Weight of the normalised TF-IDF vectors" in done.out
    assert "\n  l2                                 5 to 3000, on a logarithmic scale\n" in done.out
    assert "\n  weight                             one of value, log, none\n" in done.out


@pytest.mark.parametrize(("command", "group"), sorted((command, group) for command in COMMANDS
                                                      for group in config_groups_of(command)))
def test_every_option_has_a_help_that_describes_each_of_its_settings(command, group):
    for name in choices(group):
        text = options_help(command, [f"{group}={name}"])
        assert text.startswith(f"llmrec {command} {group}={name}: ")
        assert "(no description)" not in text
        assert max(map(len, text.splitlines())) <= 120


def test_the_help_shows_each_option_of_the_command_line_and_nothing_that_is_refused(llmrec):
    printed = llmrec("finetune", "head=fusion", "loss=bpr", "--help").out
    assert re.findall(r"^llmrec finetune (\S+):", printed, re.MULTILINE) == ["head=fusion", "loss=bpr"]
    assert "head.members={ease:...,plain_ease:...,neighbours:...,item_knn:...,item_similarity:...,ials:...}" in printed
    assert "loss.num_negatives=16 " in printed
    assert "head.weight=" not in printed  # A fusion's members have weights of interactions of their own.


def test_the_help_of_an_option_in_a_shared_folder_has_its_values(llmrec, tmp_path):
    (tmp_path / "shared/head").mkdir(parents=True)
    (tmp_path / "shared/head/ours.yaml").write_text("defaults: [ease, _self_]\nl2: 77.0\nsearch: {l2: {high: 90}}\n")
    printed = llmrec("finetune", "--config-dir=shared", "--help", "head=ours").out
    assert "head.l2=77.0 " in printed
    assert "  l2                                 5 to 90, on a logarithmic scale\n" in printed


def test_the_help_of_an_unknown_option_names_the_nearest(llmrec):
    done = llmrec("finetune", "--help", "head=eaze")
    assert done.code == 2
    assert "head=eaze: no such head (did you mean 'ease'?); choose one of " in done.err


def test_the_help_of_an_unknown_setting_names_the_nearest(llmrec):
    done = llmrec("finetune", "--help", "heda=ease")
    assert (done.code, done.out) == (2, "")
    assert "heda: `llmrec finetune` has no such setting (did you mean 'head'?)" in done.err


def test_the_help_without_an_option_says_how_to_get_that_of_one(llmrec):
    printed = llmrec("finetune", "--help", "seed=3").out
    assert "settings of one option: llmrec finetune --help head=fusion\n" in printed


@pytest.mark.parametrize(("arguments", "expected"), [
    (("finetun",), "finetun: no such command (did you mean 'finetune'?); choose one of prepare, pretrain"),
    (("--verison",), "--verison: no such option (did you mean '--version'?)"),
    (("finetune", "--multirn"), "--multirn: no such option (did you mean '--multirun'?)"),
    (("finetune", "--cfg"), "--cfg: expects a value"),
    (("finetune", "--config-dir", "nowhere"), "--config-dir nowhere: no such folder"),
    (("finetune", "--config-dir=nowhere"), "--config-dir nowhere: no such folder"),
    (("-sc",), "-sc: write install=bash"),
])
def test_a_mistake_ends_with_2_and_says_what_was_meant(llmrec, arguments, expected):
    done = llmrec(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"llmrec: configuration error: {expected}")
    assert done.err.count("\n") == 1


def test_several_mistakes_are_reported_one_per_line(llmrec):
    done = llmrec("finetune", "seed=x", "optim.epochs=0")
    assert done.err == ("llmrec: configuration error: \n  seed=x: expected a whole number\n"
                        "  optim.epochs=0: must be at least 1\n")


def test_options_are_separated_from_settings():
    assert divide(["a=1", "--cfg", "job", "-m", "--config-dir=x", "b=--c"]) == (
        ["--cfg", "job", "-m", "--config-dir=x"], ["a=1", "b=--c"])
    assert all(name.startswith("-") for name in OPTIONS)


def test_cfg_job_prints_what_would_run_and_runs_nothing(llmrec, tmp_path):
    done = llmrec("finetune", "head=ease", "head.l2=7", "--cfg", "job")
    assert done.code == 0
    printed = yaml.safe_load(done.out)
    assert (printed["head"]["l2"], printed["head"]["kind"], printed["seed"]) == (7, "ease", 1)
    assert list(tmp_path.iterdir()) == []


def test_cfg_job_prints_an_invalid_config_too_then_its_problems(llmrec):
    done = llmrec("finetune", "head.l2=7", "optim.epochs=0", "--cfg", "job")
    assert done.code == 2
    assert yaml.safe_load(done.out)["optim"]["epochs"] == 0
    assert "head.l2: unknown key" in done.err
    assert "optim.epochs=0" in done.err


@pytest.mark.parametrize(("command", "missing"), [
    ("prepare", "dataset.interactions: missing; set dataset.interactions"),
    ("recommend", "queries: missing; set queries=all")])
def test_cfg_job_of_a_command_without_its_input_prints_the_defaults_and_a_note(llmrec, command, missing):
    done = llmrec(command, "--cfg", "job")
    assert done.code == 0
    assert yaml.safe_load(done.out)["debug"] is False
    assert done.err.startswith(f"note: `llmrec {command}` would stop: {missing}")


@pytest.mark.parametrize(("typed", "expected"), [
    ("split=given", "split=given: needs dataset.train and dataset.test or dataset.valid"),
    ("dataset.train=t.csv", "dataset.train: has an effect only with split=given, not with split=random"),
    ("mode=append dataset.cluster_users=true", "mode=append: dataset.cluster_users=true clusters all users anew"),
    ("split.group=random dataset.synthetic_groups=random", "split.group=random: has no effect on synthetic groups"),
    ("dataset.item_text={title", "dataset.item_text={title: unbalanced '{'; write a column as {name}")])
def test_cfg_job_shows_the_problems_that_a_run_of_prepare_would_stop_at(llmrec, typed, expected):
    done = llmrec("prepare", "dataset.interactions=x.csv", *typed.split(), "--cfg", "job")
    assert done.code == 2
    assert yaml.safe_load(done.out)["dataset"]["interactions"] == "x.csv"
    assert done.err.startswith(f"llmrec: configuration error: {expected}")


def test_multirun_runs_once_for_each_value(llmrec, tmp_path, tiny_prepared):
    done = llmrec("finetune", f"prepared={tiny_prepared}", "head=popularity", "seed=1,2", "--multirun",
                  "run_dir=runs/sweep")
    assert done.code == 0
    saved = [yaml.safe_load((tmp_path / f"runs/sweep/{n}/config.yaml").read_text()) for n in range(2)]
    assert [(s["head"]["kind"], s["seed"]) for s in saved] == [("popularity", 1), ("popularity", 2)]
    assert not (tmp_path / "multirun").exists()
    assert not (tmp_path / "outputs").exists()


def test_the_table_of_a_multirun_lists_no_option_that_a_head_does_not_use(llmrec, tiny_prepared):
    done = llmrec("finetune", f"prepared={tiny_prepared}", "head=popularity,item_knn", "--multirun")
    assert done.code == 0, done.err
    header = next(line for line in done.out.splitlines() if line.startswith("head "))
    assert header.split()[:2] == ["head", "value"]


def test_multirun_stops_at_a_mistake_with_its_exit_code(llmrec, tiny_prepared):
    done = llmrec("finetune", f"prepared={tiny_prepared}", "head=ease", "head.l2=-1,5", "--multirun")
    assert done.code == 2
    assert done.err == "llmrec: configuration error: head.l2=-1.0: must be above 0\n"


def test_a_multirun_composes_all_its_runs_before_the_first(llmrec, tmp_path, tiny_prepared):
    done = llmrec("finetune", f"prepared={tiny_prepared}", "head=popularity", "seed=1,x,2,-1", "--multirun")
    assert done.code == 2
    assert done.err == ("llmrec: configuration error: \n  seed=x: expected a whole number\n"
                        "  seed=-1: must be at least 0\n")
    assert list(tmp_path.iterdir()) == []


def test_a_multirun_ends_at_the_first_run_that_fails_with_its_exit_code_and_keeps_those_before(
        llmrec, tmp_path, tiny_prepared):
    done = llmrec("finetune", f"prepared={tiny_prepared},nowhere", "seed=1,2", "head=popularity", "run_dir=many", "-m")
    assert done.code == 2
    assert "prepared=nowhere: no such folder" in done.err
    assert "run 3 of 4: prepared=nowhere seed=1" in done.err
    assert "run 4 of 4" not in done.err
    assert "2 runs, ndcg@10 on validation" in done.out
    assert sorted(path.name for path in (tmp_path / "many").iterdir()) == ["0", "1"]


@pytest.mark.slow
def test_every_command_ends_a_multirun_with_a_table(llmrec, tmp_path, tiny_prepared, prepare_tiny):
    done = llmrec("prepare", *prepare_tiny, "dataset.name=one,two", "split=random", "-m", "run_dir=p")
    assert done.code == 0, done.err
    assert re.search(r"^two +p/1$", done.out, re.MULTILINE)
    llmrec("finetune", f"prepared={tiny_prepared}", "head=popularity", "run_dir=run")
    done = llmrec("evaluate", "model=run", "ties=hash,expected", "num_bootstrap=100", "baselines=[]", "-m", "run_dir=e")
    assert done.code == 0, done.err
    table = done.out[done.out.index("2 runs"):]
    assert re.search(r"ndcg@\d+ ", table)
    assert re.search(r"expected .* e/1 .* 0\.\d{4} ", table)
    folder = "a_folder_with_a_name_that_is_longer_than_most_windows_are_wide_" * 2
    done = llmrec("finetune", f"prepared={tiny_prepared}", "head=popularity,user_knn", "-m", f"run_dir={folder}")
    assert done.code == 0, done.err
    assert re.search("head +.*value", done.out)
    assert "loss" not in done.out[done.out.index("2 runs"):]
    done = llmrec("recommend", "model=run", "query.history=[i1]", "k=1,2", "-m", "run_dir=r")
    assert done.code == 0, done.err
    assert "2 runs" in done.err
    assert "2 runs" not in done.out


def test_texts_in_a_multirun_are_literal_between_their_commas():
    runs = compose_runs("prepare", ["dataset.interactions=x.csv", 'dataset.item_text={a} (b), "{c}, d",it\'s',
                                    """dataset.drop_users=["a]",b],['s,c]"""])
    assert [(run.settings.dataset.item_text, run.settings.dataset.drop_users) for run in runs] == [
        (text, users) for text in ("{a} (b)", "{c}, d", "it's") for users in (["a]", "b"], ["'s", "c"])]
    assert runs[3].label == 'dataset.item_text="{c}, d" dataset.drop_users=[\'s,c]'


@pytest.mark.parametrize(("typed", "expected"), [("seed=range(1,4)", [1, 2, 3]), ("seed=choice(4,2)", [4, 2]),
                                                 ("seed=7", [7]), ("seed=1, 2", [1, 2])])
def test_numbers_of_a_multirun_may_be_a_range(typed, expected):
    assert [run.settings.seed for run in compose_runs("finetune", [typed])] == expected


@pytest.mark.parametrize(("typed", "expected"), [
    ("seed=range(0,1000000000000)", "--multirun: more than 1,000 runs"), ("resume=x", "continues a single run"),
    ("seed=interval(0,1)", "cannot be read as a value"), ("seed=glob(*)", "cannot be read as a value")])
def test_an_invalid_multirun_is_refused(llmrec, typed, expected):
    done = llmrec("finetune", typed, "--multirun")
    assert done.code == 2
    assert expected in done.err


def test_cfg_job_prints_each_run_of_a_multirun(llmrec, tmp_path):
    done = llmrec("finetune", "head=ease", "seed=1,2", "-m", "--cfg", "job")
    assert done.code == 0
    assert [document["seed"] for document in yaml.safe_load_all(done.out)] == [1, 2]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["hydra", "all"])
def test_cfg_prints_nothing_of_hydras(llmrec, what):
    done = llmrec("finetune", "--cfg", what)
    assert (done.code, done.out) == (2, "")
    assert "write --cfg job" in done.err


def test_arguments_that_are_not_utf_8_are_refused(llmrec):
    done = llmrec("finetune", "prepared=\udcff")
    assert done.code == 2
    assert "prepared=\\udcff: is not UTF-8" in done.err


def test_multirun_refuses_an_unknown_choice_among_the_values(llmrec):
    assert "head=eas: no such head (did you mean 'ease'?)" in llmrec("finetune", "head=ease,eas", "-m").err


@pytest.mark.parametrize(("error", "code"), [(ConfigError("x"), 2), (DataError("x"), 3), (ArtifactError("x"), 4),
                                             (KeyboardInterrupt(), 130)])
def test_each_kind_of_error_has_its_exit_code_and_no_traceback(llmrec, monkeypatch, error, code):
    def fail(arguments):
        raise error

    monkeypatch.setattr(cli, "run", fail)
    done = llmrec("finetune")
    assert done.code == code
    assert "Traceback" not in done.err


def test_debug_shows_the_traceback_and_keeps_the_exit_code(llmrec):
    done = llmrec("finetune", "head=ease", "prepared=nowhere", "debug=true")
    assert done.code == 2
    assert "Traceback" in done.err
    assert done.err.splitlines()[-1].startswith("llmrec: configuration error: prepared=nowhere: no such folder")


def test_a_bug_of_ours_is_not_dressed_up_as_a_mistake_of_yours(monkeypatch):
    def fail(arguments):
        raise AssertionError("an invariant")

    monkeypatch.setattr(cli, "run", fail)
    with pytest.raises(AssertionError):
        cli.main()


def test_an_error_is_printed_without_control_codes(llmrec):
    done = llmrec("\x1b[2Jfinetune\r")
    assert "\x1b" not in done.err
    assert "\\x1b[2Jfinetune\\r: no such command" in done.err


def test_exit_codes_are_one_per_kind():
    kinds = [kind for kind in LlmrecError.__subclasses__() if kind is not CommandFailedError]
    assert sorted(kind.exit_code for kind in kinds) == [2, 3, 4, 5, 6, 7, 75]
