"""Paths of the released codes' numbers and of real data, which are not in the repository, and the order of files."""

import gc
import os
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import tests.kept_metadata  # noqa: F401 (before Lightning is imported)
from tests.faster_composition import compose_faster

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = Path(os.environ.get("STEMLAB_GOLDEN", ROOT.parent / "shared" / "golden"))
REAL_DATA = Path(os.environ.get("STEMLAB_REAL_DATA", ROOT.parent / "shared" / "data"))
# Long files come first, so that the workers end with short ones and at the same time.
LONG_FILES = (
    "tests/cli/test_stages.py",
    "tests/cli/test_sequential.py",
    "tests/test_two_ranks",
    "tests/cli/",
    "tests/test_matrix.py",
    "tests/test_experiments",
    "tests/test_deferred_imports.py",
    "tests/test_bench_analysis.py",
    "tests/lightning/test_captured.py",
    "tests/analysis/demo/",
    "tests/sweep/",
    "tests/own/",
    "tests/reproduction/",
    "tests/config/",
    "tests/golden/",
    "tests/data/",
)
# It starts two processes: at the end it leaves no core idle.
LAST_FILE = "tests/data/sample/test_claims.py"
# Most examples of a property test; scripts/test_environment.sh lowers it, because it repeats the tests of `make test`.
MOST_EXAMPLES = int(os.environ.get("STEMLAB_MOST_EXAMPLES", "1000000"))
compose_faster()
# A slow machine must not fail a test.
settings.register_profile("stemlab", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("stemlab")
# Composed configs, record files and autograd graphs are many small objects, few of them in cycles.
gc.set_threshold(20_000, 20, 20)
# Commands and tests share one font cache: building it takes seconds.
os.environ.setdefault("MPLCONFIGDIR", str(Path(tempfile.gettempdir()) / f"stemlab-tests-matplotlib-{os.getuid()}"))
# A background process of a shell ignores interrupts, and its children inherit that; some tests send interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        if item.nodeid.startswith(LAST_FILE):
            return len(LONG_FILES) + 1
        return next((n for n, start in enumerate(LONG_FILES) if item.nodeid.startswith(start)), len(LONG_FILES))

    items.sort(key=rank)  # stable: the order within a file stays
    for item in items:
        test = getattr(item, "obj", None)
        own = getattr(test, "_hypothesis_internal_use_settings", None)
        if own is not None and own.max_examples > MOST_EXAMPLES:
            test._hypothesis_internal_use_settings = settings(own, max_examples=MOST_EXAMPLES)


def pytest_collection_finish() -> None:
    """Exclude modules and test items from garbage collection: composing configs creates many short-lived objects."""
    gc.collect()
    gc.freeze()


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
