"""Generated click logs with multi-valued fields and behaviour sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

LISTS: dict[str, Any] = {
    "multivalued": {
        "genres": {"max_length": 3, "weights": "genre_weights"},
        "tags": {"max_length": 4, "pooling": "attention"},
    },
    "sequences": {
        "history": {
            "items": "hist_items",
            "target": "item_id",
            "categories": "hist_categories",
            "target_category": "category",
            "times": "hist_times",
            "max_length": 5,
            "pooling": "tin",
        },
        "recent": {"items": "hist_items", "target": "item_id", "max_length": 2, "pooling": "din"},
    },
}
"""Settings of the lists of ``click_log``."""
DESCRIBED_LOG: dict[str, Any] = {
    "fields": ["user_id", "item_id", "category"],
    "numericals": ["age"],
    "tasks": ["click", "buy"],
    "group": "user_id",
    "scenario": "page",
    "scenarios": ["home", "search"],
    "min_count": 2,
    **LISTS,
}
"""Description of a ``click_log``."""


def click_log(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """Draw impressions of 20 users and 30 items in time order; list columns hold Python lists.

    A history holds the items that the user clicked before the impression, oldest first. Clicks depend on the category
    of the last item and on the genres.
    """
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 20, rows), rng.integers(0, 30, rows)
    time = 1_700_000_000 + np.sort(rng.integers(0, 10**6, rows))
    genres = [[f"g{g}" for g in rng.choice(6, size=1 + n % 4, replace=False)] for n in range(30)]
    weights = [np.round(rng.random(len(own)), 3).tolist() for own in genres]
    clicked: dict[int, list[tuple[int, int]]] = {}
    made: list[dict[str, Any]] = []
    for u, i, t in zip(user.tolist(), item.tolist(), time.tolist(), strict=True):
        history = clicked.setdefault(u, [])[-7:]
        liked = bool(history) and history[-1][0] % 5 == i % 5
        click = int(rng.random() < (0.8 if liked else 0.3))
        made.append(
            {
                "user_id": f"u{u}",
                "item_id": i,
                "category": f"c{i % 5}",
                "page": ("home", "search")[u % 2],
                "age": 20 + u,
                "genres": genres[i],
                "genre_weights": weights[i],
                "tags": [f"t{n}" for n in rng.integers(0, 9, rng.integers(0, 6))],
                "hist_items": [h for h, _ in history],
                "hist_categories": [f"c{h % 5}" for h, _ in history],
                "hist_times": [h for _, h in history],
                "time": t,
                "click": click,
                "buy": click * int(rng.random() < 0.4),
            }
        )
        if click:
            clicked[u].append((i, t))
    return pd.DataFrame(made)


def joined(log: pd.DataFrame, separator: str = "|") -> pd.DataFrame:
    """Return the log with its lists as cells such as ``a|b|c``."""
    text = log.copy()
    for name in ("genres", "genre_weights", "tags", "hist_items", "hist_categories", "hist_times"):
        text[name] = [separator.join(map(str, values)) for values in log[name]]
    return text
