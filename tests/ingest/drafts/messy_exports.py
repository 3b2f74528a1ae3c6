"""Three exports as shops make them: German from Excel, Chinese in GB18030, a stream of nested JSON lines."""

import json
import random
from pathlib import Path


def german_shop(folder: Path, num_rows: int = 300) -> list[str]:
    """Write orders and articles: semicolons, windows-1252, decimal commas, day.month.year, title lines."""
    draw = random.Random(1)
    orders = ["Verkaufsbericht 2024;;;;", "Stand: 31.12.2024;;;;", "", "Kundennr;Artikelnr;Datum;Menge;Preis"]
    orders += [f"K{draw.randrange(40):03};A{int(30 * draw.random() ** 2):03};{1 + n % 28:02}.{1 + n // 50:02}.2024 "
               f"{n % 24:02}:15;{1 + n % 3};{n % 40},{n % 10}9" for n in range(num_rows)]
    articles = ["Artikelnr;Bezeichnung;Größe;Preis;Farbe;Beschreibung"]
    articles += [f"A{n:03};Männerschuh Läufer {n};{36 + n % 12 if n % 9 else 'unbekannt'};{19 + n},{n % 10}9;"
                 f"{('grün', 'weiß', 'schwarz')[n % 3]};Bequemer Schuh für große Füße, Modell {n * 7}"
                 for n in range(35)]
    _write(folder / "bestellungen.csv", orders, "cp1252", "\r\n")
    _write(folder / "artikel.csv", articles, "cp1252", "\r\n")
    return ["bestellungen.csv", "artikel.csv"]


def chinese_shop(folder: Path, num_rows: int = 300) -> list[str]:
    """Write events, products and members with Chinese column names in GB18030."""
    draw = random.Random(2)
    events = ["用户编号,商品编号,行为,时间"]
    events += [f"会员{draw.randrange(40)},{1000 + int(30 * draw.random() ** 2)},"
               f"{draw.choice(['浏览', '浏览', '浏览', '加购', '购买', '收藏'])},2024-{1 + n // 30:02}-{1 + n % 28:02} "
               f"{n % 24:02}:30:00" for n in range(num_rows)]
    products = ["商品编号,商品名称,类目,价格,描述"]
    products += [f"{1000 + n},运动鞋 春季新款 {n} 号,{('手机', '服装', '食品')[n % 3]},{9.9 + n},"
                 f"适合户外运动的轻便鞋子，第{n}代产品"
                 for n in range(35)]
    members = ["用户编号,城市,年龄"] + [f"会员{n},{('北京', '上海', '广州')[n % 3]},{18 + n}" for n in range(40)]
    for name, lines in (("行为.csv", events), ("商品.csv", products), ("会员.csv", members)):
        _write(folder / name, lines, "gb18030")
    return ["行为.csv", "商品.csv", "会员.csv"]


def event_stream(folder: Path, num_rows: int = 200) -> list[str]:
    """Write orders as nested JSON lines with several items each, and a catalogue."""
    draw = random.Random(3)
    orders = [json.dumps({"id": f"o{n}", "type": "order", "user": {"id": f"u{draw.randrange(30)}", "lang": "de"},
                          "ts": 1_700_000_000_000 + n * 60_000,
                          "items": [{"sku": f"s{int(25 * draw.random() ** 2)}", "qty": 1 + k}
                                    for k in range(1 + n % 3)]})
              for n in range(num_rows)]
    catalogue = [json.dumps({"sku": f"s{n}", "name": f"Trail shoe {n}", "details": {"brand": f"b{n % 4}"},
                             "tags": ["run", f"t{n % 5}"], "description": f"A light shoe for long runs, number {n}"})
                 for n in range(30)]
    _write(folder / "orders.jsonl", orders, "utf-8")
    _write(folder / "catalogue.jsonl", catalogue, "utf-8")
    return ["orders.jsonl", "catalogue.jsonl"]


def _write(path: Path, lines: list[str], encoding: str, end: str = "\n") -> None:
    path.write_bytes("".join(line + end for line in lines).encode(encoding))
