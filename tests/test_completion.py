"""Shell completion: the words offered, and the scripts in real shells, if they are installed."""

import dataclasses
import json
import os
import pty
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmrec_cli import cli
from llmrec_cli.completion import completions, for_bash
from llmrec_cli.settings.stages import COMMANDS

SHELLS = {"bash": ["--norc", "--noprofile", "-i"], "zsh": ["-f", "-i"], "fish": ["--no-config", "-i"]}
INSTALL = {"fish": "llmrec -sc install=fish | source"}
STARTER = """#!/bin/sh
case "$1" in
-sc) exec "{python}" -m llmrec_cli "$@" ;;
*) exec "{python}" -c 'import json, sys; print(json.dumps(sys.argv[1:]), file=open("ran", "a"))' "$@" ;;
esac
"""
"""Completes, and writes the words of any other command to the file `ran`."""


@pytest.mark.parametrize(("line", "expected"), [
    ("llmrec ", set(COMMANDS)), ("llmrec pre", {"prepare", "pretrain"}),
    ("llmrec nonsense ", set()), ("", set()), ("llmrec", set()), ("llmrec finetune head=ea", {"head=ease"}),
    ("llmrec finetune optim.e", {"optim.epochs=", "optim.encoder_learning_rate=", "optim.ema="}),
    ("llmrec finetune head=ease head.features.t", {"head.features.text=", "head.features.tuned=",
                                                   "head.features.two_hops="}),
    ("llmrec finetune head=ease,pop", {"head=ease,popularity"}), ("llmrec finetune dataset=", set()),
    ("llmrec pretrain encoder=", {f"encoder={name}" for name in ("e5", "hf", "minilm", "pretrained", "scratch")}),
    ("llmrec finetune -", {"--cfg", "--help"}),
    ("llmrec evaluate robustness=", {"robustness=true", "robustness=false"}),
    ("llmrec prepare settings=sh", {"settings=shop.yaml"}), ("llmrec prepare dataset.interactions=[a,sh",
                                                             {"dataset.interactions=[a,shop.yaml"}),
    ("llmrec recommend query.text='slow fict", set()), ("llmrec prepare dataset.attributes.类目=c", set()),
    ("llmrec finetune nonsense.x", set()), ("llmrec help fi", {"finetune"})])
