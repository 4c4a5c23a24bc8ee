"""Print the oldest version that pyproject.toml allows of every direct dependency, as a constraints file.

python scripts/oldest_versions.py >oldest.txt
"""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*\])?>=(?P<version>[0-9.]+)")


def oldest(project: dict) -> list[str]:
    """Return ``name==version`` for every requirement with a lower bound; the extras of stemlab itself have none.

    Raises:
        ValueError: a requirement has no lower bound.
    """
    requirements = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    pins = []
    for requirement in requirements:
        if requirement.startswith(project["name"] + "["):
            continue
        found = REQUIREMENT.match(requirement)
        if found is None:
            raise ValueError(f"{PYPROJECT.name}: {requirement!r} has no lower bound; write name>=version.")
        pins.append(f"{found['name']}=={found['version']}")
    return pins


if __name__ == "__main__":
    print("\n".join(oldest(tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"])))
