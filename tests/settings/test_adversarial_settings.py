"""Combinations of heads and adversaries, checked when composing."""

import pytest

from llmrec_cli.config import compose
from llmrec_cli.errors import ConfigError


def problems(*typed):
    with pytest.raises(ConfigError) as caught:
        compose("finetune", typed)
    return caught.value.problems


def member(settings, name):
    return settings.head.members[name].adversarial.kind


@pytest.mark.parametrize("kind", ["none", "fgm", "pgd", "freelb", "virtual"])
def test_a_head_that_reads_texts_takes_every_adversary_of_texts(kind):
    assert compose("finetune", ["head=two_tower", f"adversarial={kind}"]).adversarial.kind == kind


@pytest.mark.parametrize("head", ["mf", "neural_cf", "factorization_machine"])
def test_heads_that_learn_embedding_rows_support_apr(head):
    settings = compose("finetune", [f"head={head}", "loss=bpr", "adversarial=apr", "adversarial.epsilon=0.3"])
    assert settings.adversarial.epsilon == 0.3


def test_an_unsupported_adversary_is_refused_with_the_supported_ones():
    assert problems("head=two_tower", "adversarial=apr") == [
        "adversarial=apr: has no effect on head=two_tower; choose one of none, fgm, pgd, freelb, virtual"]
    assert problems("head=mf", "adversarial=fgm") == [
        "adversarial=fgm: has no effect on head=mf; choose one of none, apr"]
    assert problems("head=popularity", "adversarial=fgm")[0].startswith("adversarial=fgm: has no effect")


def test_a_top_level_adversary_applies_to_members_that_support_it():
    typed = ["head=fusion", "head.members={mf: {head: mf}, tower: {head: two_tower}}", "adversarial=freelb"]
    settings = compose("finetune", typed)
    assert (member(settings, "tower"), member(settings, "mf")) == ("freelb", "none")
    settings = compose("finetune", [*typed[:2], "adversarial=apr"])
    assert (member(settings, "tower"), member(settings, "mf")) == ("none", "apr")


def test_an_adversary_that_no_member_supports_is_refused():
    messages = problems("head=fusion", "adversarial=fgm", "head.members.mf={head: mf}")
    assert messages[0].startswith("adversarial=fgm: has no effect, since head=fusion does not use it")


def test_an_unsupported_adversary_of_a_member_is_refused_with_the_members_name():
    messages = problems("head=fusion", "head.members.mf={head: mf, adversarial: fgm}")
    assert messages == ["head.members.mf.adversarial=fgm: has no effect on head=mf; choose one of none, apr"]
