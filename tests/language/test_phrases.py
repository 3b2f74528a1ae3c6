"""Every phrase of the pages has both languages with the same placeholders, and pages show the chosen language."""

import ast
import json
import re
import string
from pathlib import Path

import pytest
from jinja2 import Environment, nodes

import llmrec_cli
from llmrec_cli.config import compose
from llmrec_cli.data.filter_reasons import FILTER_REASONS
from llmrec_cli.data.reject_reasons import EMPTY, REJECT_REASONS, reason_phrase
from llmrec_cli.data.scripts import NAMES as SCRIPTS
from llmrec_cli.errors import ConfigError
from llmrec_cli.language.chinese import TABLE
from llmrec_cli.language.phrases import Joined, Phrase, fixed_phrase, translate
from llmrec_cli.metrics.metric import SYMBOLS
from llmrec_cli.metrics.table import METRICS
from llmrec_cli.publishing.checks import CHECKS
from llmrec_cli.settings.dataset import SYNTHETIC_GROUPS
from llmrec_cli.settings.evaluate import EvaluateConfig
from llmrec_cli.settings.objective import OBJECTIVES
from llmrec_cli.settings.protocols import PROTOCOLS
from llmrec_cli.settings.split import GROUP_RULES
from llmrec_cli.settings.stages import COMMANDS

PACKAGE = Path(llmrec_cli.__file__).parent
TEMPLATES = sorted(PACKAGE.glob("report/*.j2"))


def words(template):
    """The template without its placeholders."""
    return re.sub(r"\{[^}]*\}", "", template)


TREES = {file.relative_to(PACKAGE).as_posix(): ast.parse(file.read_text("utf-8"))
         for file in sorted(PACKAGE.rglob("*.py")) if "language" not in file.parts}
"""The modules of the package, parsed, without the Chinese templates."""
NODES = [(file, node) for file, tree in TREES.items() for node in ast.walk(tree)]


def phrases_in_code():
    """Yield the file and the first argument of each call that makes a phrase of a template."""
    for file, node in NODES:
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Phrase", "text") and node.args:
            yield file, node.args[0]


def templates_in_code():
    yield from (argument.value for _, argument in phrases_in_code() if isinstance(argument, ast.Constant))


def templates_in_notes():
    """Yield the templates in constants called ...NOTES; their keys have no placeholder."""
    for node in (node for tree in TREES.values() for node in tree.body):
        if isinstance(node, ast.Assign) and any(getattr(name, "id", "").endswith("NOTES") for name in node.targets):
            yield from (leaf.value for leaf in ast.walk(node.value)
                        if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str) and "{" in leaf.value)


def templates_in_pages():
    for file in TEMPLATES:
        for call in Environment().parse(file.read_text("utf-8")).find_all(nodes.Call):
            if getattr(call.node, "name", "") == "phrase" and isinstance(call.args[0], nodes.Const):
                yield call.args[0].value


def templates_in_tables():
    for metric in METRICS.values():
        yield from (metric.definition, metric.use, metric.formula, *filter(None, [metric.axis]))
    yield from (protocol.title for protocol in PROTOCOLS.values())
    yield from (SYMBOLS, *FILTER_REASONS.values(), *REJECT_REASONS, *SCRIPTS)
    yield from (check.sentence for check in CHECKS)
    yield from (settings.in_words for settings in OBJECTIVES.values())
    yield from (rule.replace("_", " ") for rule in (*GROUP_RULES, *SYNTHETIC_GROUPS, "clusters"))
    for noun in ("user", "group", "item"):
        yield from (noun, f"{noun}s", noun.title(), f"{noun.title()}s")


EVERY = {str(template) for source in (templates_in_code, templates_in_notes, templates_in_pages, templates_in_tables)
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
    constants = {node.value for _, node in NODES if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert sorted(set(TABLE) - EVERY - constants) == []
    own = {english for english, chinese in TABLE.items() if not re.search("[\u4e00-\u9fff]", words(chinese))}
    assert all(len(re.findall("[A-Za-z]{2,}", words(english))) <= 1 for english in own)


NOUNS = re.compile(r"f'\{[\w.]+\}s'|(\w+\.)?(kind|whose|audience|split|what|name)(\[:-1\])?(\.title\(\))?"
                   r"|audience_of\(metrics\)\[:-1\]\.title\(\)|f'\{side\.title\(\)\}s'"
                   r"|(str\()?\w+(\['protocol'\])?\.get\('audience', 'users'\)\)?")
"""Names of audiences and splits, which `templates_in_tables` and the audit's columns have."""


def test_templates_that_are_no_constants_are_in_tables_that_these_tests_read():
    others = {(file, ast.unparse(argument)) for file, argument in phrases_in_code()
              if not isinstance(argument, ast.Constant) and not NOUNS.fullmatch(ast.unparse(argument))}
    assert others == {
        ("data/reject_reasons.py", "template"), ("ingest/audit/leakage.py", "_NOTES[c['name']]"),
        ("ingest/audit/leakage.py", "template"), ("ingest/output/row_accounting.py", "template"),
        ("publishing/checks.py", "template"),
        ("metrics/metric.py", "' '.join((self.function.__doc__ or '').partition('\\n\\n')[0].split())"),
        ("evaluation/report_facts.py", "PROTOCOLS[cfg.protocol].title"), ("report/candidates.py", "sentence"),
        ("report/query_rows.py", "sentence"), ("report/pages.py", "SYMBOLS"), ("report/pages.py", "metric.formula"),
        ("report/pages.py", "metric.use"), ("report/plots.py", "label"), ("report/plots.py", "template")}


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


@pytest.mark.parametrize("template", REJECT_REASONS)
def test_every_reason_in_rejects_is_recognised(template):
    names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    values = {name: EMPTY if name == "reason" else f"a 'b' {name}" for name in names}
    reason = template.format(**values)
    found = reason_phrase(reason)
    assert (found, found.template) == (reason, template)
    assert not re.search("[A-Za-z]{3,} [A-Za-z]{3,}", re.sub("a 'b' [a-z]+", "", translate(found, "zh")))


def test_reasons_of_several_parts_are_recognised_and_other_texts_stay_as_they_are():
    assert translate(reason_phrase("'4,5' is not a number: it has a decimal comma"), "zh") == (
        "“4,5”不是数字：其中有小数逗号")
    escaped = "3 fields where the header has 2 (it has a \\ before a quote)"
    assert translate(reason_phrase(escaped), "zh") == "有 3 个字段，而表头有 2 个（引号前有 \\）"
    assert translate(reason_phrase("no {such} reason"), "zh") == "no {such} reason"


@pytest.mark.parametrize("text", ["{", "{0}", "{name}", "a } b"])
def test_braces_in_data_are_taken_literally(text):
    assert fixed_phrase(text) == translate(fixed_phrase(text), "zh") == text
    assert translate(Phrase("{model} in detail", model=text), "zh") == f"{text} 的细节"


def test_the_commands_that_write_pages_take_a_language_and_refuse_an_unknown_one():
    assert {name for name, settings in COMMANDS.items() if hasattr(settings, "language")} == {
        "prepare", "pretrain", "evaluate", "publish", "retrain"}
    assert "language=fr: choose one of en, zh" in " ".join(EvaluateConfig(language="fr").problems())
    with pytest.raises(ConfigError, match=r"language=fr: choose one of en, zh"):
        compose("prepare", ["language=fr", "dataset.interactions=x.csv"])
    assert "about=ease: has an effect only with several models" in " ".join(EvaluateConfig(about="ease").problems())
