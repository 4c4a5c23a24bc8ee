"""The form of the fused optimiser for GPUs equals the form for CPUs."""

import pytest

from stemlab.optim import OptimConfig, PenalisedAdam, Penalty, build_optimizer, clip_gradients
from tests.accelerator import host_operations
from tests.optim.test_adam import Case, assert_same, loss_of, make


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the form for GPUs, which reads no value on the CPU."""
    monkeypatch.setattr(PenalisedAdam, "decides_on_device", True)


@pytest.mark.parametrize("clip", [None, 0.05, 10.0])
@pytest.mark.parametrize("mode", ["dense", "batch"])
@pytest.mark.parametrize("embedding", [Penalty(), Penalty(l2=0.1), Penalty(l1=0.05, l2=0.2)], ids=str)
def test_device_form_equals_the_cpu_form(embedding, mode, clip, monkeypatch):
    trained = []
    for device_form in (False, True):
        monkeypatch.setattr(PenalisedAdam, "decides_on_device", device_form)
        case = make(rows=8, seed=3)
        case = Case(case.net.double(), case.ids, case.y.double())
        adam = build_optimizer(case.net, OptimConfig(lr=0.01), embedding, Penalty(l2=0.01), mode=mode)
        norms = []
        for _ in range(4):
            adam.zero_grad()
            loss_of(case.net, case).backward()
            if clip is not None:
                norms.append(clip_gradients(adam, clip).item())
            adam.step()
        trained.append((case.net, norms, adam))
    assert_same(trained[1][0], trained[0][0], atol=1e-6)  # the divisor is a float32 number
    assert trained[1][1] == pytest.approx(trained[0][1], rel=1e-5)
    assert [group["weight_decay"] for group in trained[1][2].param_groups] == [0.0, 0.0]


def test_device_form_lets_a_nan_reach_the_weights(on_device):
    case = make()
    adam = build_optimizer(case.net, OptimConfig(), Penalty(), Penalty())
    (loss_of(case.net, case) * float("nan")).backward()
    assert clip_gradients(adam, 10.0).isnan()
    adam.step()
    assert case.net.head.weight.isnan().all()


def test_device_form_clips_one_step_only(on_device):
    case = make()
    adam = build_optimizer(case.net, OptimConfig(), Penalty(l2=0.5), Penalty())
    loss_of(case.net, case).backward()
    clip_gradients(adam, 0.01)
    assert adam.grad_scale is not None
    adam.step()
    assert adam.grad_scale is None
    clip_gradients(adam, 0.01)
    adam.zero_grad()
    assert adam.grad_scale is None


@pytest.mark.parametrize("mode", ["dense", "batch"])
def test_device_form_reads_no_value_on_the_cpu(mode, on_device):
    case = make()
    net, ids, y = case.net.to("meta"), case.ids.to("meta"), case.y.to("meta")
    adam = build_optimizer(net, OptimConfig(), Penalty(l1=0.1, l2=0.5), Penalty(l2=0.1), mode=mode)
    with host_operations() as found:
        loss_of(net, Case(net, ids, y)).backward()
        clip_gradients(adam, 0.01)
    assert found == []
