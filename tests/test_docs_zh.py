"""Chinese pages beside the English ones: same commands in the same order; texts and contents of files differ."""

import re
from pathlib import Path

import pytest

from tests.test_docs import commands_of

ROOT = Path(__file__).parent.parent
PAIRS = {ROOT / "README.zh.md": ROOT / "README.md",
         **{page: ROOT / "docs" / page.name for page in sorted((ROOT / "docs/zh").glob("*.md"))}}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def without_texts(code):
    """Return commands without what may differ: contents of files, comments, and descriptions in words."""
    code = re.sub(r"<<'(\w+)'\n.*?^\1$", "<< <contents>", code, flags=re.MULTILINE | re.DOTALL)
    code = re.sub(r"query\.text=('[^']*'|\S+)", "query.text=<text>", code)

    return [line.rstrip() for line in re.sub(r"(^|\s)# .*", "", code, flags=re.MULTILINE).splitlines() if line.strip()]


def blocks(page):
    return [(language, without_texts(code)) for language, code in BLOCK.findall(page.read_text("utf-8"))]


def levels(page):
    """Return the levels of the headings, for example ['#', '##', '##']."""
    return re.findall(r"^(#+) ", BLOCK.sub("", page.read_text("utf-8")), re.MULTILINE)


@pytest.mark.parametrize(("chinese", "english"), PAIRS.items(), ids=lambda page: f"{page.parent.name}/{page.name}")
def test_a_chinese_page_has_the_commands_of_the_english_page_in_its_order(chinese, english):
    assert blocks(chinese) == blocks(english)
    assert ([without_texts(line) for line in commands_of(chinese)]
            == [without_texts(line) for line in commands_of(english)])
    assert levels(chinese) == levels(english)


def test_the_pages_of_the_first_day_are_there_in_chinese():
    assert {"README.zh.md", "index.md", "quickstart.md", "your-data.md", "recommend.md", "nightly.md"} <= {
        page.name for page in PAIRS}


def test_only_texts_comments_and_contents_may_differ():
    code = "cat > a <<'EOF'\nred\nEOF\nllmrec recommend query.text='red shoes' k=3  # shoes\n"
    assert without_texts(code) == without_texts(code.replace("red", "红").replace("shoes", "鞋"))
    assert without_texts(code) != without_texts(code.replace("k=3", "k=5"))
