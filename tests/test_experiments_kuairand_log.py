"""Experiments of negative transfer on the KuaiRand log: equal widths, optimiser and stopping rule."""

import pytest

from stemlab.config.compose import compose


@pytest.mark.parametrize("name", ["single_task", "shared_bottom", "mmoe", "ple", "stem"])
def test_kuairand_log(name):
    config = compose("train", [f"experiment=kuairand_log/{name}"])
    assert config["dataset"]["tasks"] == ["is_click", "long_view", "is_comment", "is_profile_enter"]
    assert (config["dataset"]["batch_size"], config["trainer"]["max_epochs"]) == (512, 8)
    assert (config["model"]["name"], config["model"]["embedding_regularizer"]) == (name, 1e-4)
    widths = [value for key, value in config["model"]["net"].items() if key.endswith("hidden_units")]
    assert len(widths) >= 2
    assert all(value in ([64], []) for value in widths)
