"""The parity checks themselves, on files of plain implementations, including kinds that may be missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.golden import sequential_checks as checks
from tests.golden import sequential_twin as twin
from tests.golden.checks import FORWARD, STEP, differing, same_state
from tests.golden.sequential_cases import Case, find

FINETUNE = {"stage": "finetune"}
WRITTEN = {
    "pretrain_shortbatch": ("TiMiRec", {"width": 4}),
    "pretrain_k3_padded_to_max": ("TiMiRec", {}),
    "finetune_k3_n2_temp2_evalmode": ("TiMiRec", {**FINETUNE, "n_layers": 2, "temp": 2.0}),
    "finetune_k4_n3_temp03": ("TiMiRec", {**FINETUNE, "K": 4, "n_layers": 3, "temp": 0.3, "negatives": 1}),
    "finetune_k2_pos_notrm": ("TiMiRec", {**FINETUNE, "K": 2, "add_trm": 0}),
    "comirec_k2_nopos": ("ComiRec", {"K": 2, "add_pos": 0}),
    "mind_k3_p2_relu": ("MIND", {"p": "2", "relu_layer": 1}),
    "mind_k2_5iterations": ("MIND", {"K": 2, "iterations": 5}),
    "sasrec_2layer_4head": ("SASRec", {"num_layers": 2, "num_heads": 4}),
    "tisasrec_2layer_2head": ("TiSASRec", {"num_layers": 2, "num_heads": 2}),
}
TRAJECTORIES = {"finetune_trajectory": FINETUNE, "pretrain_k2_trajectory": {"K": 2, "add_pos": 0}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("twin")
    for name, (model, settings) in WRITTEN.items():
        twin.write_case(path / f"{name}.npz", model, **settings)
    for name, settings in TRAJECTORIES.items():
        twin.write_trajectory(path / f"{name}.npz", **settings)
    return path


def test_find_reads_a_folder_and_its_subfolder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "timirec").symlink_to(folder)
    np.savez(folder / "other.npz", **{"meta/json": np.array('{"note": "something else"}')})
    expected = {*WRITTEN, *TRAJECTORIES}
    assert {case.path.stem for case in find(folder)} == expected
    assert {case.path.stem for case in find(tmp_path)} == expected
    assert {case.path.stem for case in find(folder) if case.trajectory} == set(TRAJECTORIES)


@pytest.mark.parametrize("name", WRITTEN)
def test_single_batch(folder: Path, name: str) -> None:
    case = Case(folder / f"{name}.npz")
    assert checks.forward(case) == ({}, [])
    assert not checks.representation(case)
    assert not checks.losses(case)
    prefixes = ["grad", "grad_bpr", "grad_kl"] if name.startswith("finetune") else ["grad"]
    for prefix in prefixes:
        differences, ours, theirs = checks.part_gradients(case, prefix)
        assert case.ours(prefix)
        assert not differences
        assert ours == theirs
    steps = checks.first_steps(case)
    assert set(steps) == {"step1", "step1_l2_0.01"}
    assert not any(steps.values()), steps


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_trajectory(folder: Path, name: str) -> None:
    case = Case(folder / f"{name}.npz")
    ours = checks.trajectory(case)
    assert len(ours.curve) == 20
    assert not differing({"loss": ours.curve}, {"loss": case.tensor("loss/per_step")}, FORWARD)
    assert checks.mean_of(ours.kept) > 0.9
    assert not same_state(ours.last, case.ours("final"), ours.kept, 10 * STEP)
    after = {"score": case.tensor("output/eval_prediction_after")}
    assert not differing({"score": ours.score_BN}, after, 10 * FORWARD)


def modified(case: Case, tmp_path: Path, key: str, change: Callable[[np.ndarray], np.ndarray]) -> Case:
    arrays = {k: v.copy() for k, v in case.arrays.items()}
    arrays[key] = change(arrays[key])
    np.savez(tmp_path / case.path.name, **arrays)
    return Case(tmp_path / case.path.name)


def one_off(array: np.ndarray) -> np.ndarray:
    """Change the entry with the largest absolute value, which no check treats as a rounding error."""
    array = np.array(array)
    array.flat[np.abs(array).argmax()] += 3e-5
    return array


@pytest.mark.parametrize(
    ("key", "check"),
    [
        ("output/train_prediction", lambda case: checks.forward(case)[0]),
        ("output/batch1_eval_prediction", lambda case: checks.forward(case)[0]),
        ("output/eval_interest_extractor", lambda case: checks.forward(case)[0]),
        ("output/train_target_intent", lambda case: checks.forward(case)[0]),
        ("output/eval_prediction", checks.representation),
        ("loss/kl_batchmean", checks.losses),
        ("loss/bpr", checks.losses),
        ("grad/proj.proj_0.weight", lambda case: checks.part_gradients(case, "grad")[0]),
        ("grad_kl/interest_predictor.rnn.bias_hh_l0", lambda case: checks.part_gradients(case, "grad_kl")[0]),
        ("step1/interest_extractor.p_embeddings.weight", lambda case: checks.first_steps(case)["step1"]),
        (
            "step1_l2_0.01/interest_extractor.transformer.masked_attn_head.v_linear.weight",
            lambda case: checks.first_steps(case)["step1_l2_0.01"],
        ),
    ],
)
def test_one_wrong_value_is_detected(folder: Path, tmp_path: Path, key: str, check: Callable[[Case], object]) -> None:
    case = modified(Case(folder / "finetune_k3_n2_temp2_evalmode.npz"), tmp_path, key, one_off)
    assert check(case)


def test_a_wrong_absent_gradient_is_detected(folder: Path, tmp_path: Path) -> None:
    case = Case(folder / "finetune_k2_pos_notrm.npz")
    case = modified(case, tmp_path, "gradnone_kl", lambda names: names[names != "interest_extractor.W2.weight"])
    _, ours, theirs = checks.part_gradients(case, "grad_kl")
    assert ours - theirs == {"extractor.weigh.weight"}
    assert not theirs - ours
