"""The sdist, the wheel built from it, and the installed wheel in a folder without a checkout."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from llmrec_cli import __version__
from tests.tiny import write_tiny

CHECKOUT = Path(__file__).resolve().parents[1]
STAGES = """
import sys
import llmrec_cli
from llmrec_cli import cli
from llmrec_cli.option_files import configs_dir
print("from", llmrec_cli.__file__, configs_dir())
for line in sys.stdin.read().splitlines():
    assert cli.run(line.split("\\t")) == 0, line
"""


def run(*command, **options):
    return subprocess.run([str(part) for part in command], check=True, text=True, capture_output=True, **options)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the sdist and the wheel built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, CHECKOUT)
    return folder


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The environment of a process that sees the installed wheel and not the checkout."""
    target = tmp_path_factory.mktemp("installed")
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target, wheel)
    return os.environ | {"PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}


def files_under(folder, pattern):
    return {file.relative_to(CHECKOUT).as_posix() for file in (CHECKOUT / folder).rglob(pattern)}


@pytest.mark.slow
def test_the_wheel_has_every_module_and_every_config_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    assert wheel.name == f"llmrec_cli-{__version__}-py3-none-any.whl"
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = files_under("llmrec_cli", "*.py")
    configs = {f"llmrec_cli/{name}" for name in files_under("configs", "*.yaml")}
    assert len(configs) > 30
    assert modules | configs <= names
    others = {"llmrec_cli/py.typed", "llmrec_cli/scripts/retrain.sh"}
    assert {name for name in names - modules - configs if not name.startswith("llmrec_cli/report/")} == others


@pytest.mark.slow
def test_the_sdist_contains_the_tests_and_their_data(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "Makefile", "README.md", "LICENSE", "tests/tiny.py", "configs/finetune.yaml"} <= names
    assert not any(name.startswith((".venv", "runs", "data/prepared", "dist")) for name in names)


@pytest.mark.slow
def test_the_installed_command_answers_help_and_composes_with_its_own_configs(installed, tmp_path):
    script = Path(installed["PYTHONPATH"]) / "bin" / "llmrec"
    assert run(script, "--version", env=installed, cwd=tmp_path).stdout == f"llmrec {__version__}\n"
    assert "seed: 5" in run(script, "finetune", "--cfg", "job", "seed=5", env=installed, cwd=tmp_path).stdout


@pytest.mark.slow
def test_llmrec_retrain_of_the_wheel_runs_in_the_bare_environment_of_cron(installed, tmp_path):
    write_tiny(tmp_path)
    command = Path(installed["PYTHONPATH"]) / "bin" / "llmrec-retrain"
    # As from cron, plus what makes a folder of packages an installation.
    bare = {"PYTHONPATH": installed["PYTHONPATH"], "OMP_NUM_THREADS": "1"}

    def retrain(*arguments, **variables):
        return subprocess.run([command, *arguments], env=bare | variables, cwd=tmp_path, text=True, capture_output=True,
                              stdin=subprocess.DEVNULL, check=False)

    done = retrain("published")
    assert (done.returncode, "PREPARE: not set" in done.stderr) == (2, True)
    failing = retrain("published", PREPARE="dataset=files dataset.interactions=none.csv")
    assert failing.returncode == 3, failing.stderr
    assert "nothing was published" in failing.stderr
    done = retrain("pub lished", PREPARE="dataset=files dataset.name=tiny dataset.interactions=interactions.csv",
                   FINETUNE="head=popularity", EVALUATE="num_bootstrap=100 baselines=[]", RECOMMEND="k=5", REFIT="none")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pub lished/current/recommendations.parquet").is_file()


@pytest.mark.slow
def test_the_installed_wheel_goes_from_files_to_lists(installed, tmp_path, tiny_encoder):
    write_tiny(tmp_path)
    stages = [
        ["prepare", "dataset=files", "dataset.name=tiny", "dataset.interactions=interactions.csv",
         "dataset.items=items.csv", "dataset.item_text={title} ({year}). {genres}", "dataset.attributes.genres=list"],
        ["finetune", "encoder=hf", f"encoder.path={tiny_encoder}", "encoder.max_length=16"],
        ["evaluate", "num_bootstrap=100", "baselines=[popularity]"],
        ["recommend", "queries=all", "k=3", "output=lists.jsonl"]]
    done = run(sys.executable, "-c", STAGES, input="\n".join("\t".join(stage) for stage in stages), env=installed,
               cwd=tmp_path)
    where = done.stdout.splitlines()[0]
    assert where.count(installed["PYTHONPATH"]) == 2
    assert str(CHECKOUT) not in where
    metrics = json.loads((tmp_path / "runs/evaluate/latest/metrics.json").read_text("utf-8"))
    assert metrics["metrics"]["ndcg@10"]["mean"] > metrics["baselines"]["popularity"]["ndcg@10"]["mean"]
    assert len((tmp_path / "lists.jsonl").read_text("utf-8").splitlines()) == 60 * 3
    environment = json.loads((tmp_path / "runs/finetune/latest/environment.json").read_text("utf-8"))
    assert environment["commit"] is None
