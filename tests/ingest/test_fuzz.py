"""Damaged bytes end in data that is accounted for or in one error for people, never in a traceback or a hang."""

import json
import random
import time
from pathlib import Path

import pytest

from llmrec_cli.errors import LlmrecError
from llmrec_cli.ingest.staging import stage
from tests.ingest.preparing import prepare_text, source

CSV = ('user_id,item_id,value,timestamp\n' + "".join(f'u{n % 7},"item {n % 5}, no. {n}",{n % 5},{1_600_000_000 + n}\n'
                                                     for n in range(60))).encode()
JSONL = "".join(json.dumps({"user_id": f"u{n % 7}", "item_id": n, "value": n % 5, "timestamp": 1_600_000_000 + n})
                + "\n" for n in range(60)).encode()
NASTY = [b"\x00", b"\xff", b'"', b"\n", b"\r", b",", b"\t", b"\xef\xbb\xbf", b"{", b"}", b"[" * 2000, b"1e999", b"NaN",
         b"\\ud800", "é".encode("latin-1"), b"\xf0\x9f\x8e\xac", b'""', b"-", b"9" * 400]


def mutated(content: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(content) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            content = content[:place] + rng.choice(NASTY) + content[place:]
        elif kind == 1:
            content = content[:place] + content[place + rng.randint(1, 40):]
        elif kind == 2:
            content = content[:place] + bytes([rng.randrange(256)]) + content[place + 1:]
        else:
            content = content[:place]
    return content


@pytest.mark.parametrize(("name", "content"), [("x.csv", CSV), ("x.jsonl", JSONL)])
def test_damaged_files_are_read_row_by_row_or_refused(tmp_path: Path, name: str, content: bytes) -> None:
    rng, read, refused = random.Random(name), 0, 0
    end = time.monotonic() + 60
    for _ in range(200):
        file = source(tmp_path, mutated(content, rng), name)
        try:
            staged = stage([file], tmp_path / "staged", ("user_id", "item_id"), ("value", "timestamp"))
        except LlmrecError:
            refused += 1
        else:
            assert staged.num_read[0] >= len(staged.rejects)
            read += 1
        assert time.monotonic() < end
    assert read > 20
    assert refused > 20


@pytest.mark.parametrize(("name", "content"), [("x.csv", CSV), ("x.jsonl", JSONL)])
def test_damaged_files_go_through_the_whole_stage_or_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    rng = random.Random(f"{name} whole")
    for _ in range(5):
        try:
            counts = prepare_text(tmp_path, mutated(content, rng), name=name, max_reject_share=1.0).counts
        except LlmrecError:
            continue
        assert counts["read"] == counts["rejected"] + counts["duplicates"] + counts["interactions"]


def test_many_quotes_that_are_never_closed_take_no_longer_than_rows(tmp_path: Path) -> None:
    start = time.monotonic()
    text = "user_id,item_id\n" + 'u,"i\nv,j\n' * 3000
    staged = stage([source(tmp_path, text)], tmp_path / "staged", ("user_id", "item_id"), ())
    assert (staged.num_read[0], len(staged.rejects)) == (6000, 3000)
    assert time.monotonic() - start < 10
