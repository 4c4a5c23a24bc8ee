"""Adam with L1 and L2 penalties that are not part of the autograd graph (docs/methods/stem.md#regularizer).

The loss of the released code contains a penalty of whole embedding tables. Its gradient l2 * w + l1 * sign(w) takes
part in gradient clipping and in Adam's moments. Here L2 is the ``weight_decay`` of fused Adam (the same result without
an extra pass over the tables), and L1 is added to the gradient. ``penalty_value`` is the reference in the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from stemlab.optim.config import OptimConfig
from stemlab.optim.penalty import Penalty, bias_and_norm_ids, split_parameters

PenaltyMode = Literal["dense", "batch"]
_FUSED_DEVICES = ("cpu", "cuda", "mps", "xpu")


class PenalisedAdam(Adam):
    """Adam whose parameter groups have the additional keys ``l1``, ``l2`` and ``rows_only``.

    In a group with ``rows_only``, a step penalises only those rows of an embedding table that have a gradient.
    """

    # class attributes, because torch's Optimizer drops instance attributes when it is copied
    _penalty_added = False  # the gradients of this step contain all penalty terms except dense L2
    _decay_scale = 1.0  # clipping coefficient of this step, applied to the dense L2 term

    def add_penalty_gradients(self) -> None:
        """Add all penalty terms except dense L2 to the gradients; no effect when called again in the same step."""
        if self._penalty_added:
            return
        for group in self.param_groups:
            for parameter in group["params"]:
                _add_penalty_gradient(parameter, group)
        self._penalty_added = True

    def clip(self, max_norm: float) -> Tensor:
        """Scale the gradients and the L2 term of this step so that their global norm is at most ``max_norm``.

        Returns:
            The norm before clipping, a float64 scalar on the device of the parameters.
        """
        self.add_penalty_gradients()
        norm = torch.stack([_squared_norm(group) for group in self.param_groups]).sum().sqrt()
        coefficient = max_norm / (float(norm) + 1e-6)  # 1e-6 as in torch.nn.utils.clip_grad_norm_
        if not coefficient >= 1:  # true also for a NaN norm, so that NaN reaches the weights and is noticed
            grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
            torch._foreach_mul_(grads, coefficient)
            self._decay_scale = coefficient
        return norm

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients and the clipping coefficient."""
        super().zero_grad(set_to_none)
        self._penalty_added, self._decay_scale = False, 1.0

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Perform one step; the closure may compute and clip gradients, as Lightning's closure does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.add_penalty_gradients()
        for group in self.param_groups:
            group["weight_decay"] = 0.0 if group["rows_only"] else group["l2"] * self._decay_scale
        super().step()
        self._penalty_added, self._decay_scale = False, 1.0
        return loss


@torch.no_grad()
def _add_penalty_gradient(parameter: nn.Parameter, group: dict[str, Any]) -> None:
    l1, l2 = group["l1"], group["l2"]
    if group["rows_only"]:
        if parameter.grad is not None and (l1 or l2):
            # vector_norm is seven times faster than any(dim=1) on a large table
            rows = torch.linalg.vector_norm(parameter.grad, dim=1).nonzero().squeeze(1)
            weight = parameter[rows]
            parameter.grad.index_add_(0, rows, l1 * weight.sign() + l2 * weight)
        return
    if parameter.grad is None and (l1 or l2):
        parameter.grad = torch.zeros_like(parameter)  # with the penalty in the loss it would have a gradient
    if l1 and parameter.grad is not None:
        parameter.grad.add_(parameter.sign(), alpha=l1)


@torch.no_grad()
def _squared_norm(group: dict[str, Any]) -> Tensor:
    """Return ||g + l2 w||^2 of a group in float64, expanded so that no tensor of the size of a table is allocated."""
    live = [p for p in group["params"] if p.grad is not None]
    device = group["params"][0].device
    if not live:
        return torch.zeros((), dtype=torch.float64, device=device)
    grads = [p.grad for p in live if p.grad is not None]
    total = torch.stack(torch._foreach_norm(grads)).double().square().sum()
    l2 = 0.0 if group["rows_only"] else group["l2"]
    if l2:
        cross = torch.stack([torch.dot(g.flatten(), p.flatten()) for g, p in zip(grads, live, strict=True)]).double()
        weights = torch.stack(torch._foreach_norm(live)).double().square()
        total = total + 2 * l2 * cross.sum() + l2 * l2 * weights.sum()
    return total.clamp_min(0)


def build_optimizer(
    net: nn.Module, optim: OptimConfig, embedding: Penalty, net_penalty: Penalty, mode: PenaltyMode = "dense"
) -> PenalisedAdam:
    """Return the optimiser of a network, fused if the device supports it.

    Args:
        net: the network; weights of ``nn.Embedding`` get the embedding penalty, all others the net penalty.
        optim: learning rate, betas, eps; whether ``net_penalty`` excludes biases and normalisation layers.
        embedding: penalty of the embedding tables.
        net_penalty: penalty of all other weights and biases.
        mode: ``dense`` penalises whole tables in every step (released code). ``batch`` penalises each row with a
            gradient once: the rows looked up by any rank, without padding; the result does not depend on the world
            size. In both modes the moments of all rows decay in every step.
    """
    tables, others = split_parameters(net)
    free: set[int] = bias_and_norm_ids(net) if optim.exclude_bias_bn else set()
    groups = [
        _group("embedding", tables, embedding, rows_only=mode == "batch"),
        _group("net", [p for p in others if id(p) not in free], net_penalty, rows_only=False),
        _group("not penalised", [p for p in others if id(p) in free], Penalty(), rows_only=False),
    ]
    fused = all(p.is_floating_point() and p.device.type in _FUSED_DEVICES for p in [*tables, *others])
    return PenalisedAdam([g for g in groups if g["params"]], lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=fused)


def _group(name: str, params: list[nn.Parameter], penalty: Penalty, *, rows_only: bool) -> dict[str, Any]:
    return {"name": name, "params": params, "l1": penalty.l1, "l2": penalty.l2, "rows_only": rows_only}


def clip_gradients(optimizer: Optimizer, max_norm: float) -> Tensor:
    """Clip the global norm of gradient plus penalty, as if the penalty were part of the loss.

    Args:
        optimizer: optimiser of ``build_optimizer``.
        max_norm: maximum norm; above it, the gradients and the L2 term are scaled by max_norm / norm.

    Returns:
        The norm before clipping, a float64 scalar.

    Raises:
        TypeError: the optimiser is not a ``PenalisedAdam``.
    """
    if not isinstance(optimizer, PenalisedAdam):
        raise TypeError(f"clip_gradients needs a PenalisedAdam, got {type(optimizer).__name__}")
    return optimizer.clip(max_norm)
