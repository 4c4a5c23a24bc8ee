"""Where the tests find numbers of the published code and real data; both live outside the project (licences)."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = Path(os.environ.get("STEMLAB_GOLDEN", ROOT.parent / "shared" / "golden"))
REAL_DATA = Path(os.environ.get("STEMLAB_REAL_DATA", ROOT.parent / "shared" / "data"))


def require(path: Path) -> Path:
    """Return the path, or skip the test with a reason that names what is missing."""
    if not path.exists():
        pytest.skip(f"needs {path} (set STEMLAB_GOLDEN or STEMLAB_REAL_DATA to where it is)")
    return path


@pytest.fixture(scope="session")
def golden() -> Path:
    return require(GOLDEN)


@pytest.fixture(scope="session")
def real_data() -> Path:
    return require(REAL_DATA)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT
