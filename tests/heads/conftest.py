"""Heads on the tiny shop: every example of every head of the table, each fitted once."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from llmrec_cli.heads.base import Head
from llmrec_cli.settings.head import HEADS, ModelConfig
from llmrec_cli.testing.heads import HeadCase
from llmrec_cli.testing.shop import CPU, Shop, shop_of
from llmrec_cli.testing.suite import examples_of, head_config

__all__ = ["CPU", "NAMES", "Shop", "configs"]
USER_HEADS = [name for name, cls in HEADS.items() if cls.audience == "users"]
EXAMPLES = examples_of("head")
NAMES = tuple(examples_of("head", USER_HEADS))


@pytest.fixture(scope="session")
def shop(tiny_prepared: Path, tiny_encoder: Path) -> Shop:
    """The tiny shop."""
    return shop_of(tiny_prepared, tiny_encoder)


class Configs(dict[str, ModelConfig]):
    """Configs of all examples by name, each composed when it is first looked up."""

    def __init__(self, shop: Shop) -> None:
        super().__init__()
        self.shop = shop

    def __missing__(self, name: str) -> ModelConfig:
        cls, typed = EXAMPLES[name]
        self[name] = head_config(cls.kind, typed, self.shop)
        return self[name]


def configs(shop: Shop) -> Configs:
    """Return the configs of all examples: every kind of head, with every option that has code of its own."""
    return Configs(shop)


def cases_of(shop: Shop) -> Callable[[str], HeadCase]:
    """Return a function from an example's name to its case. It is fitted once: tests that change its head copy it."""
    model_configs = configs(shop)
    return functools.cache(lambda name: HeadCase(shop, model_configs[name]))


@pytest.fixture(scope="session")
def case(shop: Shop) -> Callable[[str], HeadCase]:
    """Return a function from an example's name to its case on the tiny shop."""
    return cases_of(shop)


@pytest.fixture(scope="session")
def fitted(case: Callable[[str], HeadCase]) -> Callable[[str], Head]:
    """Return a fitted head by the name of its example."""
    return lambda name: case(name).head
