"""The table of faults goes with today's source and tests."""

import ast

import pytest

from tests.mutations.mutations import MUTATIONS, Mutation
from tests.mutations.run import ROOT, mutated


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.name for mutation in MUTATIONS])
def test_a_fault_applies_once_and_leaves_valid_python(mutation: Mutation) -> None:
    file = ROOT / "llmrec_cli" / mutation.file
    assert ast.dump(ast.parse(mutated(mutation))) != ast.dump(ast.parse(file.read_text("utf-8")))


def test_the_files_of_tests_are_there() -> None:
    # A test alone may be renamed: `run.py` then takes its whole file.
    files = {name.partition("::")[0] for mutation in MUTATIONS for name in mutation.tests.split()}
    assert [name for name in sorted(files) if not (ROOT / name).is_file()] == []


def test_every_mutation_has_a_distinct_name() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
