"""llmrec init: the file it writes, the commands it prints, and what it refuses."""

import contextlib
import json
import shlex
from pathlib import Path

import pytest

from tests.ingest.drafts.messy_exports import german_shop


def test_init_names_the_commands_that_follow_and_never_writes_over_a_file(llmrec, tmp_path: Path) -> None:
    files = german_shop(tmp_path)
    done = llmrec("init", *files, "output=my.yaml")
    assert (done.code, done.out) == (0, "llmrec prepare settings=my.yaml\nllmrec finetune settings=my.yaml\n"
                                        "llmrec evaluate settings=my.yaml\n"
                                        "llmrec finetune settings=my.yaml refit=all\n"
                                        "llmrec recommend settings=my.yaml queries=all k=20 output=lists.csv\n")
    assert "artikel.csv: ';' between fields, windows-1252, decimal comma in Preis" in done.err
    assert not Path("runs").exists()
    before = Path("my.yaml").read_bytes()
    again = llmrec("init", *files, "output=my.yaml")
    assert (again.code, Path("my.yaml").read_bytes()) == (2, before)
    assert "output=my.yaml: exists already and is not written over; name another file, output=<name>.yaml" in again.err


@pytest.mark.slow
def test_the_printed_commands_run_and_each_takes_what_is_added_to_the_file(llmrec, tmp_path: Path) -> None:
    commands = llmrec("init", *german_shop(tmp_path), "output=my shop.yaml").out.splitlines()
    drafted = Path("my shop.yaml").read_text("utf-8")
    assert drafted.endswith("\nencoder: lsa\n"), "the articles are German"
    assert "kind: lsa" in llmrec("finetune", "settings=my shop.yaml", "--cfg", "job").out
    other = llmrec("finetune", "settings=my shop.yaml", "head=item_knn", "--cfg", "job")
    assert (other.code, "no effect with head=item_knn: encoder=lsa" in other.err) == (0, True)
    Path("my shop.yaml").write_text(drafted.replace("encoder: lsa\n", "head: ease\nseed: 5\n") +
                                    "evaluate: {num_bootstrap: 100, k: 7}\n", "utf-8")
    assert [shlex.split(command)[:2] for command in commands] == [
        ["llmrec", command] for command in ("prepare", "finetune", "evaluate", "finetune", "recommend")]
    for command in commands:
        done = llmrec(*shlex.split(command)[1:])
        assert done.code == 0, done.err
    assert "ndcg@7" in json.loads(Path("runs/evaluate/latest/metrics.json").read_text())["metrics"]
    assert len(Path("lists.csv").read_text("utf-8").splitlines()) > 20


@pytest.mark.parametrize(("words", "said"), [
    ([], "files: missing; name your files, llmrec init <interactions file> <items file>"),
    (["nothing.csv"], "files=nothing.csv: no such file"),
    (["x.csv", "output=shop.json"], "output=shop.json: must end in .yaml"),
    (["x.csv", "output=no/shop.yaml"], "output=no/shop.yaml: there is no folder no")])
def test_what_init_cannot_use_is_named(llmrec, words: list[str], said: str) -> None:
    with contextlib.suppress(FileExistsError):
        Path("x.csv").write_text("a,b\n1,2\n")
    done = llmrec("init", *words)
    assert done.code in (2, 3)
    assert said in done.err