def test_completion_knows_commands_choices_keys_and_files(tmp_path, monkeypatch, line, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.yaml").touch()
    assert set(completions(line, ["--cfg", "--help"])) == expected


@pytest.mark.parametrize("command", COMMANDS)
def test_completion_offers_every_setting_of_a_command_and_nothing_else(command):
    keys = {word.rstrip("=.") for word in completions(f"llmrec {command} ")}
    assert keys == {f.name for f in dataclasses.fields(COMMANDS[command])} | {"experiment"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_installs_a_script_for_the_shell(llmrec, shell):
    done = llmrec("-sc", f"install={shell}")
    assert (done.code, done.err) == (0, "")
    assert f"-sc query={shell}" in done.out
    assert llmrec("-sc", f"uninstall={shell}").code == 0


@pytest.mark.parametrize(("line", "expected"), [
    ("llmrec prepare dataset.interactions=my", ["dataset.interactions=my file.csv"]),
    ("llmrec prepare dataset.interactions=my\\ fi", ["dataset.interactions=my file.csv"]),
    ("llmrec prepare 'dataset.interactions=my'", ["dataset.interactions=my file.csv"]),
    ("llmrec prepare 'dataset.interactions=my", []), ("llmrec prepare dataset.interactions=my\\", [])])
def test_a_typed_word_is_read_as_the_shell_reads_it(tmp_path, monkeypatch, line, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my file.csv").touch()
    (tmp_path / "my\nfile.csv").touch()
    assert completions(line) == expected


@pytest.mark.parametrize(("line", "words", "expected"), [
    ("llmrec pre", ["prepare", "pretrain"], ["prepare ", "pretrain "]),
    ("llmrec finetune head=ea", ["head=ease"], ["ease "]), ("llmrec finetune optim", ["optim=", "optim."],
                                                           ["optim=", "optim."]),
    ("llmrec prepare settings=a\\ ", ["settings=a b$.yaml", "settings=a d/"], ["a\\ b\\$.yaml ", "a\\ d/"]),
    ("llmrec prepare settings=[a,b", ["settings=[a,b.yaml"], ["[a,b.yaml"])])
def test_bash_gets_the_part_that_it_replaces_quoted_and_with_a_space_after_a_finished_word(line, words, expected):
    assert for_bash(line, words, " \t\n\"'><=;|&(:") == expected


def test_bash_gets_whole_words_if_it_does_not_divide_them():
    assert for_bash("llmrec finetune head=ea", ["head=ease"], " ") == ["head=ease "]


class Terminal:
    """A shell on a terminal of its own."""

    def __init__(self, shell: str, folder: Path) -> None:
        self.pid, self.stream = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            variables = {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder / "home"), "TERM": "xterm",
                         "LC_ALL": "C.UTF-8", "PYTHONPATH": str(Path(cli.__file__).parents[1])}
            os.execvpe(shell, [shell, *SHELLS[shell]], os.environ | variables)
        self.output = b""

    def write(self, keys: str) -> None:
        """Press keys."""
        os.write(self.stream, keys.encode())

    def read(self) -> None:
        """Read what the shell prints within a tenth of a second, and say what the terminal is if it asks."""
        if select.select([self.stream], [], [], 0.1)[0]:
            new = os.read(self.stream, 65536)
            self.output += new
            if b"\x1b[c" in new or b"\x1b[0c" in new:
                self.write("\x1b[?1;2c")

    def wait(self, seconds: float, is_done) -> None:
        """Read until `is_done`, or fail."""
        end = time.monotonic() + seconds
        while not is_done():
            assert time.monotonic() < end, self.output.decode(errors="replace")
            self.read()

    def close(self) -> None:
        """End the shell."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.stream)


@pytest.fixture(params=SHELLS)
def terminal(request, tmp_path) -> Iterator[Terminal]:
    """A shell with the completion of llmrec installed, in a folder with some files."""
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    for name in ("home/x", "sub/clicks.csv", "shop.yaml", "my file.csv", "商品.csv", "llmrec"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "llmrec").write_text(STARTER.format(python=sys.executable))
    (tmp_path / "llmrec").chmod(0o755)
    opened = Terminal(shell, tmp_path)
    opened.write(INSTALL.get(shell, f'eval "$(llmrec -sc install={shell})"') + "; echo rea''dy\n")
    opened.wait(60, lambda: b"ready" in opened.output)
    yield opened
    opened.close()


@pytest.mark.slow
def test_a_shell_completes_words_and_quotes_them(terminal, tmp_path):
    typed = {"llmrec prep\t": ["prepare"], "llmrec finetune head=ea\t": ["finetune", "head=ease"],
             "llmrec finetune head=ea\tseed=1": ["finetune", "head=ease", "seed=1"],
             "llmrec finetune optim.ep\t3": ["finetune", "optim.epochs=3"],
             "llmrec prepare dataset.interactions=my\t": ["prepare", "dataset.interactions=my file.csv"],
             "llmrec prepare dataset.interactions=my\\ fi\t": ["prepare", "dataset.interactions=my file.csv"],
             "llmrec prepare dataset.interactions=商\t": ["prepare", "dataset.interactions=商品.csv"],
             "llmrec prepare dataset.interactions=su\tcl\t": ["prepare", "dataset.interactions=sub/clicks.csv"],
             "llmrec prepare settings=sh\t": ["prepare", "settings=shop.yaml"]}
    ran = tmp_path / "ran"
    for number, (keys, words) in enumerate(typed.items(), start=1):
        terminal.write(f"{keys}\n")
        terminal.wait(60, lambda n=number: ran.exists() and ran.read_text().count("\n") == n)
        assert json.loads(ran.read_text().splitlines()[-1]) == words, keys


@pytest.mark.slow
@pytest.mark.parametrize("terminal", ["bash"], indirect=True)
def test_a_list_goes_on_after_a_file(terminal, tmp_path):
    terminal.write("llmrec prepare dataset.interactions=[shop.yaml,my\t]\n")
    terminal.wait(60, lambda: (tmp_path / "ran").exists())
    terminal.wait(60, lambda: (tmp_path / "ran").read_text().endswith("\n"))
    assert json.loads((tmp_path / "ran").read_text()) == ["prepare", "dataset.interactions=[shop.yaml,my file.csv]"]
