import numpy as np
import pytest


@pytest.fixture(scope="session")
def movielens_1m(real_data):
    """User, item, rating and time of the 1,000,209 ratings of MovieLens-1M in file order."""
    lines = (real_data / "ml-1m" / "ratings.dat").read_text(encoding="latin-1").replace("::", " ")
    return np.fromstring(lines, dtype=np.int64, sep=" ").reshape(-1, 4)
