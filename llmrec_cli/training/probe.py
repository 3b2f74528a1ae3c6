"""Retrieval probe of an encoder, which detects damage to the vectors that an objective's own loss does not show.

If items have a description besides their title, a question is the text of a held-out item without its title. Otherwise
it is a training history whose next item is held out. Candidates are titles of the catalogue, ranked by the cosine of
centred vectors (questions and titles each by their own mean), as in the heads that use vectors.

Shapes: Q questions, N titles, D dimensions, K nearest titles.
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
from llmrec_cli.training.next_item_pairs import build_held_out_pairs

_MOST_QUESTIONS, _MOST_TITLES = 300, 2000
FEWEST_QUESTIONS = 5
_LEAST_DESCRIPTION = 8
"""Minimum number of words (Chinese characters count as words) of a description; shorter ones are too ambiguous."""
_NUM_RESAMPLES = 1000
_HISTORY_LENGTH = 10
_NUM_NEAREST = 3
_SPACELESS = "".join(f"{chr(low)}-{chr(high)}" for low, high in SPACELESS)
_WORD = re.compile(f"[{_SPACELESS}]|[^\\W{_SPACELESS}]+")


@dataclass(frozen=True)
class Probe:
    """Questions and candidate titles.

    Attributes
    ----------
    kind : description | history
    questions : texts (Q,)
    titles : distinct titles (N,)
    answer : int64 (Q,), the correct title of each question
    ruled_out : titles that the question contains, which are no candidates: an int64 array for each question
    """

    kind: str
    questions: list[str]
    titles: list[str]
    answer: np.ndarray
    ruled_out: list[np.ndarray]


@dataclass(frozen=True)
class Answers:
    """Answers of an encoder: the rank of the correct title, float64 (Q,), and the nearest titles, int64 (Q, K)."""

    rank_Q: np.ndarray
    nearest_QK: np.ndarray

    def metrics(self) -> dict[str, float]:
        """Return recall@1, recall@10 and mrr."""
        return {"recall@1": float((self.rank_Q <= 1).mean()), "recall@10": float((self.rank_Q <= 10).mean()),
                "mrr": float((1 / self.rank_Q).mean())}


def build_probe(data: TrainingData, holdout_share: float, seed: int) -> Probe | None:
    """Return the probe for the held-out items, None if there are too few."""
    out_N = held_out([str(text) for text in data.items.texts], holdout_share)
    described = [(int(n), text) for n in np.flatnonzero(out_N) if (text := without_title(data.items, int(n)))]
    if len(described) >= FEWEST_QUESTIONS:
        generator = np.random.default_rng(seed)
        sample = np.sort(generator.permutation(len(described))[:_MOST_QUESTIONS])
        items = np.array([described[n][0] for n in sample])
        nothing = [np.zeros(0, np.int64)] * len(items)
        return _probe("description", data.items, [described[n][1] for n in sample], items, nothing, seed)
    pairs = build_held_out_pairs(data, _HISTORY_LENGTH, holdout_share, seed)
    titled = [n for n in range(len(pairs)) if str(data.items.titles[pairs.item[n]]).strip()]
    if len(titled) < FEWEST_QUESTIONS:
        return None
    return _probe("history", data.items, [pairs.histories[n] for n in titled], pairs.item[titled],
                  [pairs.before[n] for n in titled], seed)


def without_title(items: Catalogue, item: int) -> str:
    """Return an item's text without its title, "" if too little is left to identify it."""
    title, text = str(items.titles[item]).strip(), str(items.texts[item])
    if not title:
        return ""
    rest = re.sub(re.escape(title), " ", text, flags=re.IGNORECASE)
    rest = re.sub(r"\s+", " ", rest).strip(" .,;:-–|/()")
    return rest if num_words(rest) >= _LEAST_DESCRIPTION and rest != text.strip() else ""


def num_words(text: str) -> int:
    """Return the number of words of a text; each character of a script without spaces counts as a word."""
    return len(_WORD.findall(text))


def _probe(kind: str, items: Catalogue, questions: list[str], answers: np.ndarray, before: list[np.ndarray],
           seed: int) -> Probe:
    """Return the probe with the correct titles (of the items `answers`) and random others, up to _MOST_TITLES."""
    all_titles = [str(title).strip() for title in items.titles]
    distinct = dict.fromkeys(all_titles[n] for n in answers)
    others = [title for title in dict.fromkeys(all_titles) if title and title not in distinct]
    room = max(0, _MOST_TITLES - len(distinct))
    sample = np.sort(np.random.default_rng(seed).permutation(len(others))[:room])
    titles = [*distinct, *(others[n] for n in sample)]
    place = {title: n for n, title in enumerate(titles)}
    ruled_out = [np.array([place[all_titles[n]] for n in one if all_titles[n] in place
                           and all_titles[n] != all_titles[right]], np.int64)
                 for one, right in zip(before, answers, strict=True)]
    return Probe(kind, questions, titles, np.array([place[all_titles[n]] for n in answers]), ruled_out)


def run_probe(probe: Probe, encoder: TextEncoder) -> Answers:
    """Return the encoder's answers. Among equally near titles the rank is the expected one."""
    titles_ND = _centre(encoder.encode(probe.titles))
    questions_QD = _centre(encoder.encode(probe.questions, "query" if probe.kind == "history" else "item"))
    cosine_QN = questions_QD @ titles_ND.T
    for row, ruled_out in zip(cosine_QN, probe.ruled_out, strict=True):
        row[ruled_out] = -np.inf
    right_Q1 = np.take_along_axis(cosine_QN, probe.answer[:, None], axis=1)
    rank_Q = 1 + (cosine_QN > right_Q1).sum(1) + ((cosine_QN == right_Q1).sum(1) - 1) / 2
    return Answers(rank_Q, np.argsort(-cosine_QN, axis=1, kind="stable")[:, :_NUM_NEAREST])


def _centre(vectors: np.ndarray) -> np.ndarray:
    centred = vectors - vectors.mean(0)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)


def mrr_difference(before: Answers, after: Answers, seed: int) -> tuple[float, tuple[float, float]]:
    """Return the increase of mrr and its 95% interval over the questions (paired bootstrap)."""
    one, other = (bootstrap(1 / answers.rank_Q[:, None], _NUM_RESAMPLES, seed) for answers in (after, before))
    difference_M, interval_2M = paired_difference(one, other)
    return float(difference_M[0]), (float(interval_2M[0, 0]), float(interval_2M[1, 0]))
