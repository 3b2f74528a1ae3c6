"""The site of docs/, as scripts/build_site.py builds it."""

import functools
import json
import re
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from scripts.build_site import pages, rewrite
from tests.browser import browse, needs_browser

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
NAMES = pages()
SEARCH = """<!doctype html><meta charset="utf-8"><iframe id="f" src="{page}"></iframe><img src="/wait"><script>
const found = () => f.contentDocument?.querySelectorAll(".md-search-result__item") ?? []
const poll = setInterval(() => { if (found().length) { clearInterval(poll); fetch("/found") } }, 100)
onload = () => document.body.replaceChildren(...found())
</script>"""
"""A page around a page of the site. It is loaded, and so printed by the browser, when the search has results."""


class Site(SimpleHTTPRequestHandler):
    """Serves the site, the page around it, and an image that comes when the search has results, or after a minute."""

    around, found = "", threading.Event()

    def do_GET(self):
        if self.path not in ("/search", "/wait", "/found"):
            super().do_GET()
            return
        if self.path == "/wait":
            self.found.wait(60)
        if self.path == "/found":
            self.found.set()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.around.encode() if self.path == "/search" else b"")

    def log_message(self, *_):
        """Print nothing."""


def test_links_follow_the_pages_to_their_names_on_the_site():
    page = "[Data](../data/README.md#splits), [`here`](heads.md), [why](decisions/index.md), [bench](../benchmarks/)"
    assert rewrite(page, DOCS / "index.md", NAMES) == (
        "[Data](data.md#splits), [`here`](heads.md), [why](decisions/index.md), bench")
    assert rewrite("[why](../docs/decisions/index.md)", ROOT / "data/README.md", NAMES) == "[why](decisions/index.md)"


def test_a_chinese_page_links_to_chinese_pages_where_there_are_any():
    page = "[Data](your-data.md), [heads](../heads.md), [English](../index.md)"
    assert rewrite(page, DOCS / "zh/index.md", NAMES) == (
        "[Data](your-data.md), [heads](heads.md), [English](../index.html)")
    assert rewrite("[中文](zh/index.md)", DOCS / "index.md", NAMES) == "[中文](zh/index.html)"


def test_code_and_links_to_other_sites_stay_as_they_are():
    page = "`[a](heads.md)` [site](https://example.org/x.md)\n```\n[b](../README.md)\n```\n"
    assert rewrite(page, DOCS / "index.md", NAMES) == page


def test_the_menu_of_the_site_has_every_page():
    menu = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE))
    decisions = {name for name in NAMES.values() if name.startswith("decisions/0")}
    assert {name for name in NAMES.values() if not name.endswith(".zh.md")} - decisions == menu


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("built") / "site"
    # Links that lead nowhere end the build, since it is strict.
    done = subprocess.run([sys.executable, ROOT / "scripts/build_site.py", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_the_site_has_both_languages_and_search_and_loads_nothing_from_elsewhere(site):
    html = {path: path.read_text("utf-8") for path in site.rglob("*.html")}
    assert len(html) > 50
    for path, page in html.items():
        loaded = re.findall(r"""<(?:script|img|iframe|source|video)\b[^>]*\bsrc=["']?([^"'\s>]+)""", page)
        loaded += re.findall(r"""<link\b(?![^>]*rel=.?(?:canonical|alternate))[^>]*href=["']?([^"'\s>]+)""", page)
        assert loaded, path
        assert [link for link in loaded if re.match(r"(https?:)?//", link)] == [], path
        # Material draws diagrams with a script of another server.
        assert 'class="mermaid"' not in page, path
    styles = "".join(path.read_text("utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"url\(['\"]?(?:https?:)?//[^)]*|@import[^;]*", styles) == []
    assert "快速上手" in html[site / "zh/quickstart.html"]
    assert 'lang="zh"' in html[site / "zh/index.html"]
    assert "zh/quickstart.html" in html[site / "quickstart.html"]
    index = json.loads((site / "search/search_index.json").read_text("utf-8"))
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {"quickstart.html", "settings.html", "zh/quickstart.html"} <= found


@pytest.mark.slow
@needs_browser
def test_the_search_finds_every_character_of_a_chinese_word(site, tmp_path):
    Site.around = SEARCH.replace("{page}", f"/zh/index.html?q={quote('编码器')}")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Site, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        dom = browse(tmp_path, f"http://127.0.0.1:{server.server_port}/search", "--dump-dom")
        server.shutdown()
    assert set(re.findall("<mark[^>]*>([^<]+)</mark>", dom)) == set("编码器")
    # Material strikes out words of the query that a result does not have.
    assert "<del>" not in dom
