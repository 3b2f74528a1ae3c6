"""Imports before a stage runs: no heavy packages, so that help and errors are printed at once.

benchmarks/startup.py measures the time.
"""

import gc
import json
import subprocess
import sys

import pytest

from llmrec_cli import stage_runs
from tests.some_slow import some_slow
from tests.tiny import write_tiny

HEAVY = ("torch", "transformers", "pandas", "pyarrow", "numpy", "scipy", "duckdb", "ibis", "peft", "matplotlib",
         "tensorboard", "sentence_transformers", "rich")
REPORT = """
import json, sys
{work}
print(json.dumps(sorted(set(name.partition(".")[0] for name in sys.modules))))
"""


def imported(work):
    """Return the top-level modules that Python has after `work`, without what a bare interpreter has."""
    done = subprocess.run([sys.executable, "-c", REPORT.format(work=work)], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_imports_not_even_hydra(arguments):
    modules = imported(f"from llmrec_cli.cli import run; run({arguments})")
    assert "llmrec_cli" in modules
    assert modules & {*HEAVY, "hydra", "omegaconf", "yaml"} == set()


def test_the_package_and_its_errors_import_not_even_hydra():
    modules = imported("import llmrec_cli; dir(llmrec_cli); assert llmrec_cli.ConfigError.exit_code == 2")
    assert modules & {*HEAVY, "hydra", "omegaconf", "yaml"} == set()


@pytest.mark.parametrize("work", some_slow([
    "from llmrec_cli.cli import run\ntry:\n  run(['finetune', 'sed=3'])\nexcept Exception as error:\n  print(error)",
    "from llmrec_cli.cli import run; run(['finetune', '--help'])",
    "from llmrec_cli.config import compose; compose('finetune', ['head=two_tower', 'seed=3'])",
    "from llmrec_cli.overrides import choices\nfrom llmrec_cli.settings.groups import CONFIG_GROUPS",
    "import llmrec_cli as l\ntry:\n  l.finetune('p', sed=3)\nexcept l.ConfigError as error:\n  print(error)"]),
                         ids=["a mistake", "help of a command", "composing", "settings", "a mistake in Python"])
def test_composing_and_mistakes_import_nothing_heavy(work):
    assert imported(work) & set(HEAVY) == set()


@pytest.mark.slow
def test_nothing_of_the_current_folder_is_imported_however_llmrec_is_started(tmp_path):
    for name in ("yaml.py", "hydra_plugins/plugin.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit('imported')")
    done = subprocess.run([sys.executable, "-m", "llmrec_cli", "finetune", "head=ease", "--cfg", "job"], cwd=tmp_path,
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "kind: ease" in done.stdout


def test_the_garbage_collector_waits_for_imports_only(monkeypatch):
    states = []

    class Stage:
        @staticmethod
        def run(*_):
            states.append(gc.isenabled())

    monkeypatch.setattr(stage_runs, "import_module", lambda _: states.append(gc.isenabled()) or Stage)
    stage_runs.run_in(None, "finetune", None)
    assert states == [False, True]


@pytest.mark.slow
def test_one_list_of_a_model_without_texts_imports_only_what_it_needs(tmp_path, monkeypatch, tiny_prepared):
    monkeypatch.chdir(tmp_path)
    imported(f"from llmrec_cli.cli import run; run(['finetune', 'head=ease', 'prepared={tiny_prepared}'])")
    modules = imported("from llmrec_cli.cli import run; run(['recommend', 'query.user_id=u0'])")
    assert "torch" in modules
    assert modules & {"transformers", "pandas", "ibis", "duckdb", "hydra", "rich", "peft", "sympy"} == set()


@pytest.mark.slow
def test_preparing_a_shop_imports_no_torch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "raw")
    modules = imported("from llmrec_cli.cli import run; run(['prepare', 'dataset=files', 'dataset.name=tiny', "
                     "'dataset.interactions=raw/interactions.csv', 'dataset.items=raw/items.csv'])")
    assert "duckdb" in modules
    assert modules & {"torch", "transformers", "peft"} == set()
