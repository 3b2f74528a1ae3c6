"""The environment of a run: versions, hardware, commit."""

import json

from llmrec_cli import environment as module
from llmrec_cli.environment import commit, environment


def test_the_environment_has_versions_and_hardware_and_no_variables(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "marker")
    content = environment()
    assert {"python", "platform", "cores", "packages", "commit"} <= set(content)
    assert {"torch", "transformers", "numpy"} <= set(content["packages"])
    assert "marker" not in json.dumps(content)


def test_the_commit_is_none_without_git(monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    assert commit() is None
