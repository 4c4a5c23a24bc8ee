"""Methods of the user that return something else than documented: one sentence, not an error of PyTorch."""

from typing import Any

import pytest
import torch
from torch import Tensor

from stemlab.errors import StemlabError
from stemlab.lightning.balancing.aggregation import fill_shared
from stemlab.lightning.balancing.base import GradientAggregator, GradientWeighting
from stemlab.lightning.balancing.weighting import LossWeighting

TASKS = ("like", "finish")


def weighting(returned: Any) -> LossWeighting:
    class Returns(LossWeighting):
        def weigh(self, losses_T: Tensor) -> Any:
            return returned(losses_T)

    return Returns(TASKS)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda losses_T: losses_T.sum(), "Returns.weigh returned Tensor.*tuple"),
        (lambda losses_T: (losses_T, torch.ones(2)), r"shape \(2,\).*shape \(\)"),
        (lambda losses_T: (losses_T.sum(), torch.ones(3)), r"shape \(3,\).*shape \(2,\)"),
        (lambda losses_T: (losses_T.sum(), [1.0, 1.0]), r"list.*shape \(2,\)"),
        (lambda losses_T: (losses_T.sum().detach(), torch.ones(2)), "detached"),
    ],
)
def test_losses(returned: Any, words: str) -> None:
    with pytest.raises(StemlabError, match=words):
        weighting(returned).loss(torch.ones(2, requires_grad=True), None, torch.nn.Identity())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("returned", "words"),
    [(torch.ones(3), r"shape \(3,\)"), ([1.0, 1.0], "list"), (torch.tensor([1.0, float("nan")]), "not finite")],
)
def test_weights_of_gradients(returned: Any, words: str) -> None:
    class Returns(GradientWeighting):
        def weigh(self, gramian_TT: Tensor, losses_T: Tensor) -> Any:
            return returned

    with pytest.raises(StemlabError, match=f"Returns.weigh.*{words}"):
        Returns(TASKS)(torch.eye(2), torch.ones(2))


def test_combined_gradients() -> None:
    class Returns(GradientAggregator):
        def aggregate(self, jacobian_TP: Tensor, losses_T: Tensor) -> Tensor:
            return jacobian_TP  # not summed

    with pytest.raises(StemlabError, match=r"Returns.aggregate.*\(2, 3\).*\(3,\)"):
        fill_shared([torch.zeros(3)], [[torch.ones(3)], [torch.ones(3)]], Returns(TASKS), torch.ones(2))
