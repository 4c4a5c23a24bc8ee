"""Read the entry points of the installed packages once per process: Lightning does so for each trainer."""

import importlib.metadata
from functools import cache

importlib.metadata.entry_points = cache(importlib.metadata.entry_points)
