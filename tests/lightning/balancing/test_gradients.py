"""Training steps with one gradient per task: which parameters they change, and by what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stemlab.balancing_methods import DEFAULTS, BalancingSettings
from stemlab.config.compose import CommandLine, compose_job, hydra_context
from stemlab.lightning.balancing.gradients import GradientMethod
from stemlab.lightning.balancing.shared_parameters import TaskBlocks, task_blocks
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.lightning.settings import ModuleSettings
from stemlab.models.multitask.stem import STEM
from stemlab.nn.loss import task_losses
from stemlab.optim import OptimConfig
from stemlab.runs.build import build_datamodule, build_module
from stemlab.runs.engine import eager_reason
from tests import tiny_datasets
from tests.conf_files import model_config, model_names
from tests.lightning.toy_data import SPEC, Toy
from tests.lightning.toy_training import Training, by_rows, make, stem
from tests.test_matrix import small

torchjd = pytest.importorskip("torchjd.aggregation")
NETS = [name for name in model_names() if model_config(name)["family"] == "multitask" and name != "single_task"]
Gradients = dict[str, Tensor | None]


class Constant(nn.Module):
    """Weights that do not depend on the gradients."""

    def __init__(self, *weights: float, whole_network: bool = False) -> None:
        super().__init__()
        self.weight_T, self.whole_network = torch.tensor(weights, dtype=torch.float64), whole_network

    def __call__(self, gramian_TT: Tensor, losses_T: Tensor) -> Tensor:
        return self.weight_T


def settings(method: str) -> BalancingSettings:
    return BalancingSettings(method, DEFAULTS.get(method, {}))  # type: ignore[arg-type]


def gradients(module: MultiTaskModule, batch: Any, weights: nn.Module | None = None) -> Gradients:
    module.zero_grad(set_to_none=True)
    if module.balancing is not None and weights is not None:
        module.balancing.weights = weights
    torch.manual_seed(0)
    before = {name: buffer.clone() for name, buffer in module.net.named_buffers()}
    module.losses(batch)[0].backward()
    module.net.load_state_dict(before, strict=False)  # running statistics, and AdaSparse's count of steps
    return {name: None if p.grad is None else p.grad.to_dense().clone() for name, p in module.net.named_parameters()}


def assert_equal_gradients(found: Gradients, expected: Gradients, tolerance: float = 1e-9) -> None:
    for name, value in expected.items():
        other = found[name]
        if value is None or other is None:
            assert not any(grad is not None and grad.any() for grad in (value, other)), name
        else:
            torch.testing.assert_close(other, value, rtol=1e-6, atol=tolerance, msg=name)


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, tuple[Any, Any]], Any]:
    """Name -> module with the plain sum and module with a gradient method, equal weights; and a batch."""
    home, made, data = tmp_path_factory.mktemp("balanced_nets"), {}, None
    with hydra_context(CommandLine("train")):
        composed = compose_job("train", ["model=mmoe", *tiny_datasets.overrides("aliexpress", home)])
        for name in NETS:
            config = composed | {"model": model_config(name) | {"loss_reduction": "sum"}}
            config["model"]["net"] = small(config["model"]["net"])
            if name in ("adasparse", "aitm"):
                config["model"]["net"] |= {"adasparse": {"sparsity_weight": 1.0}, "aitm": {"calibrator_weight": 0.5}}[
                    name
                ]
            if data is None:
                data = build_datamodule(config)
                data.prepare()
                data.setup("fit")
            plain = build_module(config, data).double()
            torch.manual_seed(0)
            with torch.no_grad():  # the initial embeddings are close to zero
                for p in plain.net.parameters():
                    p.add_(0.3 * torch.randn_like(p))
            balanced = build_module(config | {"model": config["model"] | {"balancing": "upgrad"}}, data).double()
            balanced.net.load_state_dict(plain.net.state_dict())
            made[name] = plain, balanced
    batch = next(iter(data.train_dataloader()))
    batch.dense_BN = None if batch.dense_BN is None else batch.dense_BN.double()
    return made, batch


@pytest.mark.parametrize("name", NETS)
def test_weights_of_one_give_the_gradient_of_the_sum(modules: Any, name: str) -> None:
    plain, balanced = modules[0][name]
    assert_equal_gradients(gradients(balanced, modules[1], Constant(1.0, 1.0)), gradients(plain, modules[1]))


@pytest.mark.parametrize("name", NETS)
def test_only_shared_parameters_are_weighted(modules: Any, name: str) -> None:
    """What two tasks train gets the weights; what one task trains, in any network, its own gradient."""
    plain, balanced = modules[0][name]
    batch = modules[1]
    blocks = task_blocks(plain.net, batch, 2)
    one, other = (gradients(balanced, batch, Constant(*w, whole_network=True)) for w in ((1.0, 0.0), (0.0, 1.0)))
    penalty = gradients(balanced, batch, Constant(0.0, 0.0, whole_network=True))
    found = gradients(balanced, batch, Constant(2.0, 3.0))
    expected: Gradients = {}
    for key, p in plain.net.named_parameters():
        rest = torch.zeros_like(p) if penalty[key] is None else penalty[key]
        pair = [torch.zeros_like(p) if grads[key] is None else grads[key] - rest for grads in (one, other)]
        own = blocks[id(p)]
        parts = list(rest.clone().chunk(len(own.blocks), own.dim))
        for block, tasks in enumerate(own.blocks):
            for task, weight in enumerate((2.0, 3.0)):
                gradient = pair[task].chunk(len(own.blocks), own.dim)[block]
                assert task in tasks or not gradient.any(), (key, block)
                parts[block] = parts[block] + (weight if len(tasks) > 1 else 1.0) * gradient
        expected[key] = torch.cat(parts, own.dim)
    assert_equal_gradients(found, expected)


@pytest.mark.parametrize("name", NETS)
def test_every_network_trains(modules: Any, name: str) -> None:
    module, batch = modules[0][name][1], modules[1]
    module.balancing = GradientMethod(module.tasks, module_weights("upgrad"), "upgrad")
    optimizer = module.configure_optimizers()
    before = {key: p.detach().clone() for key, p in module.net.named_parameters()}
    for _ in range(2):
        optimizer.zero_grad()
        loss, parts = module.losses(batch)
        torch.testing.assert_close(loss.detach(), sum(part.detach() for part in parts.values()))
        loss.backward()
        optimizer.step()
    assert all(bool(torch.isfinite(p).all()) for p in module.net.parameters())
    assert any(not torch.equal(p, before[key]) for key, p in module.net.named_parameters())
    assert -1 <= float(module.balancing.end_epoch()["gradient_cosine/click-conversion"]) <= 1


def module_weights(method: str) -> Any:
    from stemlab.lightning.balancing.aggregation import gradient_weights

    return gradient_weights(method, ("click", "conversion"), DEFAULTS.get(method, {}), seed=0)


def small_stem(method: str, **options: Any) -> MultiTaskModule:
    torch.manual_seed(0)
    net = stem().double()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return MultiTaskModule(
        net, SPEC, SPEC.tasks, ModuleSettings(optim=OptimConfig(lr=0.05), balancing=settings(method), **options)
    )


@pytest.mark.parametrize("method", ["upgrad", "cagrad", "imtl_g"])
def test_a_step_of_stem_is_that_of_torchjd_on_its_jacobian(method: str) -> None:
    aggregator = {"upgrad": torchjd.UPGrad(), "cagrad": torchjd.CAGrad(c=0.5), "imtl_g": torchjd.IMTLG()}[method]
    module, batch = small_stem(method), next(iter(Toy().train_dataloader()))
    found = gradients(module, batch)
    net = module.net
    assert isinstance(net, STEM)
    losses_T = task_losses(net(batch).logit_BT, module.labels(batch))
    names = [name for name, _ in net.named_parameters()]
    shared = [n for n in names if "experts.2" in n]  # one expert per task, then the shared one
    tables = [n for n in names if n.startswith("embedding.tables")]
    rows = []
    for loss in losses_T:
        grads = dict(
            zip(
                names,
                torch.autograd.grad(loss, list(net.parameters()), retain_graph=True, allow_unused=True),
                strict=True,
            )
        )
        rows.append(
            (grads, torch.cat([*(grads[n].flatten() for n in shared), *(grads[n][:, -4:].flatten() for n in tables)]))
        )
    combined = aggregator(torch.stack([row for _, row in rows]))
    pieces = iter(
        combined.split(
            [*(net.get_parameter(n).numel() for n in shared), *(len(net.get_parameter(n)) * 4 for n in tables)]
        )
    )
    expected: Gradients = {}
    for n in names:
        parts = [grads[n] for grads, _ in rows if grads[n] is not None]
        expected[n] = torch.stack(parts).sum(dim=0) if parts else None
    for n in shared:
        expected[n] = next(pieces).view_as(net.get_parameter(n))
    for n in tables:
        expected[n] = torch.cat([expected[n][:, :-4], next(pieces).view(-1, 4)], dim=1)
    for n, value in expected.items():
        if value is not None:
            torch.testing.assert_close(found[n], value, rtol=1e-6, atol=1e-9, msg=n)


def test_rows_of_tables_have_the_gradient_of_the_dense_table() -> None:
    batch = next(iter(Toy().train_dataloader()))
    dense = gradients(small_stem("upgrad"), batch)
    sparse = gradients(small_stem("upgrad", **{"penalty_mode": "batch"}), batch)
    assert_equal_gradients(sparse, dense)
    module = small_stem("upgrad")
    from stemlab.nn.row_embedding import use_row_gradients

    use_row_gradients(module.net)
    assert_equal_gradients(gradients(module, batch), dense)
    assert any(p.grad is not None and p.grad.is_sparse for p in module.net.parameters())


@pytest.mark.parametrize("method", ["gradnorm", "pcgrad"])
def test_a_resumed_training_equals_an_uninterrupted_one(method: str, tmp_path: Path) -> None:
    chosen = settings(method)
    whole = Training(make("stem"), 0, tmp_path / "whole", epochs=2, balancing=chosen).fit()
    first = Training(make("stem"), 0, tmp_path / "first", epochs=1, balancing=chosen).fit()
    second = Training(make("stem"), 0, tmp_path / "second", epochs=2, balancing=chosen).fit(first.checkpoint.last_path)
    for name, value in whole.module.state_dict().items():
        torch.testing.assert_close(value, second.module.state_dict()[name], rtol=1e-6, atol=1e-9, msg=name)
    logged = [line for _, line in whole.log.lines if "train/weight/like" in line]
    assert len(logged) == 2
    assert all(-1 <= line["train/gradient_cosine/finish-like"] <= 1 for line in logged)


def test_tables_trained_by_rows_with_penalty_and_clipping(tmp_path: Path) -> None:
    training = Training(make("stem"), 0, tmp_path, epochs=1, balancing=settings("upgrad"), **by_rows("sparse_adam"))
    training.fit()
    assert all(bool(torch.isfinite(p).all()) for p in training.module.net.parameters())


def test_a_loss_that_is_not_finite_reaches_the_weights() -> None:
    module, batch = small_stem("upgrad"), next(iter(Toy().train_dataloader()))
    with torch.no_grad():
        next(p for n, p in module.net.named_parameters() if "towers" in n).fill_(float("nan"))
    assert all(
        value is None or value.isnan().any() for name, value in gradients(module, batch).items() if "experts.2" in name
    )


def test_accumulated_gradients_are_scaled() -> None:
    module, batch = small_stem("upgrad"), next(iter(Toy().train_dataloader()))
    whole = gradients(module, batch)
    module.zero_grad(set_to_none=True)
    for _ in range(2):
        (module.losses(batch)[0] / 2).backward()
    assert_equal_gradients({n: p.grad for n, p in module.net.named_parameters()}, whole)


def test_bf16_trains_as_float32_nearly() -> None:
    module, batch = small_stem("upgrad"), next(iter(Toy().train_dataloader()))
    module.net.float()
    expected = gradients(module, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients(module, batch)
    for name, value in expected.items():
        if value is not None:
            assert found[name].dtype == torch.float32
            torch.testing.assert_close(found[name], value, rtol=0.2, atol=0.02, msg=name)


def test_the_weights_are_the_reason_why_steps_are_not_captured() -> None:
    trainer = {"accelerator": "gpu", "capture": "auto", "devices": 1, "num_nodes": 1}
    trainer |= {"accumulate_grad_batches": 1, "max_steps": None, "val_check_interval": None}
    assert "balancing=upgrad" in str(eager_reason(trainer, small_stem("upgrad")))
    assert eager_reason(trainer, small_stem("gls")) is None


def test_task_blocks() -> None:
    blocks = TaskBlocks(1, (frozenset({0}), frozenset({0, 1})))
    assert blocks.factors(0, 0.5) == [1.0, 0.5]
    assert blocks.factors(1, 0.5) == [0.0, 0.5]
    assert [part.shape for part in blocks.shared(torch.zeros(3, 4))] == [(3, 2)]
