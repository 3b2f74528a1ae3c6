"""The notebook and the page for Python run from the first to the last cell, in an empty folder."""

import ast
import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOK = DOCS / "notebooks/quickstart.ipynb"
LONGEST_OUTPUT = 1000


def code_cells():
    return [cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def run_cell(text, names):
    """Run a cell and return the value of its last line if this is an expression, as Jupyter does."""
    tree = ast.parse(text)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(tree, "<cell>", "exec"), names)
        return None if last is None else eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)


def stored(cell):
    """Return the outputs of a cell as text."""
    return ["".join(output["data"]["text/plain"]) for output in cell["outputs"]]


def test_the_outputs_in_the_notebook_are_short_texts():
    outputs = [text for cell in code_cells() for text in stored(cell)]
    assert len(outputs) > 5
    assert max(map(len, outputs)) < LONGEST_OUTPUT
    assert all(list(output["data"]) == ["text/plain"] for cell in code_cells() for output in cell["outputs"])
    assert "/tmp/" not in NOTEBOOK.read_text("utf-8")


@pytest.mark.slow
def test_the_notebook_runs_and_gives_tables_with_the_stored_columns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for cell in code_cells():
        source = "".join(cell["source"]).replace("tempfile.mkdtemp()", "'.'")
        value = run_cell(source, names)
        assert (repr(value).splitlines()[:1] if value is not None else []) == [
            text.splitlines()[0] for text in stored(cell)], source


@pytest.mark.slow
def test_the_python_in_the_page_runs(tiny_files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny_files / "interactions.csv", "clicks.csv")
    shutil.copy(tiny_files / "items.csv", "products.csv")
    names, page = {}, (DOCS / "python.md").read_text("utf-8")
    for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        run_cell(block, names)
    assert names["newest"].folder == names["tuned"].folder
    assert set(names["lists"]["rank"]) == set(range(1, 11))
    assert {"item_knn", "ease"} <= set(names["result"].metrics["model"])
