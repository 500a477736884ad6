"""A small table with every type of column, for the tests of this folder."""

from __future__ import annotations

import numpy as np
import pandas as pd

TOWNS = ["Bonn", "Köln", "東京", "Łódź"]


def houses(rows: int = 120, seed: int = 0) -> pd.DataFrame:
    """Houses: three targets (price, sold, grade) and inputs of every type, some cells missing."""
    rng = np.random.default_rng(seed)
    size = rng.normal(100, 30, rows)
    town = rng.integers(0, len(TOWNS), rows)
    rooms = rng.integers(1, 8, rows).astype(float)
    rooms[rng.random(rows) < 0.1] = np.nan
    names = np.array(TOWNS, dtype=object)[town]
    names[rng.random(rows) < 0.05] = None
    built = pd.Timestamp("1990-01-01") + pd.to_timedelta(rng.integers(0, 9000, rows), unit="D")
    price = 1000 * size + 5000 * town + rng.normal(0, 5000, rows)
    return pd.DataFrame(
        {
            "house": [f"house-{i:04d}" for i in range(rows)],
            "größe": size,
            "rooms": rooms,
            "town": names,
            "garden": rng.random(rows) < 0.5,
            "built": built.strftime("%Y-%m-%d"),
            "country": "DE",
            "price": price,
            "sold": np.where(price + rng.normal(0, 20000, rows) > price.mean(), "yes", "no"),
            "grade": np.array(["A", "B", "C"])[np.clip((size // 40).astype(int), 0, 2)],
        }
    )


HOUSE_TARGETS = ["price:regression", "sold:binary", "grade:multiclass"]
