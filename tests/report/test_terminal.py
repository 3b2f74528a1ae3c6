"""Printed tables have no control characters and line up."""

from llmrec_cli.report.terminal import columns, display_width, headline_table, p_value, printable


def test_terminal_escapes_in_titles_are_written_out():
    assert printable("\x1b[2JAlien\x07") == "\\x1b[2JAlien\\x07"
    assert printable("a\nb\rc\u2028d") == "a\\nb\\rc\\u2028d"


def test_bidirectional_control_characters_are_printed_as_text():
    assert printable("abc\u202etxt.exe") == "abc\\u202etxt.exe"


def test_titles_of_all_scripts_stay_as_they_are():
    for title in ("Amélie", "千と千尋の神隠し", "می‌خواهم", "👨‍👩‍👧", "Ёлки 3"):
        assert printable(title) == title


def test_half_of_a_surrogate_pair_does_not_stop_the_printing():
    printable("broken \ud83d title").encode("utf-8")


def test_columns_line_up_also_with_wide_characters():
    lines = columns(["title", "n"], [["千と", "1"], ["ab", "10"]]).split("\n")
    assert {display_width(line) for line in lines} == {9}
    assert lines[2] == "千と    1"


def test_the_headline_table_is_plain_ascii():
    metrics = {"ndcg@10": {"mean": 0.25, "ci95": [0.2, 0.3]}}
    content = {"protocol": {"num_queries": 3}, "metrics": metrics, "baselines": {"popularity": metrics},
               "comparisons": {"popularity": {"ndcg@10": {"difference": 0, "ci95": [0, 0], "p": 1.0, "p_holm": 1.0}}}}
    table = headline_table("ease", content, 10)
    assert table.isascii()
    assert table.replace("\n", "").isprintable()
    assert "0.2500" in table
    assert "0.200-0.300" in table


def test_a_small_p_value_is_never_written_as_zero():
    assert [p_value(p) for p in (0.0, 0.00099, 0.001, 0.0449, 1.0)] == ["< .001", "< .001", "0.001", "0.045", "1.000"]
