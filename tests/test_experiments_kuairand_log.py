"""Experiments of negative transfer on the KuaiRand log: equal widths, optimiser and stopping rule."""

import pytest

from stemlab.config.compose import compose

ABLATIONS = {
    "stem_all_backward": ("stem", "gate", "all_backward"),
    "stem_one_table": ("stem", "tables", "shared_only"),
}
MODELS = ("single_task", "shared_bottom", "mmoe", "ple", "stem", "mmoe_me", "ple_me")


@pytest.mark.parametrize("name", [*MODELS, *ABLATIONS])
def test_kuairand_log(name):
    config = compose("train", [f"experiment=kuairand_log/{name}"])
    assert config["dataset"]["tasks"] == ["is_click", "long_view", "is_comment", "is_profile_enter"]
    assert (config["dataset"]["batch_size"], config["trainer"]["max_epochs"]) == (512, 20)
    assert not config["optim"]["plateau"]["enabled"]
    model, key, value = ABLATIONS.get(name, (name, None, None))
    assert (config["model"]["name"], config["model"]["embedding_regularizer"]) == (model, 1e-3)
    assert key is None or config["model"]["net"][key] == value
    widths = [value for key, value in config["model"]["net"].items() if key.endswith("hidden_units")]
    assert len(widths) >= 2
    assert all(value in ([64], []) for value in widths)
