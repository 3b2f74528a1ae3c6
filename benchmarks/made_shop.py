"""A synthetic shop: users, items with short texts and interactions, all drawn from one seed.

Every item has a topic, and its text is drawn from the topic's words. A user likes a few topics and interacts with their
items, popular items more often (Zipf). So texts help to predict interactions, as in real shops.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

TOPICS, WORDS, WORDS_OF_A_TOPIC = 60, 6000, 200
TEXT_LENGTH = 9
"""Words per text."""


def write_shop(folder: Path, num_users: int, num_items: int, num_interactions: int, seed: int = 1) -> None:
    """Write `interactions.csv` and `items.jsonl`; every item has an interaction."""
    rng = np.random.default_rng(seed)
    topic_N = rng.integers(TOPICS, size=num_items)
    words_TW = np.stack([rng.choice(WORDS, WORDS_OF_A_TOPIC, replace=False) for _ in range(TOPICS)])
    # Words of a topic are Zipf-distributed too; every third word is from any topic.
    place = np.minimum(rng.zipf(1.3, (num_items, TEXT_LENGTH)) - 1, WORDS_OF_A_TOPIC - 1)
    words_NL = np.where(rng.random(place.shape) < 1 / 3, rng.integers(WORDS, size=place.shape),
                        words_TW[topic_N[:, None], place])
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "items.jsonl").open("w", encoding="utf-8") as file:
        for item, words in enumerate(words_NL):
            file.write(json.dumps({"item_id": f"i{item}", "title": " ".join(f"word{word}" for word in words)}) + "\n")
    user, item = draw_interactions(rng, topic_N, num_users, num_interactions)
    day = rng.permutation(len(user))
    with (folder / "interactions.csv").open("w", encoding="utf-8") as file:
        file.write("user_id,item_id,timestamp\n")
        file.writelines(f"u{u},i{i},{1_600_000_000 + 60 * int(t)}\n" for u, i, t in zip(user, item, day, strict=True))


def draw_interactions(rng: np.random.Generator, topic_N: np.ndarray, num_users: int,
                      num_interactions: int) -> tuple[np.ndarray, np.ndarray]:
    """Return user and item of distinct interactions: each item once, then items of the users' topics by popularity."""
    num_items = len(topic_N)
    popularity_N = 1 / (1 + rng.permutation(num_items)) ** 0.8
    topics_UL = rng.integers(TOPICS, size=(num_users, 4))
    of_topic = [np.flatnonzero(topic_N == topic) for topic in range(TOPICS)]
    of_topic = [items if len(items) else np.arange(num_items) for items in of_topic]
    pairs = np.unique(rng.integers(num_users, size=num_items) * num_items + np.arange(num_items))
    while len(pairs) < num_interactions:
        user = rng.integers(num_users, size=num_interactions)
        topic = topics_UL[user, rng.integers(4, size=len(user))]
        item = np.empty(len(user), np.int64)
        for number in range(TOPICS):
            rows, weights = np.flatnonzero(topic == number), popularity_N[of_topic[number]]
            item[rows] = rng.choice(of_topic[number], len(rows), p=weights / weights.sum())
        new = rng.permutation(np.setdiff1d(user * num_items + item, pairs))
        pairs = np.concatenate([pairs, new[:num_interactions - len(pairs)]])
    return pairs // num_items, pairs % num_items


def prepared_shop(folder: Path, num_users: int, num_items: int, num_interactions: int, *split: str) -> Path:
    """Return the folder of the prepared shop, created at first use; `split` are further settings of prepare."""
    data = folder / "prepared"
    if not (data / "manifest.json").is_file():
        write_shop(folder, num_users, num_items, num_interactions)
        subprocess.run([sys.executable, "-m", "llmrec_cli", "prepare", "dataset=files", "dataset.name=made_shop",
                        f"dataset.interactions={folder}/interactions.csv", f"dataset.items={folder}/items.jsonl",
                        f"run_dir={folder}/runs/prepare", f"output={data}", *split], check=True,
                       stdout=subprocess.DEVNULL)
    return data
