"""Texts from templates, without stray punctuation around missing values."""

import pytest

from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.texts.templates import Template, join_all, values_of

COLUMNS = {name: name for name in ("title", "year", "genres", "brand", "item_id")}


def render(template: str, **values: str) -> str:
    return Template(template, COLUMNS, "dataset.item_text").render(values)


def test_a_template_is_filled() -> None:
    assert render("{title} ({year}). {genres}", title="Alien", year="1979", genres="Horror") == "Alien (1979). Horror"


@pytest.mark.parametrize(("template", "values", "text"), [
    ("{title} ({year}). {genres}", {"title": "Alien", "genres": "Horror"}, "Alien. Horror"),
    ("{title} ({year}). {genres}", {"title": "Alien", "year": "1979"}, "Alien (1979)"),
    ("{title} ({year}). {genres}", {"title": "Alien"}, "Alien"),
    ("{title} ({year}, {brand})", {"title": "Alien", "brand": "Fox"}, "Alien (Fox)"),
    ("{title} ({year}, {brand})", {"title": "Alien", "year": "1979"}, "Alien (1979)"),
    ("{title} ({year}, {brand})", {"title": "Alien"}, "Alien"),
    ("{brand}: {title}", {"title": "Alien"}, "Alien"),
    ("{title}. Genres: {genres}. Year: {year}", {"title": "Alien", "year": "1979"}, "Alien. Year: 1979"),
    ("{title} - {brand}.", {"title": "Alien"}, "Alien."),
    ("({year}) {title}", {"title": "Alien"}, "Alien"),
    ("A film: {title}", {}, "")])
def test_a_missing_value_leaves_nothing_stray(template: str, values: dict[str, str], text: str) -> None:
    assert render(template, **values) == text


def test_values_are_never_rewritten() -> None:
    assert render("{title} ({year})", title="{year}: (), [..", year="1") == "{year}: (), [.. (1)"


def test_a_full_stop_is_not_doubled() -> None:
    assert render("{title}. {genres}", title="Airplane!", genres="Comedy") == "Airplane! Comedy"


def test_braces_are_written_twice() -> None:
    assert render("{{{title}}}", title="Alien") == "{Alien}"


def test_an_unknown_column_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"dataset.item_text=\{titel\}: no column 'titel' \(did you mean 'title'\?\)"):
        render("{titel}")


@pytest.mark.parametrize("template", ["{title", "title}", "{}", "{title} {"])
def test_a_lonely_brace_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match="unbalanced"):
        render(template)


def test_without_a_template_all_columns_but_links_are_joined() -> None:
    assert join_all(["Alien.", "", "1979", "https://x/y.jpg"]) == "Alien. 1979"


def test_a_list_is_a_json_array_or_divided_by_the_separator() -> None:
    assert values_of("a| b||a", "|") == ["a", "b"]
    assert values_of('["x|y", 3, null]', "|") == ["x|y", "3"]
    assert values_of("[not json]", "|") == ["[not json]"]
