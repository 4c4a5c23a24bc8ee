"""Mutual information by category and position, learned correlations, agreement."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from stemlab.analysis.correlation.agreement import agreement, cosine_similarity, decay, pearson, spearman
from stemlab.analysis.correlation.ground_truth import CorrelationCounts, mutual_information, newest_first, scaled
from stemlab.analysis.correlation.learned import target_attention

RELEASED_TRUTH = """
.01 .03 .03 .03 .04 .05 .04 .02 .05 .03
0 0 0 0 .01 0 0 0 0 0
1 .48 .30 .27 .23 .22 .18 .19 .17 .12
.23 .14 .12 .13 .10 .07 .14 .13 .09 .10
.01 0 0 0 0 0 0 0 0 0"""
RELEASED_TIN = """
.06 .02 .01 0 0 0 0 0 0 0
.08 .03 .02 .01 .01 .01 .01 0 0 0
1 .52 .28 .15 .11 .11 .09 .07 .06 .05
.22 .11 .06 .03 .03 .03 .03 .02 .02 .02
.09 .04 .02 .01 0 0 0 0 0 0"""


def parse(text: str) -> np.ndarray:
    return np.array([[float(cell) for cell in line.split()] for line in text.strip().splitlines()])


def test_positions_are_counted_from_the_target() -> None:
    found = newest_first(np.array([[7, 8, 9, 5], [4, 5, 5, 5]]), np.array([3, 1]), 4)
    assert found.tolist() == [[9, 8, 7, 0], [4, 0, 0, 0]]


def test_independent_and_identical_variables() -> None:
    assert mutual_information(np.array([20.0, 10.0]), np.array([60.0, 30.0])) == pytest.approx(0, abs=1e-12)
    assert mutual_information(np.array([0.0, 50.0]), np.array([50.0, 50.0])) == pytest.approx(1)
    assert np.isnan(mutual_information(np.array([0, 0]), np.array([0, 0])))


@given(cells=st.lists(st.integers(0, 40), min_size=4, max_size=4).filter(any))
@settings(max_examples=100, deadline=None)
def test_mutual_information_equals_that_of_the_contingency_table(cells: list[int]) -> None:
    x_n, x_p, o_n, o_p = cells
    x = np.repeat([1, 1, 0, 0], cells)
    y = np.repeat([0, 1, 0, 1], cells)
    found = mutual_information(np.array([x_n, x_p]), np.array([x_n + o_n, x_p + o_p]))
    assert found == pytest.approx(mutual_info_score(x, y) / np.log(2), abs=1e-12)


def counts_of(
    histories: list[list[int]], targets: list[int], labels: list[int], positions: int = 2
) -> CorrelationCounts:
    category = np.array([-1, 0, 0, 1, 2])  # items 1 and 2 have the same category
    member = category[:, None] == np.arange(3)
    counts = CorrelationCounts(member, member, positions)
    lengths = np.array([len(history) for history in histories])
    table = np.zeros((len(histories), max(lengths)), dtype=int)
    for row, history in enumerate(histories):
        table[row, : len(history)] = history
    counts.add(table, lengths, np.array(targets), np.array(labels))
    return counts


def test_counts_by_hand() -> None:
    counts = counts_of([[1, 3], [2], [3, 4, 2]], [1, 2, 3], [1, 0, 1])
    assert counts.total_TY.tolist() == [[1, 1], [0, 1], [0, 0]]
    # targets of category 0: [1, 3] positive, [2] negative
    assert counts.with_TCPY[0, :, 0].tolist() == [[1, 0], [0, 1], [0, 0]]
    assert counts.with_TCPY[0, :, 1].tolist() == [[0, 1], [0, 0], [0, 0]]
    assert counts.all_TPY[0].tolist() == [[1, 1], [0, 1]]
    assert counts.correlation()[0, 0].tolist() == pytest.approx([1, 1])
    assert counts.correlation(reaching=True)[0, 0, 1] == pytest.approx(0)


def test_the_order_of_samples_and_batches_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    rows = 200
    histories = [rng.integers(1, 5, size=rng.integers(1, 5)).tolist() for _ in range(rows)]
    targets, labels = rng.integers(1, 5, rows).tolist(), rng.integers(0, 2, rows).tolist()
    whole = counts_of(histories, targets, labels)
    order = rng.permutation(rows)
    mixed = counts_of(*([values[row] for row in order] for values in (histories, targets, labels)))
    first = counts_of(histories[:90], targets[:90], labels[:90])
    second = counts_of(histories[90:], targets[90:], labels[90:])
    np.testing.assert_array_equal(whole.with_TCPY, mixed.with_TCPY)
    np.testing.assert_array_equal(whole.with_TCPY, first.with_TCPY + second.with_TCPY)


def test_a_planted_decay_is_found() -> None:
    rng = np.random.default_rng(7)
    rows, positions, categories = 60_000, 6, 4
    history = rng.integers(1, categories + 1, size=(rows, positions))
    target = rng.integers(1, categories + 1, size=rows)
    same = history[:, ::-1] == target[:, None]  # by position
    logit = -1 + same @ (3 * np.exp(-0.6 * np.arange(positions)))
    label = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(int)
    member = np.concatenate([np.zeros((1, categories)), np.eye(categories)])
    counts = CorrelationCounts(member, member, positions)
    counts.add(history, np.full(rows, positions), target, label)
    for category, found in enumerate(counts.correlation()):
        assert np.unravel_index(found.argmax(), found.shape) == (category, 0)
        assert spearman(found[category], np.arange(positions)) <= -0.9
        assert decay(found[category])[1] > 0.3


def test_agreement_of_the_released_matrices() -> None:
    truth, learned = parse(RELEASED_TRUTH), parse(RELEASED_TIN)
    assert pearson(truth[2], learned[2]) == pytest.approx(0.9895, abs=5e-5)
    assert pearson(truth[3], learned[3]) == pytest.approx(0.8649, abs=5e-5)
    assert pearson(truth, learned) == pytest.approx(0.9492, abs=5e-5)


def test_agreement_of_a_matrix_with_itself_and_with_a_constant() -> None:
    matrix = np.arange(6.0).reshape(2, 3)
    assert agreement(matrix, 2 * matrix) == pytest.approx({"pearson": 1, "spearman": 1, "cosine": 1})
    assert spearman(matrix, np.exp(matrix)) == pytest.approx(1)
    assert np.isnan(pearson(matrix, np.ones((2, 3))))
    assert np.isnan(cosine_similarity(matrix, np.zeros((2, 3))))


@pytest.mark.parametrize(("factor", "rate"), [(0.7, 0.35), (2.0, 0.0), (1.0, 3.0)])
def test_decay_is_fitted(factor: float, rate: float) -> None:
    found = decay(factor * np.exp(-rate * np.arange(1, 11)))
    assert found == pytest.approx((factor, rate), rel=1e-4, abs=1e-5)


def test_scaled_matrix_ranges_from_zero_to_one() -> None:
    assert scaled(np.array([[2.0, 4.0], [3.0, 2.5]])).tolist() == [[0, 1], [0.5, 0.25]]
    assert scaled(np.ones((2, 2))).tolist() == [[0, 0], [0, 0]]


def test_the_formula_of_the_paper_by_hand() -> None:
    category, target, position = np.array([[1.0, 2.0]]), np.array([0.5, -1.0]), np.array([[0.1, 0.2], [0.3, 0.4]])
    found = target_attention("tin", category, target, position)
    product = np.array([1.3 * 0.6, 2.4 * -0.8])
    expected = np.exp(product.sum() / np.sqrt(2)) * np.linalg.norm(product)
    assert found.correlation("paper")[0, 0] == pytest.approx(expected)
    constant = target_attention("din", category, target, np.zeros((4, 2)))
    assert constant.correlation("paper").shape == (1, 3)
    assert np.ptp(constant.correlation("paper")) == 0
