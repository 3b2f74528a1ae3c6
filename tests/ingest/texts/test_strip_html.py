"""HTML becomes plain text; what only looks like HTML stays."""

import time

import pytest

from llmrec_cli.ingest.texts.text_rendering import strip_html


@pytest.mark.parametrize("text", [
    "a < b", "x<3", "I <3 you", "AT&T", "R&B", "Q&A; more", "List<String> names", "1 < 2 > 0", "a & b &; c &# d",
    "<http://x.y/z>", "<me@example.org>", "<!-- never closed", "a <b", "&copy without its end", "&notanentity;",
    "  two  spaces  ", "שלום < עולם", ""])
def test_text_that_only_looks_like_html_stays(text: str) -> None:
    assert strip_html(text) == text


@pytest.mark.parametrize(("html", "text"), [
    ("<p>One</p><p>two</p>", "One two"), ("one<br>two<BR/>three<br />four", "one two three four"),
    ("<b>bo</b>ld", "bold"), ("a <b>bold</b>, word", "a bold, word"), ("<ul><li>a</li><li>b</li></ul>", "a b"),
    ("a  \n <br>\n  b", "a b"), ("white \t <i>space</i>  collapses ", "white space collapses"),
    ('<a href="x>y" title=\'<b>\'>link</a>', "link"), ("wo<!-- a <b> comment -->rd", "word"),
    ("a<script type='x'>if (a < b) { alert('<p>') }</script> b<style>\np {}\n</style>", "a b"),
    ("The <script> tag", "The tag"), ("<!DOCTYPE html><html><body>x</body></html>", "x"),
    ("<o:p>Word</o:p><my-tag>own</my-tag>", "Wordown"), ("<p></p>", "")])
def test_tags_and_comments_go(html: str, text: str) -> None:
    assert strip_html(html) == text


@pytest.mark.parametrize(("html", "text"), [
    ("R&amp;B", "R&B"), ("&lt;b&gt; is bold", "<b> is bold"), ("&amp;lt;", "&lt;"),
    ("caf&eacute; &#9733;&#x2605;", "café ★★"), ("AT&T &amp; co", "AT&T & co"), ("&quot;a&#39;b&quot;", "\"a'b\"")])
def test_entities_are_read_once(html: str, text: str) -> None:
    assert strip_html(html) == text


@pytest.mark.parametrize("piece", ["<", "<a ", '<a "', "<a '\"", "<!--", "<script>", "<style ", "&", "&a", " <", "<b>",
                                   "<a-", "<a:b-", "</script", "<!doctype ", "&#1", "<a \"'", "<br> "])
def test_an_adversarial_text_takes_linear_time(piece: str) -> None:
    text = piece * ((1 << 18) // len(piece))
    start = time.process_time()
    for end in ("", ">", '">', "-->", "</script>"):
        strip_html(text + end)
    assert time.process_time() - start < 10
