"""Pages in a browser, at widths that its own window cannot have."""

import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on this machine to open pages in")
_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
          "--disable-background-networking", "--disable-component-update", "--disable-sync",
          "--allow-file-access-from-files"]
OVERFLOW = "page.scrollingElement.scrollWidth - page.scrollingElement.clientWidth"
"""Pixels by which a page is wider than its window, in JavaScript."""


def browse(folder: Path, address: str, *options: str) -> str:
    """Open an address, with a profile in `folder`, and return what the browser prints."""
    assert BROWSER is not None
    flags = [*_FLAGS, f"--user-data-dir={folder / 'profile'}", "--window-size=1400,2400"]
    return subprocess.run([BROWSER, *flags, *options, address], check=True, capture_output=True, text=True,
                          timeout=180).stdout


def measure(folder: Path, html: str, width: int, expression: str) -> str:
    """Return the value of a JavaScript expression on the document `page`: this HTML in a frame of this width."""
    (folder / "page.html").write_text(html, encoding="utf-8")
    frame = folder / "frame.html"
    frame.write_text(f'<!doctype html><iframe id="f" src="page.html" style="border: 0; width: {width}px; '
                     f'height: 2400px"></iframe><script>onload = () => {{ const page = f.contentDocument; '
                     f'document.body.textContent = "=" + ({expression}) + "=" }}</script>', encoding="utf-8")
    return unescape(browse(folder, frame.as_uri(), "--dump-dom")).split("=")[-2]
