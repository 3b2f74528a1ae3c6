"""New items and users get titles, texts and number classes like the model's own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.errors import DataError
from llmrec_cli.requests.new_items import new_items, new_users
from tests.ingest.describing import described
from tests.ingest.preparing import write

ITEMS = ("sku,title,price,kind,cover,timestamp\n"
         + "".join(f"i{n},T{n} &amp; co,{n},<b>k{n % 2}</b>,/c/{n}.jpg,17000000{n}\n" for n in range(10)))
SETTINGS: dict[str, Any] = {"attributes": {"price": "number", "kind": "category", "cover": "image"},
                            "item_columns": {"item_id": "sku"}}
NOBODY = Catalogue(*(np.array([], object),) * 3, sp.csr_array((0, 0), dtype=np.float32), [])


@pytest.mark.parametrize("template", ["", "{title} by {kind} for {price}, {sku}"])
def test_a_new_item_is_described_as_an_old_one_was(tmp_path: Path, template: str) -> None:
    old = described(tmp_path, ITEMS, {f"i{n}": 0 for n in range(10)}, item_text=template, **SETTINGS)
    texts = json.loads(json.dumps(old.texts))
    new = new_items(str(write(tmp_path, ITEMS, "new.csv")), texts, NOBODY)
    assert new.notes == []
    assert list(new.catalogue.texts) == old.column("text")
    assert list(new.catalogue.titles) == old.column("title") == [f"T{n} & co" for n in range(10)]
    names = np.array(new.catalogue.attribute_names)
    attributes = [sorted(names[row.indices]) for row in (new.catalogue.attributes[[n]] for n in range(10))]
    assert attributes == old.column("attributes")
    assert attributes[9] == ["kind=k1", "price=q10"]


def test_a_new_item_with_an_invalid_number_loses_only_that_attribute(tmp_path: Path) -> None:
    old = described(tmp_path, ITEMS, {"i1": 0}, **SETTINGS)
    file = write(tmp_path, "sku,title,kind,price\nn1,A,k1,1\nn2,B,k1,cheap\n", "new.csv")
    result = new_items(str(file), old.texts, NOBODY)
    assert result.notes[-1] == (f"items={file}: 1 values of 'price' ignored as attributes: not numbers; "
                                f"the first is 'cheap' ({file}: line 3)")
    names = np.array(result.catalogue.attribute_names)
    assert [sorted(names[result.catalogue.attributes[[n]].indices]) for n in range(2)] == [["kind=k1", "price=q1"],
                                                                                        ["kind=k1"]]


def test_a_new_users_text_has_no_history(tmp_path: Path) -> None:
    template = {"template": "{job}. Has seen: {history}", "attributes": {}, "columns": {}, "list_separator": "|",
                "max_length": 40}
    file = str(write(tmp_path, "user_id,job,history\nn1,nurse,i1|i2\nn2,,\n", "users.csv"))
    result = new_users(file, {"user": template}, NOBODY)
    assert (list(result.catalogue.texts), result.notes) == (["nurse", ""], [])
    with pytest.raises(DataError, match=r"these users have no text, and the model scores new users by their text: "
                                        r"add a column 'text', or prepare and train with dataset\.user_text="
                                        r"<template of columns>"):
        new_users(file, {"user": template | {"template": "{history}"}}, NOBODY)
    file = str(write(tmp_path, "user_id,text\nn1,<p>likes</p>war\n", "users.csv"))
    history = template | {"template": "{history}", "strip_html": True}
    assert list(new_users(file, {"user": history}, NOBODY).catalogue.texts) == ["likes war"]


def test_an_older_model_without_strip_html_keeps_html(tmp_path: Path) -> None:
    texts = {"item": {"template": "{title}", "attributes": {}, "columns": {}, "list_separator": "|", "max_length": 40}}
    result = new_items(str(write(tmp_path, "item_id,title\nn1,R&amp;B\n", "new.csv")), texts, NOBODY)
    assert list(result.catalogue.texts) == ["R&amp;B"]
