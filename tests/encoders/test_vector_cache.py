"""The vector cache: unchanged texts are never encoded again, also after kills, damage and concurrent runs."""

import errno
import hashlib
import multiprocessing
import os
import re
import time

import numpy as np
import pytest

from llmrec_cli.encoders import vector_cache
from llmrec_cli.encoders.vector_cache import encode_cached

TEXTS = [f"text {n}" for n in range(200)]


class Counting:
    """An encoder that records its texts; a vector is the bytes of the text's hash."""

    embedding_size, is_costly = 8, True

    def __init__(self, identity="a" * 64):
        self.identity, self.seen = identity, []

    def encode(self, texts):
        self.seen += texts
        hashes = [hashlib.sha256((self.identity + text).encode("utf-8", "surrogatepass")).digest() for text in texts]
        return np.array([list(h[:8]) for h in hashes], np.float32).reshape(-1, 8) / 7


def run(texts, folder, **changed):
    """Return the number of encoded texts, after a check of the vectors."""
    encoder = Counting(**changed)
    vectors = encode_cached(encoder, texts, folder)
    assert np.array_equal(vectors, Counting(**changed).encode(list(texts)))
    return len(encoder.seen)


def shards(folder):
    return sorted(folder.glob("*/*.safetensors"))


def test_only_new_texts_of_a_catalogue_are_encoded_again(tmp_path):
    assert run(TEXTS, tmp_path) == 200
    assert run(TEXTS, tmp_path) == 0
    assert run([*TEXTS[2:], "new", "newer"], tmp_path) == 2
    assert run(TEXTS[::-1], tmp_path) == 0


def test_the_numbers_of_encoded_and_cached_texts_are_logged(tmp_path):
    events = []
    for texts in (TEXTS[:3], [*TEXTS[1:3], "new", "new"]):
        encode_cached(Counting(), texts, tmp_path, lambda event, **values: events.append((event, values)))
    assert events == [("vectors", {"encoded": 3, "read": 0}), ("vectors", {"encoded": 1, "read": 2})]


def test_each_distinct_text_is_encoded_once_and_any_text_can_be_kept(tmp_path):
    texts = ["", "a", "a", "👩‍🚀 太空 שלום", "\ud800", "x" * 1_000_000, "é", "e\u0301"]
    assert run(texts, tmp_path) == 7
    assert run(texts, tmp_path) == 0
    assert encode_cached(Counting(), [], tmp_path).shape == (0, 8)


def test_another_encoder_has_vectors_of_its_own(tmp_path):
    assert run(TEXTS, tmp_path) == run(TEXTS, tmp_path, identity="b" * 64) == 200


def test_without_a_folder_or_with_a_cheap_encoder_nothing_is_kept(tmp_path):
    assert run(TEXTS, None) == 200
    cheap = Counting()
    cheap.is_costly = False
    encode_cached(cheap, TEXTS, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "named anew"])
def test_a_damaged_shard_is_reported_and_its_texts_are_encoded_again(tmp_path, capsys, damage):
    run(TEXTS[:150], tmp_path)
    first, = shards(tmp_path)
    run(TEXTS, tmp_path)
    content = bytearray(first.read_bytes())
    if damage == "flip":
        content[-3] ^= 4
    first.write_bytes({"cut": content[:-9], "flip": content, "empty": b""}.get(damage, content))
    if damage == "named anew":
        first.rename(first.with_name(f"{'0' * 64}.safetensors"))
    assert run(TEXTS, tmp_path) == 150
    assert "damaged, so it is removed and its texts are encoded again" in capsys.readouterr().err
    assert run(TEXTS, tmp_path) == 0


def test_a_shard_of_vectors_of_another_size_is_not_believed(tmp_path):
    run(TEXTS, tmp_path)
    wider = Counting()
    wider.embedding_size = 9
    wider.encode = lambda texts: np.ones((len(texts), 9), np.float32)
    assert encode_cached(wider, TEXTS, tmp_path).shape == (200, 9)


def test_a_run_that_dies_while_it_encodes_keeps_what_it_had_written(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_cache, "SHARD_TEXTS", 50)
    encoder = Counting()
    usual = encoder.encode
    encoder.encode = lambda texts: usual(texts) if len(encoder.seen) < 100 else (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        encode_cached(encoder, TEXTS, tmp_path)
    assert run(TEXTS, tmp_path) == 100


def test_many_shards_become_one_and_nothing_is_lost(tmp_path):
    for n in range(40):
        assert run(TEXTS[5 * n:5 * n + 5], tmp_path) == 5
        assert len(shards(tmp_path)) <= vector_cache.MOST_SHARDS + 1
    assert run(TEXTS, tmp_path) == 0


def test_the_cache_keeps_its_size_limit_and_the_last_used_vectors(tmp_path, monkeypatch):
    run(TEXTS[:100], tmp_path)
    size = shards(tmp_path)[0].stat().st_size
    os.utime(shards(tmp_path)[0], (1, 1))
    run(TEXTS[:100], tmp_path, identity="b" * 64)
    run(TEXTS[:100], tmp_path)  # Used again, so the other is now the least recently used.
    os.utime(next((tmp_path / f"1-{'b' * 64}").iterdir()), (2, 2))
    monkeypatch.setattr(vector_cache, "MOST_BYTES", int(2.5 * size))
    assert run(TEXTS[100:], tmp_path) == 100
    assert run(TEXTS, tmp_path) == 0
    assert sum(file.stat().st_size for file in shards(tmp_path)) <= 2.5 * size
    assert not list((tmp_path / f"1-{'b' * 64}").iterdir())


def test_leftovers_of_a_killed_run_are_removed_after_a_day(tmp_path):
    run(TEXTS[:1], tmp_path)
    leftover = shards(tmp_path)[0].parent / ".left.safetensors.x"
    leftover.write_bytes(b"half")
    run(TEXTS[:2], tmp_path)
    assert leftover.exists()
    os.utime(leftover, (time.time() - 90_000,) * 2)
    run(TEXTS[:3], tmp_path)
    assert not leftover.exists()


def _one_of_many(folder, seed):
    order = np.random.default_rng(seed).permutation(len(TEXTS))
    for start in range(0, 200, 10):
        run([TEXTS[n] for n in order[:start + 10]], folder)


def test_runs_at_once_need_no_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_cache, "MOST_SHARDS", 3)  # So that runs merge and remove each other's shards.
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_one_of_many, args=(tmp_path, seed)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert run(TEXTS, tmp_path) == 0


def test_an_unwritable_cache_folder_only_gives_a_warning(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(TEXTS, tmp_path / "file") == run(TEXTS, tmp_path / "cache") > 0
    assert re.search("warning: .*file.*: cannot be written .* text vectors are not cached", capsys.readouterr().err)


def test_a_folder_that_may_only_be_read_is_read(tmp_path, monkeypatch, capsys):
    assert run(TEXTS, tmp_path) > 0

    def refused(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "utime", refused)
    monkeypatch.setattr(os, "unlink", refused)
    assert run(TEXTS, tmp_path) == 0
    shard, = shards(tmp_path)
    shard.write_bytes(b"damaged")
    monkeypatch.setattr(os, "open", refused)
    assert run(TEXTS, tmp_path) > 0
    assert "damaged" in capsys.readouterr().err
