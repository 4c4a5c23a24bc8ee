"""The paper's claim on a simulation where the truth is known, with small networks and three seeds.

Where like contradicts finish, the tables that STEM keeps for like must beat MMoE and PLE, whose one table is shaped by
the thirty times more frequent finish; where both tasks want the same, there is nothing to win by keeping them apart.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import fmean, stdev

import pytest

from tests.data.sample.conflict_runs import sample_auc

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # two minutes on two idle cores

MODELS = ("mmoe", "ple", "stem")
SEEDS = (2023, 76, 525)


@pytest.fixture(scope="module")
def like_auc(tmp_path_factory):
    """(model, conflict) -> test AUC of like for each seed; two trainings at a time."""
    folder = str(tmp_path_factory.mktemp("claims"))
    jobs = [(model, conflict, seed) for conflict in (0.0, 1.0) for model in MODELS for seed in SEEDS]
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        running = [pool.submit(sample_auc, *job, folder) for job in jobs]
        found = [future.result()["like"] for future in running]
    values = {}
    for (model, conflict, _), auc in zip(jobs, found, strict=True):
        values.setdefault((model, conflict), []).append(auc)
    return values


def noise_of_means(*groups):
    """Standard error of a difference between two means over seeds."""
    return (sum(stdev(group) ** 2 / len(group) for group in groups)) ** 0.5


def test_stem_wins_like_where_tasks_conflict(like_auc):
    stem = like_auc["stem", 1.0]
    for other in ("mmoe", "ple"):
        theirs = like_auc[other, 1.0]
        assert fmean(stem) - fmean(theirs) > max(0.003, noise_of_means(stem, theirs)), like_auc


def test_stem_is_not_favoured_where_tasks_agree(like_auc):
    stem = like_auc["stem", 0.0]
    best = max((like_auc[model, 0.0] for model in ("mmoe", "ple")), key=fmean)
    assert fmean(stem) - fmean(best) <= noise_of_means(stem, best), like_auc


def test_sharing_pays_where_tasks_agree(like_auc):
    """The rare like borrows from finish: the same networks reach far more than where it is on its own."""
    for model in ("mmoe", "ple"):
        assert fmean(like_auc[model, 0.0]) > fmean(like_auc[model, 1.0]) + 0.05
