"""A retrieval probe: does the right title come back? It shows what an objective's own loss hides: harm to the vectors.

Where items have a description beside their title, the question is the text of a held-out item without its title.
Elsewhere it is a training history that led to a held-out item. The answers are the titles of the catalogue, ranked by
the cosine of vectors that were centred, each side by its own mean, as the heads that use vectors do.

Shapes: Q questions, N titles, D dimensions, K answers that are kept to be shown.
"""

import re
from dataclasses import dataclass

import numpy as np

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.encoders.text_encoder import TextEncoder
from llmrec_cli.metrics.significance import bootstrap, paired_difference
from llmrec_cli.training.corpus import held_out
from llmrec_cli.training.masking import SPACELESS
from llmrec_cli.training.next_item_pairs import held_out_followers

_MOST_QUESTIONS, _MOST_TITLES = 300, 2000
FEWEST_QUESTIONS = 5
_LEAST_DESCRIPTION = 8
"""Words (Chinese characters count as words) that a description has at least; less cannot tell items apart."""
_NUM_RESAMPLES = 1000
_HISTORY_LENGTH = 10
_SHOWN = 3
_SPACELESS = "".join(f"{chr(low)}-{chr(high)}" for low, high in SPACELESS)
_WORD = re.compile(f"[{_SPACELESS}]|[^\\W{_SPACELESS}]+")


@dataclass(frozen=True)
class Probe:
    """Questions and the titles to answer them with.

    Attributes
    ----------
    kind : description | history
    questions : texts (Q,)
    titles : distinct titles (N,)
    answer : int64 (Q,), the right title of each question
    ruled_out : titles that are in the question itself and so are no answers, int64 arrays, one for each question
    """

    kind: str
    questions: list[str]
    titles: list[str]
    answer: np.ndarray
    ruled_out: list[np.ndarray]


@dataclass(frozen=True)
class Answers:
    """Answers of an encoder: the rank of the right title, float64 (Q,), and the nearest titles, int64 (Q, K)."""

    rank_Q: np.ndarray
    nearest_QK: np.ndarray

    def metrics(self) -> dict[str, float]:
        """Return recall@1, recall@10 and mrr."""
        return {"recall@1": float((self.rank_Q <= 1).mean()), "recall@10": float((self.rank_Q <= 10).mean()),
                "mrr": float((1 / self.rank_Q).mean())}


def build_probe(data: TrainingData, holdout_share: float, seed: int) -> Probe | None:
    """Return the probe for the items that are held out, None where there are too few to ask about."""
    out_N = held_out([str(text) for text in data.items.texts], holdout_share)
    described = [(int(n), text) for n in np.flatnonzero(out_N) if (text := without_title(data.items, int(n)))]
    if len(described) >= FEWEST_QUESTIONS:
        generator = np.random.default_rng(seed)
        chosen = np.sort(generator.permutation(len(described))[:_MOST_QUESTIONS])
        items = np.array([described[n][0] for n in chosen])
        nothing = [np.zeros(0, np.int64)] * len(items)
        return _probe("description", data.items, [described[n][1] for n in chosen], items, nothing, seed)
    measured = held_out_followers(data, _HISTORY_LENGTH, holdout_share, seed)
    titled = [n for n in range(len(measured)) if str(data.items.titles[measured.item[n]]).strip()]
    if len(titled) < FEWEST_QUESTIONS:
        return None
    return _probe("history", data.items, [measured.histories[n] for n in titled], measured.item[titled],
                  [measured.before[n] for n in titled], seed)


def without_title(items: Catalogue, item: int) -> str:
    """Return an item's text without its title, "" where too little is left to know it by."""
    title, text = str(items.titles[item]).strip(), str(items.texts[item])
    if not title:
        return ""
    rest = re.sub(re.escape(title), " ", text, flags=re.IGNORECASE)
    rest = re.sub(r"\s+", " ", rest).strip(" .,;:-–|/()")
    return rest if num_words(rest) >= _LEAST_DESCRIPTION and rest != text.strip() else ""


def num_words(text: str) -> int:
    """Return the words of a text; characters of scripts without spaces each count as one."""
    return len(_WORD.findall(text))


def _probe(kind: str, items: Catalogue, questions: list[str], asked: np.ndarray, before: list[np.ndarray],
           seed: int) -> Probe:
    """Return the probe whose titles are the right ones and, of the others, as many as _MOST_TITLES allows."""
    all_titles = [str(title).strip() for title in items.titles]
    distinct = dict.fromkeys(all_titles[n] for n in asked)
    others = [title for title in dict.fromkeys(all_titles) if title and title not in distinct]
    room = max(0, _MOST_TITLES - len(distinct))
    drawn = np.sort(np.random.default_rng(seed).permutation(len(others))[:room])
    titles = [*distinct, *(others[n] for n in drawn)]
    place = {title: n for n, title in enumerate(titles)}
    ruled_out = [np.array([place[all_titles[n]] for n in one if all_titles[n] in place
                           and all_titles[n] != all_titles[right]], np.int64)
                 for one, right in zip(before, asked, strict=True)]
    return Probe(kind, questions, titles, np.array([place[all_titles[n]] for n in asked]), ruled_out)


def ask(probe: Probe, encoder: TextEncoder) -> Answers:
    """Return what the encoder answers as it is now. A rank is the expected one where titles are equally near."""
    titles_ND = _centred(encoder.encode(probe.titles))
    questions_QD = _centred(encoder.encode(probe.questions, "query" if probe.kind == "history" else "item"))
    cosine_QN = questions_QD @ titles_ND.T
    for row, ruled_out in zip(cosine_QN, probe.ruled_out, strict=True):
        row[ruled_out] = -np.inf
    right_Q1 = np.take_along_axis(cosine_QN, probe.answer[:, None], axis=1)
    rank_Q = 1 + (cosine_QN > right_Q1).sum(1) + ((cosine_QN == right_Q1).sum(1) - 1) / 2
    return Answers(rank_Q, np.argsort(-cosine_QN, axis=1, kind="stable")[:, :_SHOWN])


def _centred(vectors: np.ndarray) -> np.ndarray:
    centred = vectors - vectors.mean(0)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)


def mrr_difference(before: Answers, after: Answers, seed: int) -> tuple[float, tuple[float, float]]:
    """Return how much mrr rose, and the 95% interval of that over the questions (paired bootstrap)."""
    one, other = (bootstrap(1 / answers.rank_Q[:, None], _NUM_RESAMPLES, seed) for answers in (after, before))
    difference_M, interval_2M = paired_difference(one, other)
    return float(difference_M[0]), (float(interval_2M[0, 0]), float(interval_2M[1, 0]))
