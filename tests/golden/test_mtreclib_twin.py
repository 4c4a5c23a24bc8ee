"""The checks of test_mtreclib.py on files of plain implementations: MetaHeac, and PLE with three tasks or one layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.golden import mtreclib_twin, test_mtreclib
from tests.golden.mtreclib import MTReclibCase, find

WRITTEN = {
    "heac": ("MetaHeac", {"task_num": 2, "expert_num": 3, "critic_num": 5}),
    "heac_3task_1critic": ("MetaHeac", {"task_num": 3, "expert_num": 2, "critic_num": 1}),
    "ple_3task": ("PLEModel", {"task_num": 3, "shared_expert_num": 1, "specific_expert_num": 2}),
    "ple_1layer": (
        "PLEModel",
        {"task_num": 2, "shared_expert_num": 2, "specific_expert_num": 1, "bottom_mlp_dims": [8]},
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("twin")
    for name, (model, config) in WRITTEN.items():
        mtreclib_twin.write(path / f"{name}.npz", model, config)
    return path


def test_find_reads_a_folder_and_its_subfolder(folder: Path, tmp_path: Path) -> None:
    np.savez(folder / "other.npz", **{"meta/json": np.array('{"config": {}}')})
    (tmp_path / "mtreclib").symlink_to(folder)
    for root in (folder, tmp_path):
        assert {case.path.stem for case in find(root)} == set(WRITTEN)


@pytest.mark.parametrize("name", WRITTEN)
def test_parity(folder: Path, name: str) -> None:
    case = MTReclibCase(folder / f"{name}.npz")
    for training in (True, False):
        test_mtreclib.test_outputs(case, training)
        for form in ("logits", "probability"):
            test_mtreclib.test_gradients(case, form, training)
            test_mtreclib.test_losses_are_averaged_over_tasks(case, form)
    test_mtreclib.test_one_sample(case)
    test_mtreclib.test_running_statistics(case)
    for kind in ("torch", "stemlab"):
        test_mtreclib.test_one_adam_step(case, kind)


@pytest.mark.parametrize(
    ("key", "check"),
    [
        ("output/train_pred_task1", lambda case: test_mtreclib.test_outputs(case, True)),
        ("output/batch1_eval_pred_task0", test_mtreclib.test_one_sample),
        ("loss/total", lambda case: test_mtreclib.test_losses_are_averaged_over_tasks(case, "logits")),
        ("grad_evalmode/task_embedding.weight", lambda case: test_mtreclib.test_gradients(case, "logits", False)),
        ("aftertrainforward/critic.1.mlp.1.running_mean", test_mtreclib.test_running_statistics),
        ("step1/critic_gate.0.weight", lambda case: test_mtreclib.test_one_adam_step(case, "torch")),
    ],
)
def test_one_wrong_value_is_detected(folder: Path, tmp_path: Path, key: str, check: object) -> None:
    arrays = {k: v.copy() for k, v in MTReclibCase(folder / "heac.npz").arrays.items()}
    arrays[key].flat[0] += 1e-5
    np.savez(tmp_path / "heac.npz", **arrays)
    with pytest.raises(AssertionError):
        check(MTReclibCase(tmp_path / "heac.npz"))
