"""Files of saved scores: what makes two runs comparable sample by sample."""

from dataclasses import replace

import numpy as np
import pytest

from stemlab.errors import StemlabError
from stemlab.reporting.scores import TaskScores, load_scores, save_scores

ROWS = np.arange(6)
SCORES = TaskScores(
    *("d" * 64, "test", ROWS),
    **{"tasks": ("finish", "like"), "regression": (), "scenarios": ("nl", "us")},
    prob_BT=np.linspace(0, 1, 12, dtype=np.float32).reshape(6, 2),
    labels_BT=np.array([[0, 1]] * 6, dtype=np.int8),
    group_B=np.array([1, 1, 2, 2, 3, 3]),
    scenario_B=np.array([0, 1, 0, 1, 0, 1], dtype=np.int32),
    mask_BT=np.array([[1, 0]] * 3 + [[1, 1]] * 3, dtype=np.int8),
)


def test_a_file_gives_back_what_was_saved(tmp_path):
    save_scores(tmp_path / "test_scores_of_best.npz", SCORES)
    found = load_scores(tmp_path)
    assert found.fingerprint == SCORES.fingerprint
    np.testing.assert_array_equal(found.prob("like"), SCORES.prob_BT[:, 1])
    assert found.prob_BT.dtype == np.float32
    assert (found.tasks, found.scenarios, found.weight_B) == (("finish", "like"), ("nl", "us"), None)
    assert list(found.counts("like", "us")) == [False, False, False, True, False, True]


def test_the_fingerprint_is_that_of_the_samples_not_of_the_scores():
    other = replace(SCORES, tasks=("like",), prob_BT=SCORES.prob_BT[:, 1:], labels_BT=SCORES.labels_BT[:, 1:])
    assert other.fingerprint == SCORES.fingerprint
    changes = [{"row_B": ROWS + 1}, {"group_B": SCORES.group_B + 1}, {"split": "valid"}, {"dataset_fingerprint": "e"}]
    assert len({replace(SCORES, **change).fingerprint for change in changes} | {SCORES.fingerprint}) == 5


def test_damaged_files_are_refused(tmp_path):
    file = tmp_path / "test_scores_of_best.npz"
    save_scores(file, SCORES)
    content = file.read_bytes()
    for part in (content[: len(content) // 2], b""):
        file.write_bytes(part)
        with pytest.raises(StemlabError, match="saved scores"):
            load_scores(file)
    np.savez(file, **_arrays(SCORES, tmp_path) | {"row_B": ROWS + 1})
    with pytest.raises(StemlabError, match="fingerprint"):
        load_scores(file)


def _arrays(scores, folder):
    save_scores(folder / "whole.npz", scores)
    with np.load(folder / "whole.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}
