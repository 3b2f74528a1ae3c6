"""A tiny data set with learnable structure: four genres; each user loves one and likes another."""

import csv
from pathlib import Path

import numpy as np

NUM_USERS, NUM_ITEMS, NUM_COLD = 60, 40, 4
GENRES = ("Science Fiction", "Romance", "Western", "Comedy")
WORDS = {
    "Science Fiction": ("Robot", "Galaxy", "Android", "Orbit", "Alien", "Star", "Machine", "Moon", "太空", "机器人"),
    "Romance": ("Love", "Heart", "Kiss", "Wedding", "Letters", "Paris", "Roses", "Bride", "爱情", "情书"),
    "Western": ("Saddle", "Outlaw", "Sheriff", "Canyon", "Desert", "Horse", "Ranch", "Revolver", "沙漠", "牛仔"),
    "Comedy": ("Clown", "Laugh", "Prank", "Circus", "Goose", "Pyjamas", "Neighbour", "Banana", "喜剧", "小丑"),
}


def write_tiny(folder: Path) -> None:
    """Write interactions.csv (user_id, item_id, value, timestamp) and items.csv (item_id, title, year, genres).

    Values are 2, 4 or 5, timestamps seconds. 60 users, 40 items with interactions and 4 cold ones ("c0" to "c3") in
    items.csv only. The bytes are the same every time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    with (folder / "items.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["item_id", "title", "year", "genres"])
        for n in range(NUM_ITEMS + NUM_COLD):
            own = GENRES[n % 4]
            first, second = WORDS[own][n // 4 % 10], WORDS[own][(n // 4 + 3) % 10]
            name = f"i{n}" if n < NUM_ITEMS else f"c{n - NUM_ITEMS}"
            genres = own if n % 5 else f"{own}|{GENRES[(n + 1) % 4]}"
            writer.writerow([name, f"{first} and {second}", 1980 + n % 30, genres])
    with (folder / "interactions.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["user_id", "item_id", "value", "timestamp"])
        for user in range(NUM_USERS):
            loved, liked = user % 4, (user // 4 + 1 + user) % 4
            genre = np.arange(NUM_ITEMS) % 4
            weight = np.where(genre == loved, 12.0, np.where(genre == liked, 4.0, 1.0))
            weight = weight * (1.5 - np.arange(NUM_ITEMS) / NUM_ITEMS)
            items = rng.choice(NUM_ITEMS, size=8 + user % 9, replace=False, p=weight / weight.sum())
            for step, item in enumerate(items):
                value = 5 if genre[item] == loved else 4 if genre[item] == liked else 2
                writer.writerow([f"u{user}", f"i{item}", value, 1_600_000_000 + 86_400 * step + 3_600 * user])
