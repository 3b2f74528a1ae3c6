"""init, and prepare with what it wrote: three messy exports, every row accounted for."""

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


@pytest.mark.parametrize(("shop", "drafted"), [
    (german_shop, {"columns": {"user_id": "Kundennr", "item_id": "Artikelnr", "value": "Menge", "timestamp": "Datum"},
                   "item_columns": {"title": "Bezeichnung"}, "item_text": "{Bezeichnung}. {Beschreibung}",
                   "attributes": {"Größe": "category", "Preis": "number", "Farbe": "category"},
                   "timestamp_format": "%d.%m.%Y %H:%M", "duplicates": "sum"}),
    (chinese_shop, {"columns": {"user_id": "用户编号", "item_id": "商品编号", "timestamp": "时间", "event": "行为"},
                    "item_columns": {"title": "商品名称"}, "item_text": "{商品名称}. {描述}",
                    "event_weights": {"浏览": 1, "收藏": 2, "加购": 3, "购买": 5},
                    "user_attributes": {"城市": "category", "年龄": "number"}}),
    (event_stream, {"columns": {"user_id": "user.id", "item_id": "items[].sku", "value": "items[].qty",
                                "timestamp": "ts"},
                    "item_columns": {"item_id": "sku", "title": "name"}, "event_weights": {},
                    "attributes": {"details.brand": "category", "tags": "list"}})])
def test_the_settings_of_a_messy_export_are_drafted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                    shop: Callable[[Path], list[str]],
                                                    drafted: dict[str, object]) -> None:
    monkeypatch.chdir(tmp_path)
    init.run(InitConfig(files=shop(tmp_path)), NoRunDir())
    settings = settings_of(Path("shop.yaml"))
    assert {key: getattr(settings.dataset, key) for key in drafted} == drafted
    assert settings.split.kind == "leave_last_out"


@pytest.mark.parametrize(("shop", "counts"), some_slow([
    (event_stream, (399, 30, 30)), (german_shop, (300, 40, 35)), (chinese_shop, (300, 40, 35))]))
def test_a_messy_export_is_prepared_with_the_drafted_settings(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shop: Callable[[Path], list[str]],
        counts: tuple[int, int, int]) -> None:
    monkeypatch.chdir(tmp_path)
    init.run(InitConfig(files=shop(tmp_path)), NoRunDir())
    prepare.run(settings_of(Path("shop.yaml")), RunDir.create("prepare"))
    manifest = json.loads(Path("data/prepared/shop/manifest.json").read_text())
    found = manifest["counts"]
    assert (found["read"], found["users"], found["items"]) == counts
    assert found["rejected"] == found["items_rejected"] == 0
    assert found["read"] == found["interactions"] + found["duplicates"]
    assert not manifest.get("formats"), "formats are given now"
