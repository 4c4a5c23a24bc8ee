"""Where kernels may run: the mode, and everything that traces, compiles or transforms a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.inference import evaluate
from stemlab.nn.kernels.dispatch import is_transformed, kernel_mode, use_cpu_kernel
from stemlab.predict import predict
from stemlab.runs.restore import merge_config
from stemlab.runs.run import TrainingRun


def test_plain_cpu_tensors_use_kernels() -> None:
    assert use_cpu_kernel(torch.ones(2), torch.nn.Parameter(torch.ones(2, dtype=torch.float64)))


def test_blocks_restore_the_previous_mode() -> None:
    with kernel_mode("off"):
        assert not use_cpu_kernel(torch.ones(2))
        with kernel_mode("auto"):
            assert use_cpu_kernel(torch.ones(2))
        assert not use_cpu_kernel(torch.ones(2))
    assert use_cpu_kernel(torch.ones(2))


def test_an_error_restores_the_mode() -> None:
    with pytest.raises(KeyError), kernel_mode("off"):
        raise KeyError
    assert use_cpu_kernel(torch.ones(2))


class Subclass(Tensor):
    pass


@pytest.mark.parametrize(
    "tensor",
    [torch.ones(2, dtype=torch.bfloat16), torch.ones(0, 3), torch.ones(2, device="meta"), Subclass(torch.ones(2))],
    ids=["bf16", "empty", "device", "subclass"],
)
def test_other_tensors_use_the_plain_equations(tensor: Tensor) -> None:
    assert not use_cpu_kernel(tensor)
    assert not use_cpu_kernel(torch.ones(2), tensor)


def test_fake_tensors_use_the_plain_equations() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        assert not use_cpu_kernel(torch.ones(2))


def seen_inside(run: Callable[[Callable[[Tensor], Tensor]], Any]) -> list[bool]:
    """Return what ``use_cpu_kernel`` answers inside a transformed function."""
    answers: list[bool] = []

    def function(x: Tensor) -> Tensor:
        answers.append(use_cpu_kernel(torch.ones(2)))
        return x.square().sum()

    run(function)
    return answers


TRANSFORMS = {
    "autocast": lambda f: torch.autocast("cpu", torch.bfloat16)(f)(torch.ones(3)),
    "grad": lambda f: torch.func.grad(f)(torch.ones(3)),
    "vmap": lambda f: torch.func.vmap(f)(torch.ones(2, 3)),
    "jvp": lambda f: torch.func.jvp(f, (torch.ones(3),), (torch.ones(3),)),
    "trace": lambda f: torch.jit.trace(f, torch.ones(3), check_trace=False),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_use_the_plain_equations(name: str) -> None:
    assert seen_inside(TRANSFORMS[name]) == [False]
    assert use_cpu_kernel(torch.ones(2))


def test_forward_mode_differentiation_uses_the_plain_equations() -> None:
    with forward_ad.dual_level():
        assert not use_cpu_kernel(torch.ones(2))


def test_compile_and_export_use_the_plain_equations() -> None:
    class Net(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1 if use_cpu_kernel(x) else x - 1

    x = torch.ones(2)
    assert Net()(x).tolist() == [2, 2]
    assert torch.compile(Net(), backend="eager", fullgraph=True)(x).tolist() == [0, 0]
    assert torch.export.export(Net(), (x,)).module()(x).tolist() == [0, 0]


def test_private_interfaces() -> None:
    """``torch._C._functorch.maybe_current_level`` and ``torch.autograd.forward_ad._current_level``."""
    assert torch._C._functorch.maybe_current_level() is None
    assert forward_ad._current_level == -1
    assert not is_transformed()


# ------------------------------------------------------------------------------------------------------------ config


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_a_run_obeys_the_config(mode: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = ["model=stem", "dataset=tiktok", f"trainer.kernels={mode}", f"paths.output_dir={tmp_path}"]
    config = compose("train", words)
    inside: list[bool] = []

    def train(run: TrainingRun) -> dict[str, float]:
        inside.append(use_cpu_kernel(torch.ones(2)))
        return {config["objective"]: 0.5}

    monkeypatch.setattr(TrainingRun, "_train", train)
    run = TrainingRun(config, words, None)
    assert run.run() == 0.5
    assert inside == [mode == "auto"]
    assert run.recorder.record["config"]["trainer"]["kernels"] == mode


def test_checkpoints_keep_the_mode_unless_another_is_chosen() -> None:
    saved = {"trainer": {"kernels": "off", "accelerator": "cpu"}, "dataset": {}}
    unset = {"raw_dir": None, "data_dir": None}
    assert merge_config(saved, {"trainer": {"kernels": None}, **unset})["trainer"]["kernels"] == "off"
    assert merge_config(saved, {"trainer": {"kernels": "auto"}, **unset})["trainer"]["kernels"] == "auto"


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_evaluation_obeys_the_config(mode: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inside: list[bool] = []
    trainer = SimpleNamespace(validate=lambda *_, **__: inside.append(use_cpu_kernel(torch.ones(2))))
    monkeypatch.setattr(evaluate, "build_trainer", lambda *_, **__: trainer)
    evaluation = object.__new__(evaluate.CheckpointEvaluation)
    evaluation.prefix, evaluation.chosen = "val", {"save_scores": False, "split": "valid", "output": None}
    evaluation.rebuilt = SimpleNamespace(
        config={"seed": 1, "trainer": {"kernels": mode, "accelerator": "cpu"}},
        prepare=lambda: None,
        module=lambda: SimpleNamespace(metric_values={}),
        datamodule=None,
        directory=tmp_path,
        saved=SimpleNamespace(path=tmp_path / "best.ckpt"),
    )
    evaluation.run()
    assert inside == [mode == "auto"]


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_prediction_obeys_the_config(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[bool] = []

    class Job:
        def __init__(self, *_: Any) -> None:
            pass

        def run(self) -> None:
            inside.append(use_cpu_kernel(torch.ones(2)))

        def summary(self) -> str:
            return "done"

    run = SimpleNamespace(config={"trainer": {"kernels": mode, "accelerator": "cpu"}}, datamodule=None)
    monkeypatch.setattr("stemlab.runs.restore.RebuiltRun", lambda _: run)
    monkeypatch.setattr("stemlab.inference.recommend.refuse_options", lambda _: None)
    monkeypatch.setattr("stemlab.inference.score_rows.Scorer", Job)
    assert predict({}) == "done"
    assert inside == [mode == "auto"]


def test_other_modes_are_refused() -> None:
    with pytest.raises(StemlabError, match=r"trainer\.kernels"):
        compose("train", ["model=stem", "dataset=tiktok", "trainer.kernels=fast"])
