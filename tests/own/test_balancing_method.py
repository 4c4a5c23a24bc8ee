"""Balancing methods of the user: gradients, state, refusals."""

from pathlib import Path
from typing import Any

import pytest
import torch

from stemlab.balancing_methods import BalancingSettings
from stemlab.config.compose import CommandLine, compose
from stemlab.config.own_words import open_nodes
from stemlab.config.sweep import check_command_line
from stemlab.data.batch import ImpressionBatch
from stemlab.errors import StemlabError
from stemlab.lightning.balancing import build_balancing
from stemlab.runs.trust import check_recorded_config
from tests.lightning.balancing.test_gradients import assert_equal_gradients, gradients, small_stem
from tests.lightning.toy_data import Toy
from tests.lightning.toy_training import Training, make
from tests.ranks import run_ranks

HERE = "tests.own.my_balancing"


def method(name: str, **settings: Any) -> list[str]:
    words = [f"model.balancing._target_={HERE}.{name}"]
    return [*words, *(f"model.balancing.{key}={value}" for key, value in settings.items())]


def chosen(name: str, **settings: Any) -> BalancingSettings:
    return BalancingSettings.from_config({"balancing": {"_target_": f"{HERE}.{name}", **settings}})


def module(name: str, **settings: Any) -> Any:
    made = small_stem("upgrad")
    made.balancing = build_balancing(chosen(name, **settings), made.tasks, 0)
    return made.double()


def test_losses_are_weighted() -> None:
    batch, plain = next(iter(Toy().train_dataloader())), small_stem("sum")
    plain.balancing = None
    expected = {key: None if grad is None else 3 * grad for key, grad in gradients(plain, batch).items()}
    assert_equal_gradients(gradients(module("Doubled", weight=3.0), batch), expected)


def test_an_aggregator_of_gradients_equals_the_same_weights_of_inner_products() -> None:
    """On shared and own parameters, tables with shared and own blocks, and with a task without a gradient."""
    batch, by_weights, by_jacobian = next(iter(Toy().train_dataloader())), module("ByLength"), module("Same")
    assert_equal_gradients(gradients(by_jacobian, batch), gradients(by_weights, batch))
    found, expected = by_jacobian.balancing.end_epoch(), by_weights.balancing.end_epoch()
    assert "weight/like" in expected
    assert "weight/like" not in found
    torch.testing.assert_close(found["gradient_cosine/finish-like"], expected["gradient_cosine/finish-like"])
    with torch.no_grad():
        next(p for n, p in by_jacobian.net.named_parameters() if "towers" in n).fill_(float("nan"))
    assert any(grad is not None and grad.isnan().all() for grad in gradients(by_jacobian, batch).values())


def _mean_gradients(rank: int, halves: list[ImpressionBatch]) -> dict[str, torch.Tensor]:
    made = module("Same")
    found = gradients(made, halves[rank])
    mean = {}
    for key, p in made.net.named_parameters():
        mean[key] = torch.zeros_like(p) if (grad := found[key]) is None else grad
        torch.distributed.all_reduce(mean[key])
    return {key: grad / 2 for key, grad in mean.items()}


@pytest.mark.ddp
def test_two_ranks_combine_the_mean_gradients() -> None:
    batch = next(iter(Toy().train_dataloader()))
    expected = gradients(module("Same"), batch)
    for found in run_ranks(_mean_gradients, [batch.take(rows) for rows in torch.arange(len(batch)).chunk(2)]):
        assert_equal_gradients(found, expected)


def test_the_state_is_in_the_checkpoint(tmp_path: Path) -> None:
    first = Training(make("stem"), 0, tmp_path / "first", epochs=1, balancing=chosen("Doubled")).fit()
    second = Training(make("stem"), 0, tmp_path / "second", epochs=2, balancing=chosen("Doubled"))
    second.fit(first.checkpoint.last_path)
    assert float(second.module.balancing.calls_1) == 2 * float(first.module.balancing.calls_1) > 0


def test_a_config_has_the_defaults_and_a_checkpoint_needs_permission() -> None:
    config = compose("train", open_nodes(method("Doubled")))
    assert config["model"]["balancing"] == {"_target_": f"{HERE}.Doubled", "weight": 2.0}
    with pytest.raises(StemlabError, match=r"model\.balancing.*allow=\[tests\]"):
        check_recorded_config(config, [], Path("x.ckpt"))
    check_recorded_config(config, ["tests.own"], Path("x.ckpt"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (method("Nope"), ["no 'Nope'"]),
        ([f"model.balancing._target_={HERE.replace('balancing', 'metrics')}.Brier"], ["LossWeighting", "balancing.md"]),
        (method("WithoutWeigh"), ["lacks weigh", "(self, tasks, *, settings)", "model.balancing.rate", "no value"]),
        (method("Doubled", weights=1), ["model.balancing.weights", "'weight'"]),
        (method("Doubled", weight="x"), ["model.balancing.weight", "number"]),
        ([*method("Doubled"), "model.task=like"], ["Doubled", "like"]),
        ([*method("Doubled"), "model.balancing_options.c=0.1"], ["balancing_options.c", "Doubled"]),
        ([*method("ByLength"), "trainer.compile=true"], ["ByLength", "trainer.compile=false"]),
        ([*method("Same"), "optim.tables=sparse_adam"], ["Same", "optim.tables=dense_adam"]),
        ([*method("Same"), "trainer=ddp_cpu", "trainer.embedding=row_sharded"], ["Same", "replicated"]),
    ],
)
def test_refusals(words: list[str], expected: list[str]) -> None:
    with pytest.raises(StemlabError) as error:
        check_command_line(CommandLine("train", tuple(open_nodes(words))))
    assert not [text for text in expected if text not in str(error.value)], str(error.value)
