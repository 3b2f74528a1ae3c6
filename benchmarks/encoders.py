"""Costs of encoders on one thread: texts per second, training time, bytes per vector; bfloat16 compared with float32.

    OMP_NUM_THREADS=1 python benchmarks/encoders.py [prepared data | items.jsonl] [texts]

Prints a table of CPU seconds, the smaller of two passes to reduce the effect of other load. All encoders read the same
texts, cut at 64 tokens. The last lines measure the cache across runs, with unchanged texts and with 1% new texts.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.encoders.base import open_encoder
from llmrec_cli.encoders.text_encoder import TextEncoder
from llmrec_cli.encoders.vector_cache import encode_cached
from llmrec_cli.settings.encoder import (
    ConcatSettings,
    EncoderSettings,
    LsaSettings,
    MiniLMSettings,
    StaticSettings,
    TfIdfSettings,
)

CPU = torch.device("cpu")
KINDS: dict[str, EncoderSettings] = {"minilm": MiniLMSettings(), "static": StaticSettings(), "tfidf": TfIdfSettings(),
                                     "lsa": LsaSettings(),
                                     "concat (minilm, lsa)": ConcatSettings()}


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    texts = read_texts(Path(sys.argv[1] if len(sys.argv) > 1 else "data/prepared/latest"))
    texts = texts[:int(sys.argv[2]) if len(sys.argv) > 2 else 1000]
    print(f"{len(texts):,} distinct texts of {np.mean([len(text) for text in texts]):.0f} characters on average")
    print(f"{'encoder':24}{'size':>6}{'fit in s':>13}{'texts/s':>10}{'against minilm':>16}")
    first = None
    for name, settings in KINDS.items():
        encoder = open_encoder(settings, CPU)
        learning = seconds(lambda encoder=encoder: encoder.fit(texts), 1)
        # concat caches the vectors of its training texts; other texts are needed to time the encoding.
        inputs = [f"{text} " for text in texts] if isinstance(settings, ConcatSettings) else texts
        rate = len(texts) / seconds(lambda encoder=encoder, inputs=inputs: encoder.encode(inputs))
        first = first or rate
        print(f"{name:24}{encoder.embedding_size:6}{learning:13.2f}{rate:10,.0f}{rate / first:15.1f}x")
    rounded = open_encoder(MiniLMSettings(), CPU)
    assert isinstance(rounded, TextEncoder)
    exact = rounded.encode(texts)
    rounded.model.to(torch.bfloat16)
    rate = len(texts) / seconds(lambda: rounded.encode(texts))
    near = rounded.encode(texts)
    cosine = (exact * near).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(near, axis=1)
    print(f"{'minilm in bfloat16':24}{rounded.embedding_size:6}{0:13.2f}{rate:10,.0f}{rate / first:15.1f}x"
          f"   least cosine to float32 {cosine.min():.4f}")
    across_runs(texts)


def across_runs(texts: list[str]) -> None:
    """Print the number of encoded texts and the time of a second run, on the same texts and with 1% new ones."""
    with tempfile.TemporaryDirectory() as place:
        hundredth = len(texts) // 100
        changed = [*texts[hundredth:], *(f"{text}." for text in texts[:hundredth])]
        for name, now in (("first run", texts), ("again, unchanged", texts), ("again, 1% new", changed)):
            encoder, counts = open_encoder(MiniLMSettings(), CPU), {}
            elapsed = seconds(lambda e=encoder, n=now, t=counts: encode_cached(
                e, n, Path(place), lambda event, **values: t.update(values)), 1)
            print(f"cache, {name:17} {counts['encoded']:6,} encoded {counts['read']:6,} read {elapsed:8.2f} s")


def seconds(work: Callable[[], object], repeats: int = 2) -> float:
    """Return the smallest CPU seconds of several repeats."""
    durations = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        durations.append(time.process_time() - start)
    return max(min(durations), 1e-9)


def read_texts(path: Path) -> list[str]:
    """Return the distinct texts of the items."""
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        texts = [" ".join(str(row[key]) for key in ("title", "description", "text") if row.get(key)) for row in rows]
    else:
        texts = [str(text) for text in read_prepared(path).items.texts]
    return [text for text in dict.fromkeys(texts) if text.strip()]


if __name__ == "__main__":
    main()
