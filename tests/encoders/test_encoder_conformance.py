"""Every encoder of the table passes the conformance checks in each of its examples."""

import pytest

from llmrec_cli.settings.encoder import ENCODERS
from llmrec_cli.testing.encoders import (
    ENCODER_CHECKS,
    EncoderCase,
    another_process_gives_the_same_vectors_and_identity,
)
from llmrec_cli.testing.suite import examples_of, option_settings, promise
from tests.encoders.made_e5 import install

EXAMPLES = examples_of("encoder")


@pytest.fixture(scope="module", autouse=True)
def tiny_e5(tmp_path_factory):
    """Let encoder=e5 download a tiny model."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        install(tmp_path_factory.mktemp("e5"), monkeypatch)
        yield


@pytest.fixture(scope="module")
def case(tiny_encoder):
    """Return an example of an encoder by its name, fitted once."""
    cases = {}

    def one(name):
        if name not in cases:
            cases[name] = EncoderCase(option_settings(*EXAMPLES[name], str(tiny_encoder)))
        return cases[name]

    return one


@pytest.mark.parametrize("check", ENCODER_CHECKS[:-1], ids=promise)
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_encoder_keeps_every_promise(case, name, check):
    check(case(name))


IN_CI = ("hf", "lsa")


# Each starts a process, which takes seconds; most run in `make test-faults`.
@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in IN_CI else pytest.mark.faults)
                                  for name in EXAMPLES])
def test_every_encoder_gives_the_same_vectors_in_another_process(case, name):
    another_process_gives_the_same_vectors_and_identity(case(name))


def test_every_encoder_of_the_table_has_an_example():
    assert {cls.kind for cls, _ in EXAMPLES.values()} == set(ENCODERS)
