"""The parity checks themselves, on files of a plain implementation, including kinds that may be missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.golden import checks, twin
from tests.golden.cases import Case, find

EXPERTS = {"expert_hidden_units": [16, 8], "gate_hidden_units": [8], "tower_hidden_units": [8], "num_layers": 1}
POOL = EXPERTS | {"num_shared_experts": 2, "num_specific_experts": 2, "batch_norm": False}
BOTTOM = {"bottom_hidden_units": [16, 8], "tower_hidden_units": [8], "batch_norm": False}
WRITTEN = {
    "sharedbottom_bn": ("SharedBottom", 2, BOTTOM | {"batch_norm": True}),
    "omoe_3task_bn": (
        "OMoE",
        3,
        {key: value for key, value in EXPERTS.items() if key != "num_layers"} | {"num_experts": 3, "batch_norm": True},
    ),
    "stem_bn": ("STEM", 2, POOL | {"batch_norm": True}),
    "stem_2layer_bn": ("STEM", 2, POOL | {"batch_norm": True, "num_layers": 2}),
    "stem_3task_uneven": ("STEM", 3, POOL | {"num_shared_experts": 1, "num_specific_experts": 3}),
    "ple_3task_2layer": ("PLE", 3, POOL | {"num_shared_experts": 1, "num_layers": 2, "embedding_regularizer": 1e-3}),
    "aitm_3task": ("AITM", 3, BOTTOM),
}


TABLE = "embedding_layer.embedding_layer.embedding_layers.channel.weight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("twin")
    for name, (model, tasks, config) in WRITTEN.items():
        twin.write_case(path / f"{name}.npz", model, tasks, config)
    twin.write_trajectory(path / "path.npz", "STEM", 2, POOL | {"num_layers": 2, "embedding_regularizer": 1e-4})
    return path


def test_find_reads_a_folder_and_its_subfolder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "stem").symlink_to(folder)
    (folder / "other.npz").unlink(missing_ok=True)
    np.savez(folder / "other.npz", **{"meta/json": np.array('{"model": "SomethingElse"}')})
    expected = {*WRITTEN, "path"}
    assert {case.path.stem for case in find(folder)} == expected
    assert {case.path.stem for case in find(tmp_path)} == expected


@pytest.mark.parametrize("name", WRITTEN)
def test_single_batch(folder: Path, name: str) -> None:
    case = Case(folder / f"{name}.npz")
    assert checks.forward(case) == ({}, [])
    assert not checks.losses(case, "logits")
    differences, absent = checks.total_gradients(case, "logits")
    assert not differences
    assert absent == case.absent("gradnone")
    for task in range(len(case.tasks)):
        differences, ours, theirs = checks.task_gradients(case, task, "probability")
        assert not differences
        assert ours == theirs
    for kind in checks.STEPS:
        assert not checks.first_step(case, "logits", kind)


@pytest.mark.parametrize("name", [name for name in WRITTEN if name.endswith("bn")])
def test_batch_norm(folder: Path, name: str) -> None:
    case = Case(folder / f"{name}.npz")
    assert len(case.group("aftertrainforward")) >= 4
    assert checks.in_loss_mode(case).training
    assert not checks.running_statistics(case)


@pytest.mark.parametrize("kind", checks.STEPS)
def test_trajectory(folder: Path, kind: str) -> None:
    case = Case(folder / "path.npz")
    ours = checks.trajectory(case, "logits", kind)
    assert not checks.differing(ours.curves, {key: case.tensor(key) for key in ours.curves}, checks.FORWARD)
    kept = checks.above_noise(case, "logits", steps=20)
    assert np.mean([float(k.float().mean()) for k in kept.values()]) > 0.9
    assert not checks.same_state(ours.first, case.ours("step1"), kept, checks.STEP)
    assert not checks.same_state(ours.last, case.ours("final"), kept, 10 * checks.STEP)


def modified(case: Case, tmp_path: Path, key: str, change: object) -> Case:
    arrays = {k: v.copy() for k, v in case.arrays.items()}
    arrays[key] = change(arrays[key])
    np.savez(tmp_path / case.path.name, **arrays)
    return Case(tmp_path / case.path.name)


def first_entry(by: float) -> object:
    def change(array: np.ndarray) -> np.ndarray:
        array.flat[0] += by
        return array

    return change


@pytest.mark.parametrize(
    ("key", "check"),
    [
        ("output/train_gate_stem_layers0_2", lambda case: checks.forward(case)[0]),
        ("output/batch1_pred_task1", lambda case: checks.forward(case)[0]),
        ("loss/bce_task1", lambda case: checks.losses(case, "logits")),
        ("grad/tower.0.mlp.1.weight", lambda case: checks.total_gradients(case, "logits")[0]),
        ("grad_task_1/stem_layers.0.gate.1.mlp.3.bias", lambda case: checks.task_gradients(case, 1, "logits")[0]),
        ("aftertrainforward/stem_layers.0.gate.2.mlp.1.running_mean", checks.running_statistics),
        (f"step1/{TABLE}", lambda case: checks.first_step(case, "logits", "stemlab")),  # row 0: padding, zero gradient
        ("step1/tower.1.mlp.3.bias", lambda case: checks.first_step(case, "logits", "plain")),
    ],
)
def test_one_wrong_value_is_detected(folder: Path, tmp_path: Path, key: str, check: object) -> None:
    case = modified(Case(folder / "stem_bn.npz"), tmp_path, key, first_entry(1e-5))
    assert list(check(case)) != []


def test_a_wrong_absent_gradient_is_detected(folder: Path, tmp_path: Path) -> None:
    case = modified(Case(folder / "stem_bn.npz"), tmp_path, "gradnone_task_0", lambda names: names[1:])
    _, ours, theirs = checks.task_gradients(case, 0, "logits")
    assert len(ours - theirs) == 1
    assert not theirs - ours
