"""Claim of the STEM paper on synthetic data with known truth, with small networks and three seeds.

If like conflicts with finish, STEM's embedding table for like must beat MMoE and PLE, whose shared table is dominated
by the thirty times more frequent finish. If both tasks have the same preferences, separate tables bring no gain.
"""

from concurrent.futures import ProcessPoolExecutor
from statistics import fmean, stdev

import pytest

from tests.data.sample.conflict_runs import sample_auc
from tests.ranks import server_context

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # two minutes on two cores

MODELS = ("mmoe", "ple", "stem")
SEEDS = (2023, 76, 525)


@pytest.fixture(scope="module")
def like_auc(tmp_path_factory):
    """Return (model, conflict) -> test AUC of like per seed; trains two models in parallel."""
    folder = str(tmp_path_factory.mktemp("claims"))
    jobs = [(model, conflict, seed) for conflict in (0.0, 1.0) for model in MODELS for seed in SEEDS]
    with ProcessPoolExecutor(2, server_context()) as pool:
        running = [pool.submit(sample_auc, *job, folder) for job in jobs]
        found = [future.result()["like"] for future in running]
    values = {}
    for (model, conflict, _), auc in zip(jobs, found, strict=True):
        values.setdefault((model, conflict), []).append(auc)
    return values


def noise_of_means(*groups):
    """Return the standard error of a difference of means over seeds."""
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
    """Like benefits from finish: the same networks reach a far higher AUC than with conflicting tasks."""
    for model in ("mmoe", "ple"):
        assert fmean(like_auc[model, 0.0]) > fmean(like_auc[model, 1.0]) + 0.05
