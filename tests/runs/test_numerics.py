"""Float32 is float32 everywhere unless TF32 is chosen; the flags of PyTorch are restored."""

import pytest
import torch

from stemlab.config.compose import compose
from stemlab.nn.kernels.dispatch import kernels_off
from stemlab.runs.numerics import lightning_precision, numeric_mode


def flags():
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, kernels_off()


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        ({"accelerator": "gpu", "precision": "32-true", "kernels": "auto"}, ("highest", False, False)),
        ({"accelerator": "gpu", "precision": "tf32", "kernels": None}, ("high", True, False)),
        ({"accelerator": "gpu", "precision": "bf16-mixed", "kernels": "off"}, ("highest", False, True)),
        ({"accelerator": None, "precision": None, "kernels": None}, ("highest", False, False)),
        # a run with TF32 that is evaluated on a CPU
        ({"accelerator": "cpu", "precision": "tf32", "kernels": "off"}, ("highest", False, True)),
    ],
)
def test_flags_are_set_and_restored(trainer, expected):
    before = flags()

    def fail():
        with numeric_mode(trainer):
            assert flags() == expected
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert flags() == before
    with numeric_mode(trainer | {"accelerator": "gpu", "precision": "tf32"}):
        inside = flags()
        with numeric_mode(trainer):
            pass
        assert flags() == inside


def test_subnormal_numbers_are_zero_inside_and_kept_outside():
    tiny = torch.full((8,), torch.finfo(torch.float32).tiny)
    trainer = {"accelerator": "cpu", "precision": "32-true", "kernels": "auto"}
    assert (tiny * 0.5).min() > 0
    with numeric_mode(trainer):
        assert (tiny * 0.5).max() == 0
        with numeric_mode(trainer):
            pass
        assert (tiny * 0.5).max() == 0
    assert (tiny * 0.5).min() > 0


def test_tf32_is_float32_for_lightning():
    assert [lightning_precision(name) for name in ("32-true", "tf32", "bf16-mixed")] == [
        "32-true",
        "32-true",
        "bf16-mixed",
    ]
    assert compose("train", ["trainer=gpu", "trainer.precision=tf32"])["trainer"]["precision"] == "tf32"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_recurrent_networks_on_a_gpu():
    torch.manual_seed(0)
    gru, x = torch.nn.GRU(64, 64, batch_first=True).double(), torch.randn(256, 20, 64).double()
    exact, on_gpu, errors = gru(x)[0], gru.float().cuda(), {}
    for precision in ("32-true", "tf32"):
        with numeric_mode({"accelerator": "gpu", "precision": precision, "kernels": None}):
            errors[precision] = float((on_gpu(x.float().cuda())[0].cpu().double() - exact).abs().max())
    print(errors)
    assert errors["32-true"] < 5e-6 < 5e-5 < errors["tf32"]
