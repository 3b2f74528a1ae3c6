"""The Dockerfile: rules that are checked without Docker, and the image where a Docker daemon runs."""

import os
import re
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

from llmrec_cli import __version__
from llmrec_cli.config import compose
from tests.some_slow import some_slow

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/docker.md"
_SECRET = re.compile(r"(?i)\w*(secret|token|password|passwd|credential|api_?key|private_?key)\w*")
_COMPILERS = re.compile(r"\b(gcc|g\+\+|clang|build-essential|make|cmake|rustc|cargo|nvcc|gfortran)\b")


def instructions(text):
    """Return the instructions of a Dockerfile with their arguments, without comments and line continuations."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    words = [line.strip().split(None, 1) for line in re.sub(r"\\\n", " ", lines).splitlines() if line.strip()]
    return [(word[0].upper(), word[1] if len(word) > 1 else "") for word in words]


def final_stage(steps):
    """Return the instructions of the last stage."""
    starts = [number for number, (name, _) in enumerate(steps) if name == "FROM"]
    return steps[starts[-1]:]


def problems_of(text):
    """Return the broken rules of a Dockerfile."""
    steps = instructions(text)
    final = final_stage(steps)
    stages = [match[1] for name, rest in steps if name == "FROM" and (match := re.search(r"(?i)\bAS (\S+)", rest))]
    problems = []
    for name, rest in steps:
        if name == "FROM" and (image := rest.split()[0]) not in stages:
            if not re.search(r":[\w.-]*\d+\.\d+\.\d+", image):
                problems.append(f"{image}: no tag of a whole version")
            if "/" in image:
                problems.append(f"{image}: names a registry")
        if name == "ADD":
            problems.append("ADD unpacks and downloads; COPY does neither")
        if name in ("ENV", "ARG") and (match := _SECRET.search(rest)):
            problems.append(f"{match[0]}: a secret would stay in the image")
        if name == "COPY" and {".", "./", "/", "*"} & set(rest.split()[:-1]):
            problems.append("COPY of the whole folder")
        if name == "RUN" and "apt-get install" in rest:
            if "--no-install-recommends" not in rest:
                problems.append("apt-get install with recommended packages")
            if "rm -rf /var/lib/apt/lists" not in rest:
                problems.append("the lists of apt stay in the layer")
        if name == "RUN" and re.search(r"\bsudo\b|(curl|wget)\b.*\|\s*(ba)?sh", rest):
            problems.append("RUN with sudo or a script from the network")
        if name in ("ENTRYPOINT", "CMD") and not rest.startswith("["):
            problems.append(f"{name} by a shell, which does not pass signals on")
    if any(name == "RUN" and _COMPILERS.search(rest) for name, rest in final):
        problems.append("compilers in the final stage")
    if any(name == "RUN" and "pip install" in rest for name, rest in final):
        problems.append("pip install in the final stage")
    users = [rest for name, rest in final if name == "USER"]
    if not users or users[-1].partition(":")[0] in ("root", "0"):
        problems.append("the final stage runs as root")
    return problems


def test_the_dockerfile_keeps_the_rules():
    assert problems_of((ROOT / "Dockerfile").read_text("utf-8")) == []


@pytest.mark.parametrize(("old", "new", "problem"), [
    ("python:3.11.13-slim-bookworm\n", "python:latest\n", "python:latest: no tag of a whole version"),
    ("python:3.11.13-slim-bookworm AS", "host/python:3.11.13 AS", "host/python:3.11.13: names a registry"),
    ("USER 10001", "USER root", "the final stage runs as root"),
    ("USER 10001\n", "", "the final stage runs as root"),
    ("ARG PIP_INDEX_URL", "ARG PIP_TOKEN", "PIP_TOKEN: a secret would stay in the image"),
    ("COPY configs configs", "COPY . .", "COPY of the whole folder"),
    ("COPY configs configs", "ADD configs configs", "ADD unpacks and downloads; COPY does neither"),
    ("RUN useradd", "RUN apt-get update && apt-get install gcc && useradd", "compilers in the final stage"),
    ("RUN useradd", "RUN apt-get install -y git && useradd", "the lists of apt stay in the layer"),
    ('ENTRYPOINT ["llmrec"]', "ENTRYPOINT llmrec", "ENTRYPOINT by a shell, which does not pass signals on"),
])
def test_each_rule_finds_its_mistake(old, new, problem):
    text = (ROOT / "Dockerfile").read_text("utf-8")
    assert old in text
    assert problem in problems_of(text.replace(old, new))


def copied():
    """Return what the Dockerfile copies from the checkout."""
    steps = instructions((ROOT / "Dockerfile").read_text("utf-8"))
    return [source for name, rest in steps if name == "COPY" and not rest.startswith("--from")
            for source in rest.split()[:-1]]


def test_the_build_context_holds_what_is_copied_and_nothing_else():
    lines = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    allowed = [line[1:] for line in lines if line.startswith("!")]
    wheels = "wheels/torch.whl"
    assert sorted(wheels if fnmatch(wheels, name) else name for name in allowed) == sorted(
        wheels if fnmatch(wheels, source) else source for source in copied())
    assert [source for source in copied() if not (ROOT / source).exists() and not fnmatch(wheels, source)] == []


def test_the_copied_files_are_those_of_the_wheel():
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    inside = re.search(r"force-include\]\n(.*?)\n\n", project, re.DOTALL)
    assert inside is not None
    needed = [line.partition(" = ")[0].strip('"') for line in inside[1].splitlines()]
    assert {*needed, "llmrec_cli", "pyproject.toml", "README.md", "LICENSE"} <= set(copied())


def printed_commands():
    """Return the llmrec commands in the docker lines of the page."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ")
    return re.findall(r"\bllmrec ((?:prepare|finetune|evaluate|recommend)\b[^&;'\n]*)", text)


def test_the_page_prints_a_line_for_all_stages():
    assert [line.split()[0] for line in printed_commands()][:4] == ["prepare", "finetune", "evaluate", "recommend"]


@pytest.mark.parametrize("line", some_slow(printed_commands()))
def test_every_command_in_a_docker_line_composes(line):
    command, *words = line.split()
    assert compose(command, words)


def has_daemon():
    return shutil.which("docker") is not None and subprocess.run(
        ["docker", "info", "--format", "{{.ServerVersion}}"], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_the_image_runs_as_another_user_on_mounted_files(tmp_path):
    if not has_daemon():
        pytest.skip("no Docker daemon answers here, so the image cannot be built; run this test where `docker info` "
                    "works")
    indexes = [word for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL") if os.environ.get(name)
               for word in ("--build-arg", name)]
    subprocess.run(["docker", "build", "--quiet", "--tag", "llmrec:test", *indexes, ROOT], check=True)

    def run(*words, entry="llmrec"):
        return subprocess.run(["docker", "run", "--rm", "--network", "none", "--user", f"{os.getuid()}:{os.getgid()}",
                               "--volume", f"{tmp_path}:/data", "--entrypoint", entry, "llmrec:test", *words],
                              check=True, capture_output=True, text=True).stdout

    from tests.tiny import write_tiny

    write_tiny(tmp_path)
    assert run("--version") == f"llmrec {__version__}\n"
    assert run("-c", "command -v gcc make c++ || true", entry="sh") == ""
    run("prepare", "dataset=files", "dataset.name=tiny", "dataset.interactions=interactions.csv")
    run("finetune", "head=ease")
    run("recommend", "queries=all", "output=lists.csv")
    assert (tmp_path / "lists.csv").stat().st_uid == os.getuid()
