"""Every phrase of the pages has both languages with the same placeholders, and pages show the chosen language."""

import ast
import json
import pickle
import re
import string
from pathlib import Path

import pytest
from jinja2 import Environment, nodes

import llmrec_cli
from llmrec_cli.config import compose
from llmrec_cli.data.filter_reasons import FILTER_REASONS
from llmrec_cli.errors import ConfigError
from llmrec_cli.language.chinese import TABLE
from llmrec_cli.language.phrases import Joined, Phrase, fixed_phrase, translate
from llmrec_cli.metrics.metric import SYMBOLS
from llmrec_cli.metrics.table import METRICS
from llmrec_cli.report.candidates import CANDIDATE_NOTES
from llmrec_cli.settings.objective import OBJECTIVES
from llmrec_cli.settings.stages import COMMANDS, EvaluateConfig

PACKAGE = Path(llmrec_cli.__file__).parent
TEMPLATES = sorted(PACKAGE.glob("report/*.j2"))


def words(template):
    """The template without its placeholders."""
    return re.sub(r"\{[^}]*\}", "", template)


def templates_in_code():
    for file in PACKAGE.rglob("*.py"):
        if "language" not in file.parts:
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if (isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Phrase", "text") and node.args
                        and isinstance(node.args[0], ast.Constant)):
                    yield node.args[0].value


def templates_in_pages():
    for file in TEMPLATES:
        for call in Environment().parse(file.read_text("utf-8")).find_all(nodes.Call):
            if getattr(call.node, "name", "") == "phrase" and isinstance(call.args[0], nodes.Const):
                yield call.args[0].value


def templates_in_tables():
    for metric in METRICS.values():
        yield from (metric.definition, metric.use, metric.formula, *filter(None, [metric.axis]))
    yield from (SYMBOLS, *FILTER_REASONS.values(), *(sentence for _, sentence in CANDIDATE_NOTES))
    yield from (settings.in_words for settings in OBJECTIVES.values())
    for noun in ("user", "group", "item"):
        yield from (noun, f"{noun}s", noun.title(), f"{noun.title()}s")


EVERY = {str(template) for source in (templates_in_code, templates_in_pages, templates_in_tables)
         for template in source() if re.search("[A-Za-z]{2}", words(template))}
FORMULAS = {metric.formula for metric in METRICS.values()}


def placeholders(template):
    return sorted({(name, spec) for _, name, spec, _ in string.Formatter().parse(template) if name is not None})


def only_symbols(formula):
    """True for a formula of metric names, symbols and functions, which is the same in every language."""
    return not set(re.findall("[a-z_]{2,}", formula)) - {"log", "max", "min", "propensity", *METRICS}


def test_every_phrase_has_a_chinese_template():
    missing = {template for template in EVERY - set(TABLE) if template not in FORMULAS or not only_symbols(template)}
    assert not missing, json.dumps(sorted(missing), indent=0, ensure_ascii=False)


def test_both_languages_have_the_same_placeholders():
    assert [english for english, chinese in TABLE.items() if placeholders(english) != placeholders(chinese)] == []


def test_every_chinese_template_is_used_and_is_in_chinese():
    constants = {node.value for file in PACKAGE.rglob("*.py") if not file.name.startswith("chinese_")
                 for node in ast.walk(ast.parse(file.read_text("utf-8")))
                 if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    # Notes of the audit become sentences on its page.
    constants |= {f"{text[:1].upper()}{text[1:]}." for text in constants}
    assert sorted(set(TABLE) - EVERY - constants) == []
    own = {english for english, chinese in TABLE.items() if not re.search("[\u4e00-\u9fff]", words(chinese))}
    assert all(len(re.findall("[A-Za-z]{2,}", words(english))) <= 1 for english in own)


def test_pages_hold_no_text_outside_of_phrases():
    for file in TEMPLATES:
        page = Environment().parse(file.read_text("utf-8"))
        text = "".join(data.data for data in page.find_all(nodes.TemplateData))
        text = re.sub(r"<style>.*?</style>|<[^>]*>|\{[^}]*\}", "", re.sub(r"(?s)^.*?<body>", "", text))
        assert not re.findall("[A-Za-z]{2,}", re.sub(r"[.#]?[\w-]+\s*\{|[\w.:, ()-]+;", "", text)), file


def test_a_phrase_is_english_text_everywhere_and_its_translation_on_request():
    phrase = Phrase("{num:,} {audience}", num=1200, audience=Phrase("users"))
    assert (phrase, json.dumps(phrase), f"{phrase}.") == ("1,200 users", '"1,200 users"', "1,200 users.")
    assert translate(phrase, "en") == "1,200 users"
    assert translate(phrase, "zh") == "1,200 个用户"
    assert translate(Joined([Phrase("models"), "EASE"]), "zh") == "模型、EASE"
    assert translate(Joined([Phrase("models"), "EASE"]), "en") == "models, EASE"
    assert translate("users", "zh") == "users"
    again = pickle.loads(pickle.dumps(Joined([phrase], "; ")))
    assert translate(again, "zh") == "1,200 个用户"


@pytest.mark.parametrize("text", ["{", "{0}", "{name}", "a } b"])
def test_braces_in_data_are_taken_literally(text):
    assert fixed_phrase(text) == translate(fixed_phrase(text), "zh") == text
    assert translate(Phrase("{model} in detail", model=text), "zh") == f"{text} 的细节"


def test_the_commands_that_write_pages_take_a_language_and_refuse_an_unknown_one():
    assert {name for name, settings in COMMANDS.items() if hasattr(settings, "language")} == {
        "prepare", "pretrain", "evaluate"}
    assert "language=fr: choose one of en, zh" in " ".join(EvaluateConfig(language="fr").problems())
    with pytest.raises(ConfigError, match=r"language=fr: choose one of en, zh"):
        compose("prepare", ["language=fr", "dataset.interactions=x.csv"])
    assert "about=ease: has an effect only with several models" in " ".join(EvaluateConfig(about="ease").problems())
