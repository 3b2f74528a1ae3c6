"""The script of a text is that of most of its letters."""

import pyarrow as pa
import pytest

from llmrec_cli.data.scripts import NAMES, Scripts


def dominant(*texts: str) -> dict[str, int]:
    scripts = Scripts()
    scripts.add(pa.array(texts))
    return {NAMES[n]: int(count) for n, count in enumerate(scripts.counts) if count}


@pytest.mark.parametrize(("text", "script"), [
    ("Alien", "Latin"), ("Amélie, 2001", "Latin"), ("千と千尋の神隠し", "Han"), ("となりのトトロ", "Hiragana/Katakana"),
    ("기생충", "Hangul"), ("Солярис", "Cyrillic"), ("أحلام", "Arabic"), ("ואלס", "Hebrew"), ("लगान", "Devanagari"),
    ("ลุงบุญมี", "Thai"), ("Κυνόδοντας", "Greek"), ("Ամեն", "other"), ("1984", "none"), ("🎬 – 2", "none")])
def test_the_script_of_most_letters_is_dominant(text: str, script: str) -> None:
    assert dominant(text) == {script: 1}


def test_scripts_of_many_texts_are_counted_per_text() -> None:
    assert dominant("Alien", "Солярис", "Stalker 1979", "7", "Сталкер", "é") == {"none": 1, "Latin": 3, "Cyrillic": 2}


def test_two_scripts_are_mixed_but_japanese_is_one() -> None:
    scripts = Scripts()
    scripts.add(pa.array(["Солярис Solaris", "千と千尋の神隠し", "Solaris", "Solaris is a film by А. Tarkovsky"]))
    assert scripts.mixed == 1
