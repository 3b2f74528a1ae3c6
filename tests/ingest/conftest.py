"""Every test of prepare runs in a folder of its own, since prepare points data/prepared/latest at what it wrote."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go to the test's temporary folder."""
    monkeypatch.chdir(tmp_path)
