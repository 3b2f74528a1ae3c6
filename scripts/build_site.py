"""Build the site of docs/ with MkDocs: `python scripts/build_site.py <folder>`, what `make docs` runs.

The pages are copied to build/docs: docs/zh/<page>.md becomes <page>.zh.md, as mkdocs-static-i18n needs it; README.md,
CONTRIBUTING.md and data/README.md get names of their own. Links follow; links to other files of the repository become
text.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGED = ROOT / "build/docs"
OUTSIDE = {"README.md": "about.md", "README.zh.md": "about.zh.md", "CONTRIBUTING.md": "contributing.md",
           "data/README.md": "data.md"}
"""Pages outside of docs/ -> their names on the site."""
# Blocks of code, links (their text may contain code), and code in a sentence.
_LINK = re.compile(r"^ *```.*?^ *```|\[(?P<label>(?:`[^`\n]*`|[^\[\]`])*)\]\((?P<path>[^)\s]+)\)|`[^`\n]*`",
                   re.MULTILINE | re.DOTALL)
_CSS = """/* Tables of settings and code in cells wrap on narrow screens. */
.md-typeset table:not([class]) code { overflow-wrap: anywhere; word-break: normal; white-space: normal; }
.md-typeset table:not([class]) th { min-width: 4rem; }
.md-typeset table:not([class]) th:first-child { min-width: 8rem; }
@media (max-width: 30em) {
  .md-typeset table:not([class]) :is(th, td) { padding: .5em; }
  .md-typeset table:not([class]) th { min-width: 3.5rem; }
  .md-typeset table:not([class]) th:first-child { min-width: 5rem; }
}
"""
_JS = """// Material cuts the Chinese of a query into words of the index, and its loops leave out the last character
// (query/segment/index.ts). Characters that stand alone are not cut; "+" requires all of them, as in a word.
const post = Worker.prototype.postMessage
Worker.prototype.postMessage = function (message, ...rest) {
  const query = message?.data
  if (typeof query === "string" && /\\p{sc=Han}/u.test(query))
    message = {...message, data: query.replace(/"/g, " ").replace(/\\p{sc=Han}/gu, " +$& ")}
  return post.call(this, message, ...rest)
}
"""


def pages() -> dict[Path, str]:
    """Return the pages, source -> name on the site; Chinese pages end in .zh.md."""
    found = {ROOT / source: name for source, name in OUTSIDE.items() if (ROOT / source).exists()}
    for source in sorted((ROOT / "docs").rglob("*.md")):
        path = source.relative_to(ROOT / "docs")
        found[source] = f"{path.stem}.zh.md" if path.parts[0] == "zh" else path.as_posix()
    return found


def rewrite(text: str, source: Path, names: dict[Path, str]) -> str:
    """Return a page with links that hold on the site; code is left as it is."""
    return _LINK.sub(lambda match: _rewritten(match, source, names) if match["path"] else match[0], text)


def _rewritten(link: re.Match[str], source: Path, names: dict[Path, str]) -> str:
    label, (path, _, anchor) = link["label"], link["path"].partition("#")
    if "://" in path or not path:
        return link[0]
    target = names.get((source.parent / path).resolve())
    if target is None:
        return label
    here, end = names[source], f"#{anchor}" if anchor else ""
    chinese, to_chinese = here.endswith(".zh.md"), target.endswith(".zh.md")
    base = target.replace(".zh.md", ".md")
    if chinese != to_chinese and (to_chinese or base.replace(".md", ".zh.md") in names.values()):
        # To the page in the other language, which the site keeps in a folder; a plain link to the built file.
        return f"[{label}]({'zh/' if to_chinese else '../'}{base.replace('.md', '.html')}{end})"
    return f"[{label}]({os.path.relpath(base, Path(here).parent)}{end})"


def stage() -> None:
    """Write all pages to build/docs."""
    shutil.rmtree(STAGED, ignore_errors=True)
    names = pages()
    for source, name in names.items():
        (STAGED / name).parent.mkdir(parents=True, exist_ok=True)
        (STAGED / name).write_text(rewrite(source.read_text("utf-8"), source, names), "utf-8")
    (STAGED / "site.css").write_text(_CSS)
    (STAGED / "site.js").write_text(_JS)


def main(folder: str) -> int:
    """Build the site in a folder; warnings, such as a link that leads nowhere, are errors."""
    folder = str(Path(folder).resolve())
    stage()
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", folder]
    # Material prints an advertisement of another program otherwise.
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
