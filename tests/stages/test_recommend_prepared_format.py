"""recommend and evaluate read a shop's files like prepare did, also from a model without its data."""

import json
import shutil
from pathlib import Path

import pytest

COLUMNS = ["dataset.columns.user_id=Kunde", "dataset.columns.item_id=Artikel", "dataset.columns.timestamp=Datum",
           "dataset.columns.title=Bezeichnung"]


def write(name: str, text: str) -> None:
    Path(name).write_bytes(text.encode("windows-1252"))


@pytest.mark.slow
def test_a_copied_model_reads_the_files_of_a_german_shop(llmrec):
    clicks = [f"Jörg{n % 9};ä{n * n % 7};{n % 28 + 1:02}.10.2026 08:00;Köln\n" for n in range(120)]
    write("kasse.csv", "Kunde;Artikel;Datum;Filiale\n" + "".join(clicks))
    write("artikel.csv", "Artikel|Bezeichnung\n" + "".join(f"ä{n}|Schöner Stuhl {n}\n" for n in range(7)))
    prepared = llmrec("prepare", "dataset=files", "dataset.name=shop", "dataset.interactions=kasse.csv",
                      "dataset.items=artikel.csv", *COLUMNS, "dataset.timestamp_format=%d.%m.%Y %H:%M",
                      "dataset.item_text={Bezeichnung}", "split=leave_last_out")
    assert prepared.code == 0, prepared.err
    assert llmrec("finetune", "head=ease", "head.features.text=6", "encoder=tfidf", "run_dir=ease").code == 0
    evaluated = llmrec("evaluate", "model=ease", "candidates=artikel.csv", "baselines=[]", "num_bootstrap=100")
    assert evaluated.code == 0, evaluated.err
    shutil.move("ease/model", "elsewhere")
    shutil.rmtree("data")
    write("heute.csv", "Kunde;Artikel;Datum;Filiale\nJörg1;neu1;01.11.2026 09:00;Köln\n")
    write("neu.csv", "Artikel|Bezeichnung\nneu1|Schöner Stuhl 3\n")
    write("kunden.csv", "Kunde\nJörg1\n")
    done = llmrec("recommend", "model=elsewhere", "items=neu.csv", "interactions=heute.csv", "queries=kunden.csv",
                  "candidates=artikel.csv", "k=3", "output=out.jsonl", "exclude_seen=false")
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in Path("out.jsonl").read_text("utf-8").splitlines()]
    assert {row["user_id"] for row in rows} == {"Jörg1"}
    assert len(rows) == 3
    assert all(row["item_id"].startswith("ä") for row in rows)
