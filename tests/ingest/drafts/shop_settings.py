"""A drafted settings file as settings of `prepare`."""

from pathlib import Path

from llmrec_cli.config import apply_changes, to_settings
from llmrec_cli.option_files import merge
from llmrec_cli.overrides import to_changes
from llmrec_cli.plain_yaml import read_yaml
from llmrec_cli.settings.stages import PrepareConfig


def settings_of(file: Path) -> PrepareConfig:
    """Return the settings of `prepare` in a settings file, over the defaults."""
    shop = read_yaml(file)
    assert set(shop) == {"dataset", "split"}
    (changes,), problems = to_changes("prepare", [f"split={shop['split']}"])
    plain = apply_changes("prepare", changes, problems)
    assert not problems
    settings = to_settings("prepare", plain | {"dataset": merge(plain["dataset"], shop["dataset"])}, {})
    assert isinstance(settings, PrepareConfig)
    return settings
