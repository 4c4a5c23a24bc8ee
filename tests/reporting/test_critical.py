"""Average ranks, critical differences and cliques against scipy and the example of Demšar (2006)."""

import numpy as np
import pytest
from scipy import stats

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.report import report
from stemlab.reporting.critical import nemenyi_difference, rank_models
from stemlab.reporting.evidence_figures import critical_note, pareto_front
from tests.reporting.records import record, write

# Table 6: AUC of C4.5, C4.5+m, C4.5+cf, C4.5+m+cf on 14 datasets; voting with one digit more, as its ranks are 2 and 3
DEMSAR = np.array(
    [
        *([0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967]),
        *([0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931]),
        *([0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875]),
        *([1.0, 1.0, 1.0, 1.0], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669]),
        *([0.972, 0.981, 0.9752, 0.9751], [0.957, 0.978, 0.946, 0.970]),
    ]
).T
NAMES = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")


def test_the_example_of_demsar():
    found = rank_models(NAMES, DEMSAR, "nemenyi")
    assert dict(zip(found.names, np.round(found.ranks, 3), strict=True)) == {
        **{"C4.5+m+cf": 1.964, "C4.5+m": 2.0},
        **{"C4.5+cf": 2.893, "C4.5": 3.143},
    }
    assert found.difference == pytest.approx(1.25, abs=0.005)
    assert nemenyi_difference(4, 14, 0.1) == pytest.approx(1.12, abs=0.005)
    assert found.p == pytest.approx(stats.friedmanchisquare(*DEMSAR).pvalue)
    square = 12 * 14 / (4 * 5) * (np.square(found.ranks).sum() - 4 * 25 / 4)
    assert square == pytest.approx(9.28, abs=0.01)  # published
    assert found.cliques == ((0, 3),)  # level 0.05: the data are not sufficient
    assert rank_models(NAMES, DEMSAR, "nemenyi", 0.1).cliques == ((0, 2), (2, 3))


def test_critical_values_are_the_published_ones():
    """Table 5 (a): q for 2 to 10 models at the level 0.05."""
    published = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
    for models, expected in enumerate(published, 2):
        difference = nemenyi_difference(models, 1)
        assert difference / np.sqrt(models * (models + 1) / 6) == pytest.approx(expected, abs=0.002)


def test_pairs_by_wilcoxon_with_holm():
    rng = np.random.default_rng(0)
    values = np.array([0.8, 0.8, 0.6])[:, None] + rng.normal(0, 0.02, (3, 12))
    found = rank_models(("a", "b", "c"), values, "wilcoxon")
    p = [stats.wilcoxon(values[a], values[b]).pvalue for a, b in ((0, 1), (0, 2), (1, 2))]
    assert max(p[1:]) * 3 < 0.05 < p[0]
    assert found.cliques == ((0, 1),)
    assert found.difference is None
    assert rank_models(("a", "b", "c"), np.ones((3, 5)), "wilcoxon").cliques == ((0, 2),)
    with pytest.raises(StemlabError, match="three models"):
        rank_models(("a", "b"), values[:2], "nemenyi")


def test_the_pareto_front():
    assert pareto_front([1, 2, 3, 2, 1], [0.5, 0.7, 0.6, 0.7, 0.4]) == [0, 1, 3]


def test_figures_of_a_report(tmp_path):
    made = []
    for dataset in ("toy", "other"):
        for model, auc in {"stem": (0.8, 0.7), "mmoe": (0.7, 0.71), "ple": (0.6, 0.5)}.items():
            one = record(model, 1, auc=auc, dataset=dataset, dataset_fingerprint=dataset * 8)
            one["config"]["dataset"]["name"] = dataset
            made.append(one)
    runs, out = write(tmp_path / "runs", *made), tmp_path / "out"
    words = [f"runs=[{runs}]", "metrics=[auc,logloss]", f"output={out}"]
    text = report(
        compose("report", [*words, "critical.metrics=[auc]", "pareto.metric=auc/like", "costs=[parameters,best]"])
    )
    assert {f"results_critical{end}" for end in (".png", ".svg")} <= {path.name for path in out.iterdir()}
    assert sum("_pareto.svg" in line for line in text.splitlines()) == 2
    drawn = (out / "results_critical.svg").read_text()
    assert critical_note(rank_models("abc", [[1, 2], [2, 1], [3, 3]], "nemenyi")).startswith("average ranks over 2")
    assert "matplotlib" in drawn
    assert (
        "| model | finish AUC | like AUC | finish log loss | like log loss | seeds | parameters | to best epoch (s) |"
        in text
    )
    assert "| 3,000 | 1 |" in text  # 1,000 + 2,000 parameters; epoch 1 of 2 in 2 s
    with pytest.raises(StemlabError, match=r"pareto.metric.*auc/like"):
        report(compose("report", [*words, "pareto.metric=auc/lik"]))
    with pytest.raises(StemlabError, match="output"):
        report(compose("report", [*words[:2], "critical.metrics=[auc]"]))
