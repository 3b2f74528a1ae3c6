"""llmrec init, and prepare with what it wrote: three messy exports, every row accounted for."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llmrec_cli.run_dir import NoRunDir, RunDir
from llmrec_cli.settings.stages import InitConfig
from llmrec_cli.stages import init, prepare
from tests.ingest.drafts.messy_exports import chinese_shop, event_stream, german_shop
from tests.ingest.drafts.shop_settings import settings_of
from tests.some_slow import some_slow


@pytest.mark.parametrize(("shop", "counts", "first"), some_slow([
    (german_shop, (300, 40, 35), {"item_text": "{Bezeichnung}. {Beschreibung}", "timestamp_format": "%d.%m.%Y %H:%M"}),
    (chinese_shop, (300, 40, 35), {"event_weights": {"浏览": 1, "收藏": 2, "加购": 3, "购买": 5}}),
    (event_stream, (399, 30, 30), {"columns": {"user_id": "user.id", "item_id": "items[].sku", "value": "items[].qty",
                                               "timestamp": "ts"}})]))
def test_a_messy_export_is_prepared_with_the_drafted_settings(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shop: Callable[[Path], list[str]],
        counts: tuple[int, int, int], first: dict[str, object]) -> None:
    monkeypatch.chdir(tmp_path)
    init.run(InitConfig(files=shop(tmp_path)), NoRunDir())
    settings = settings_of(Path("shop.yaml"))
    assert {key: getattr(settings.dataset, key) for key in first} == first
    prepare.run(settings, RunDir.create("prepare"))
    manifest = json.loads(Path("data/prepared/shop/manifest.json").read_text())
    found = manifest["counts"]
    assert (found["read"], found["users"], found["items"]) == counts
    assert found["rejected"] == found["items_rejected"] == 0
    assert found["read"] == found["interactions"] + found["duplicates"]
    assert not manifest.get("formats"), "formats are given now"


def test_init_names_the_commands_that_follow_and_never_writes_over_a_file(llmrec, tmp_path: Path) -> None:
    files = german_shop(tmp_path)
    done = llmrec("init", *files, "output=my.yaml")
    assert (done.code, done.out) == (0, "llmrec prepare settings=my.yaml\nllmrec finetune settings=my.yaml\n"
                                        "llmrec evaluate\n"
                                        "llmrec recommend settings=my.yaml queries=all k=20 output=lists.csv\n")
    assert "artikel.csv: ';' between fields, windows-1252, decimal comma in Preis" in done.err
    assert not Path("runs").exists()
    before = Path("my.yaml").read_bytes()
    again = llmrec("init", *files, "output=my.yaml")
    assert (again.code, Path("my.yaml").read_bytes()) == (2, before)
    assert "output=my.yaml: exists already and is not written over; name another file, output=<name>.yaml" in again.err


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
