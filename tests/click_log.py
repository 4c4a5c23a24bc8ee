"""A generated click log with every kind of input and label that a table may have; docs/click_log describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SURFACES = ("feed", "search", "mail")
GENRES, USERS, ITEMS = 18, 2000, 1500


def write_click_log(path: Path, rows: int = 50_000, seed: int = 0) -> Path:
    """Write the log as a CSV file; clicks depend on item, genres, surface and history, purchases on clicks."""
    rng = np.random.default_rng(seed)
    genre_I, quality_I = rng.integers(0, GENRES, ITEMS), rng.normal(0, 1, ITEMS)
    genres = [sorted({int(genre), *rng.integers(0, GENRES, rng.integers(0, 3)).tolist()}) for genre in genre_I]
    taste_UG = rng.normal(0, 1, (USERS, GENRES))
    user_R, item_R = rng.zipf(1.3, rows) % USERS, rng.zipf(1.2, rows) % ITEMS
    surface_R, time_R = rng.integers(0, 3, rows), 1_700_000_000 + rng.integers(1, 30, rows).cumsum()
    history: list[list[tuple[int, int]]] = [[] for _ in range(USERS)]
    lines: list[str] = []
    for user, item, surface, time in zip(*(x.tolist() for x in (user_R, item_R, surface_R, time_R)), strict=True):
        recent = history[user][-8:]
        liked = float(taste_UG[user, genres[item]].mean())
        familiar = sum(genre_I[other] == genre_I[item] for other, _ in recent)
        logit = -1.2 + 0.8 * quality_I[item] + 0.9 * liked + (0.0, -0.4, 0.3)[surface] + 0.3 * familiar
        click = int(rng.random() < 1 / (1 + np.exp(-logit)))
        buy = int(rng.random() < 1 / (1 + np.exp(1.5 - 0.7 * quality_I[item]))) if click else ""
        watched = round(float(np.exp(rng.normal(1.5 + 0.6 * quality_I[item], 0.5))) * click + float(rng.random()), 3)
        cells = _cells(user, item, surface, time, genres[item], recent, rng)
        if not lines:
            lines.append(",".join([*cells, "click", "buy", "watch_time"]))
        lines.append(",".join([*cells.values(), str(click), str(buy), str(watched)]))
        if click:
            history[user].append((item, time))
    path.write_text("\n".join(lines) + "\n")
    return path


def _cells(
    user: int, item: int, surface: int, time: int, genres: list[int], recent: list[tuple[int, int]], rng: Any
) -> dict[str, str]:
    """Return the cells of a row, without labels."""
    return {
        "user_id": f"u{user}",
        "item_id": f"i{item}",
        "surface": SURFACES[surface],
        "genres": "|".join(f"g{genre}" for genre in genres),
        "genre_weights": "|".join(f"{1 / (place + 1):.2f}" for place in range(len(genres))),
        "hist_items": "|".join(f"i{other}" for other, _ in recent),
        "hist_times": "|".join(str(seen) for _, seen in recent),
        "price": f"{np.exp(rng.normal(2, 0.6)):.2f}",
        "age": "" if rng.random() < 0.1 else str(int(18 + abs(rng.normal(0, 12)))),
        "ts": str(time),
        "weight": f"{0.5 + rng.random():.2f}",
    }
