"""References between settings, by path, to values only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec_cli.errors import ConfigError
from llmrec_cli.references import MAX_REFERENCES, escape, resolve_references, resolver_in


def test_absolute_and_relative_references_are_resolved():
    plain = {"seed": 7, "head": {"l2": 0.5, "same": "${.l2}", "k": "${seed}", "deep": {"up": "${..l2}"},
                                 "all": "${lists}"}, "lists": [1, {"x": None}], "first": "${lists.0}"}
    assert resolve_references(plain) == {"seed": 7, "head": {"l2": 0.5, "same": 0.5, "k": 7, "deep": {"up": 0.5},
                                                   "all": [1, {"x": None}]}, "lists": [1, {"x": None}], "first": 1}


def test_references_inside_texts_are_resolved():
    assert resolve_references({"a": "runs/${b}-${c}-${d}", "b": "x", "c": 3, "d": True}) == {
        "a": "runs/x-3-true", "b": "x", "c": 3, "d": True}


@given(st.text("ab\\${}.:", max_size=20))
def test_any_text_that_was_typed_comes_through_unchanged(text):
    assert resolve_references({"a": escape(text)}) == {"a": text}


def test_an_escaped_reference_stays_escaped_when_another_setting_refers_to_it():
    assert resolve_references({"a": escape("${b}"), "c": "${a}"}) == {"a": "${b}", "c": "${b}"}


@pytest.mark.parametrize(("text", "message"), [
    ("${oc.env:HOME}", "a config cannot read the environment"), ("${oc.env:HOME,x}", '<setting>="$HOME"'),
    ("${oc.decode:'1'}", "compute values"), ("${now:%Y}", "compute"), ("${hydra:runtime.cwd}", "compute"),
    ("x${oc.create:{a: 1}}", "compute"), ("${a${b}}", "compute"), ("${oc.${b}:HOME}", "compute"), ("${", "compute"),
    ("${}", "compute"), ("${ b}", "compute"), ("\\\\${oc.env:HOME}", "compute"), ("${nothing}", "leads nowhere"),
    ("${b.c}", "leads nowhere"), ("${....b}", "more dots than"), ("${a}", "leads to another reference"),
    ("${d}", "leads to another reference"), ("x${e}", "not a text or number")])
def test_anything_else_is_refused_by_the_name_of_its_setting(text, message):
    with pytest.raises(ConfigError) as error:
        resolve_references({"a": text, "b": 1, "d": ["${b}"], "e": {}})
    assert error.value.problems[0].startswith("a=")
    assert message in error.value.problems[0]


def test_references_cannot_grow_a_small_config_into_a_large_one():
    bomb = {"a0": "x" * 1000} | {f"a{n}": f"${{a{n - 1}}}" * 2 for n in range(1, 40)}
    with pytest.raises(ConfigError, match="leads to another reference"):
        resolve_references(bomb)
    with pytest.raises(ConfigError, match=f"at most {MAX_REFERENCES} are allowed"):
        resolve_references({"a": "x" * 1000, "b": "${a}" * (MAX_REFERENCES + 1)})


def test_a_resolver_is_found_wherever_it_stands():
    assert resolver_in("x ${a} ${oc.env:HOME} y") == "${oc.env:HOME} y"
    assert [resolver_in(text) for text in ("", "$", "{a}", "${a}", "\\${oc.env:HOME}", "${.a.b}")] == [None] * 6
