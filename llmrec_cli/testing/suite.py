"""Running conformance checks on all examples of an option, with all failures in one message."""

import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from llmrec_cli.config import compose
from llmrec_cli.option_files import merge
from llmrec_cli.plain_yaml import parse_yaml
from llmrec_cli.settings.base import Builder, OptionSettings, defaults
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.testing.shop import Shop

Case = TypeVar("Case")
Check = Callable[[Case], None]
"""A check: a function that raises AssertionError if a promise is broken; its name and docstring state the promise."""
_QUICK = ["optim.epochs=8", "optim.batch_size=128", "optim.learning_rate=0.02"]
"""Settings that make a head train on the tiny shop in a second."""


def examples_of(group: str, names: Iterable[str] | None = None) -> dict[str, tuple[type[OptionSettings], list[str]]]:
    """Return the examples of a config group's options (all in its table, unless named) as `<option>_<example>`."""
    table = CONFIG_GROUPS[group]
    return {"_".join(filter(None, (kind, example))): (table[kind], typed)
            for kind in (table if names is None else names) for example, typed in table[kind].examples().items()}


def head_config(kind: str, typed: list[str], shop: Shop) -> ModelConfig:
    """Compose the model config of a head's example as `llmrec finetune` does, with a small encoder and few epochs."""
    overrides = [text.format(encoder=getattr(shop.encoder, "path", "")) if "{encoder}" in text else text
                 for text in typed]
    head = compose("finetune", [f"head={kind}", *overrides]).head
    more = []
    if "encoder" in head.uses() and not any(text.startswith("encoder") for text in overrides):
        more += [f"encoder={shop.encoder.kind}", *(f"encoder.{key}={value}" for key, value in _changed(shop.encoder))]
    if "peft" in head.uses() and not any(text.startswith("peft=") for text in overrides):
        more += ["peft=frozen"]
    if "optim" in head.uses():
        more += _QUICK
    config: ModelConfig = compose("finetune", [f"head={kind}", *more, *overrides]).config
    return config


def _changed(settings: OptionSettings) -> Iterable[tuple[str, Any]]:
    """Yield the settings that are not at their defaults."""
    usual = defaults(type(settings))
    return ((key, value) for key, value in vars(settings).items() if value != usual.get(key))


def option_settings(cls: type[OptionSettings], typed: list[str], encoder: str = "") -> Any:
    """Return the settings of an example of a single option: a loss, an encoder or an adversary."""
    plain: dict[str, Any] = defaults(cls)
    for text in typed:
        key, _, value = text.partition("=")
        *parents, last = key.split(".")[1:]
        over: Any = {last: parse_yaml(value.replace("{encoder}", encoder), text)}
        for parent in reversed(parents):
            over = {parent: over}
        plain = merge(plain, over)
    builder = Builder(CONFIG_GROUPS)
    settings = builder.settings(cls, plain)
    assert not builder.problems, f"{cls.__name__}.examples(): {'; '.join(builder.problems)}"
    return settings


def broken(checks: Iterable[Check[Case]], case: Case) -> list[str]:
    """Return a sentence for each promise that the case breaks."""
    problems = []
    for check in checks:
        try:
            check(case)
        except Exception as error:
            what = " ".join(str(error).split())[:300]
            if not isinstance(error, AssertionError):
                last = traceback.extract_tb(error.__traceback__)[-1]
                what = f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}: {what}"
            problems.append(f"{promise(check)}: {what}")
    return problems


def promise(check: Check[Any]) -> str:
    """Return the promise of a check as a sentence."""
    return check.__name__.replace("_", " ")


def require_all(cases: dict[str, Case], checks: Iterable[Check[Case]]) -> None:
    """Raise AssertionError with every broken promise of every case."""
    checks = list(checks)
    problems = [f"{name}: {problem}" for name, case in cases.items() for problem in broken(checks, case)]
    assert not problems, "\n".join(problems)
