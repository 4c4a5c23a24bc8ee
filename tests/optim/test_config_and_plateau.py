"""Settings of the multi-task optimiser and the plateau scheduler."""

import pydantic
import pytest
import torch
import yaml
from pydantic import TypeAdapter

from stemlab.optim import OptimConfig, PlateauConfig, build_plateau


def validate(values):
    return TypeAdapter(OptimConfig).validate_python(values)


def test_the_config_file_has_the_default_settings(root):
    assert validate(yaml.safe_load((root / "conf/optim/adam.yaml").read_text())) == OptimConfig()
    assert (OptimConfig().lr, OptimConfig().clip_norm, OptimConfig().plateau.factor) == (1e-3, 10.0, 0.1)


IMPOSSIBLE = [
    {"lr": 0},
    {"lr": -1},
    {"betas": [0.9, 1.0]},
    {"betas": [0.9]},
    {"eps": 0},
    {"clip_norm": 0},
    {"name": "lion"},
    {"learning_rate": 1},
    {"plateau": {"factor": 1}},
    {"plateau": {"patience": 1}},
]


@pytest.mark.parametrize("values", IMPOSSIBLE)
def test_refuses_impossible_values(values):
    with pytest.raises(pydantic.ValidationError):
        validate(values)


def test_clipping_can_be_off():
    assert validate({"clip_norm": None}).clip_norm is None


def rates(metrics, config=PlateauConfig()):  # noqa: B008 (frozen)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    plateau = build_plateau(optimizer, config)
    out = []
    for value in metrics:
        plateau.step(value)
        out.append(optimizer.param_groups[0]["lr"])
    return out


def test_the_learning_rate_is_reduced_after_each_epoch_without_gain_down_to_the_minimum():
    assert rates([0.7, 0.6, 0.7, 0.71, 0.5, 0.5, 0.5]) == pytest.approx([1e-3, 1e-4, 1e-5, 1e-5, 1e-6, 1e-6, 1e-6])


def test_gain_of_exactly_the_threshold_counts():
    config = PlateauConfig(threshold=0.25)
    assert rates([0.5, 0.75], config) == [1e-3, 1e-3]
    assert rates([0.5, 0.7499], config) == pytest.approx([1e-3, 1e-4])


def test_undefined_metric_counts_as_no_gain():
    assert rates([0.7, float("nan")]) == pytest.approx([1e-3, 1e-4])


def test_the_scheduler_can_be_disabled():
    assert build_plateau(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))]), PlateauConfig(enabled=False)) is None
