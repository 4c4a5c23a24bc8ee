"""The checks of test_mmfi.py on files of a plain MMFI: three tasks and two scenarios; one scenario in the batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.golden import mmfi_twin, test_mmfi
from tests.golden.mmfi import MMFICase, find

SMALL = {
    "categorical_field_dims": [2, 9, 6],
    "embed_dim": 5,
    "expert_num": 2,
    "hard_sparse": True,
    "indicator_dim": 4,
    "task_num": 3,
    "user_numerical_dim": 3,
    "item_numerical_dim": 2,
    "seed": 1,
}
WRITTEN = {
    "hard_3task_2scen": (SMALL, None),
    "soft_one_scenario_in_batch": (
        SMALL | {"categorical_field_dims": [4, 9, 6], "task_num": 2, "hard_sparse": False, "expert_num": 4},
        2,
    ),
    "hard_one_scenario_in_batch": (SMALL, 1),
    "soft_1task_3scen": (
        SMALL | {"categorical_field_dims": [3, 7, 5, 4], "task_num": 1, "hard_sparse": False, "indicator_dim": 3},
        None,
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("twin")
    for name, (meta, scenario) in WRITTEN.items():
        mmfi_twin.write(path / f"{name}.npz", meta, scenario)
    return path


def test_find_reads_a_folder_and_its_subfolder(folder: Path, tmp_path: Path) -> None:
    np.savez(folder / "other.npz", **{"meta/json": np.array('{"model": "STEM"}')})
    (tmp_path / "mmfi").symlink_to(folder)
    for root in (folder, tmp_path):
        assert {case.path.stem for case in find(root)} == set(WRITTEN)


@pytest.mark.parametrize("name", WRITTEN)
def test_parity(folder: Path, name: str) -> None:
    case = MMFICase(folder / f"{name}.npz")
    for training in (True, False):
        test_mmfi.test_outputs(case, training)
        for form in ("logits", "probability"):
            test_mmfi.test_gradients(case, form, training)
    for form in ("logits", "probability"):
        test_mmfi.test_losses_are_averaged_over_tasks(case, form)
    test_mmfi.test_one_sample(case)
    test_mmfi.test_absent_gradients_are_those_of_parameters_missing_in_stemlab(case)
    test_mmfi.test_running_statistics(case)
    for kind in ("torch", "stemlab"):
        for decay in (0.0, 0.01):
            test_mmfi.test_one_adam_step(case, kind, decay)


@pytest.mark.parametrize(
    ("key", "check"),
    [
        ("output/train_pred_task2", lambda case: test_mmfi.test_outputs(case, True)),
        ("output/eval_masks.1.0_call0", lambda case: test_mmfi.test_outputs(case, False)),
        ("output/eval_pred_task0", test_mmfi.test_one_sample),
        ("loss/total", lambda case: test_mmfi.test_losses_are_averaged_over_tasks(case, "logits")),
        ("grad_evalmode/task_embedding.embedding.weight", lambda c: test_mmfi.test_gradients(c, "logits", False)),
        ("grad/specific_experts.1.2.0.weight", lambda case: test_mmfi.test_gradients(case, "logits", True)),
        ("aftertrainforward/masks.0.1.1.running_mean", test_mmfi.test_running_statistics),
        ("step1/bias", lambda case: test_mmfi.test_one_adam_step(case, "torch", 0.0)),
        ("step1_wd_0.01/interact_weights", lambda case: test_mmfi.test_one_adam_step(case, "stemlab", 0.01)),
    ],
)
def test_one_wrong_value_is_detected(folder: Path, tmp_path: Path, key: str, check: object) -> None:
    arrays = {k: v.copy() for k, v in MMFICase(folder / "hard_3task_2scen.npz").arrays.items()}
    arrays[key][...] += 1e-5
    np.savez(tmp_path / "hard.npz", **arrays)
    with pytest.raises(AssertionError):
        check(MMFICase(tmp_path / "hard.npz"))
