"""Heads on the tiny shop: every example of every head of the table, each fitted once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from llmrec_cli.heads.base import Head
from llmrec_cli.settings.head import HEADS, ModelConfig
from llmrec_cli.testing.heads import HeadCase
from llmrec_cli.testing.shop import CPU, Shop, shop_of
from llmrec_cli.testing.suite import examples_of, head_config

__all__ = ["CPU", "NAMES", "Shop", "configs"]
OF_USERS = [name for name, cls in HEADS.items() if cls.audience == "users"]
EXAMPLES = examples_of("head")
NAMES = tuple(examples_of("head", OF_USERS))


@pytest.fixture(scope="session")
def shop(tiny_prepared: Path, tiny_encoder: Path) -> Shop:
    """The tiny shop."""
    return shop_of(tiny_prepared, tiny_encoder)


class Configs(dict[str, ModelConfig]):
    """Recipes of all examples by name, each composed when it is first looked up."""

    def __init__(self, shop: Shop) -> None:
        super().__init__()
        self.shop = shop

    def __missing__(self, name: str) -> ModelConfig:
        cls, typed = EXAMPLES[name]
        self[name] = head_config(cls.kind, typed, self.shop)
        return self[name]


def configs(shop: Shop) -> Configs:
    """Return every kind of head in every way that its code branches."""
    return Configs(shop)


@pytest.fixture(scope="session")
def case(shop: Shop) -> Callable[[str], HeadCase]:
    """Return an example of a head by its name, fitted once; whoever changes it must take a copy."""
    known, found = configs(shop), {}

    def one(name: str) -> HeadCase:
        if name not in found:
            found[name] = HeadCase(shop, known[name])
        return found[name]

    return one


@pytest.fixture(scope="session")
def fitted(case: Callable[[str], HeadCase]) -> Callable[[str], Head]:
    """Return a fitted head by the name of its example."""
    return lambda name: case(name).head
