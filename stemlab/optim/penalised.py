"""Optimisers with L1 and L2 penalties that are not part of the autograd graph (docs/methods/stem.md#regularizer).

The loss of the released code contains a penalty of whole embedding tables. Its gradient l2 * w + l1 * sign(w) takes
part in gradient clipping and in the optimiser's moments. Here L2 is the ``weight_decay`` of fused Adam, SGD or Adagrad
(the same result without an extra pass over the tables), and L1 is added to the gradient. ``penalty_value`` is the
reference in the tests. AdamW uses ``weight_decay`` for its decoupled decay, so there L2 is added to the gradient.

On a GPU the clipping coefficient must stay on the device: reading it would stop the CPU at every step and cannot be
captured in a CUDA graph. There L2 is added to the gradient too, and fused Adam divides the gradient by a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, Optimizer

from stemlab.optim.norm_bound import WeightBound, is_norm_below, largest_adam_change
from stemlab.optim.sharded import ShardedNorm

PenaltyMode = Literal["dense", "batch"]


class PenalisedOptimizer(Optimizer):
    """Optimiser whose parameter groups have the additional keys ``l1``, ``l2`` and ``rows_only``.

    In a group with ``rows_only``, a step penalises only those rows of an embedding table that have a gradient. With
    ``decoupled_weight_decay`` the key ``decay`` is the decoupled weight decay.
    """

    # class attributes, because torch's Optimizer drops instance attributes when it is copied
    _penalty_added = False  # the gradients of this step contain all penalty terms except dense L2
    _decay_scale = 1.0  # clipping coefficient of this step, applied to the dense L2 term
    grad_scale: Tensor | None = None  # fused Adam divides the gradients of the next step by this scalar
    sharded_norm: ShardedNorm | None = None  # set if this rank holds a part of the embedding tables only
    _clipped = False  # the latest norm that was computed on the CPU was above the limit
    _weight_bound: WeightBound | None = None  # of the L2 terms; None until ``limit`` needs it

    @property
    def decoupled(self) -> bool:
        """Whether ``weight_decay`` is decoupled from the gradient (AdamW)."""
        return bool(self.defaults.get("decoupled_weight_decay", False))

    @property
    def decides_on_device(self) -> bool:
        """Whether clipping reads no value on the CPU: for parameters on a GPU."""
        return bool(self.param_groups[0]["params"][0].is_cuda)

    def add_penalty_gradients(self) -> None:
        """Add the penalty terms to the gradients; no effect when called again in the same step.

        Dense L2 is added on a GPU, and for a decoupled weight decay, only.
        """
        if self._penalty_added:
            return
        on_device = self.decides_on_device
        for group in self.param_groups:
            if not (group["l1"] or group["l2"]):
                continue
            for parameter in group["params"]:
                if group["rows_only"] and on_device:
                    _add_penalty_of_touched_rows(parameter, group["l1"], group["l2"])
                elif group["rows_only"] or group["l1"] or parameter.grad is None:
                    _add_penalty_gradient(parameter, group)
            if (on_device or self.decoupled) and group["l2"] and not group["rows_only"]:
                _add_weights_to_gradients(group["params"], group["l2"])
        self._penalty_added = True

    def clip(self, max_norm: float) -> Tensor:
        """Scale the gradients and the L2 term of this step so that their global norm is at most ``max_norm``.

        Returns:
            The norm before clipping, a float64 scalar on the device of the parameters.
        """
        self.add_penalty_gradients()
        if self.decides_on_device:
            norm = self._device_norm()
            # 1e-6 as in torch.nn.utils.clip_grad_norm_; a NaN norm reaches the weights here too
            self.grad_scale = ((norm + 1e-6) / max_norm).clamp(min=1.0).float()
            return norm
        length = self._host_norm()
        coefficient = max_norm / (length + 1e-6)  # 1e-6 as in torch.nn.utils.clip_grad_norm_
        self._clipped = not coefficient >= 1
        if self._clipped:  # true also for a NaN norm, so that NaN reaches the weights and is noticed
            grads = [p.grad for p in self._parameters() if p.grad is not None]
            torch._foreach_mul_([*grads, *self._row_values()], coefficient)
            self._decay_scale = coefficient
        return torch.tensor(length, dtype=torch.float64, device=self.param_groups[0]["params"][0].device)

    def limit(self, max_norm: float) -> None:
        """Clip as ``clip`` does; compute the norm only if an upper bound of it exceeds ``max_norm``.

        After a step that was clipped, the norm is computed at once: the next step is likely to be clipped, too.
        """
        self.add_penalty_gradients()
        exact = self._clipped or self.decides_on_device or self.sharded_norm is not None
        if exact or not self._is_certainly_below(max_norm - 1e-6):
            self.clip(max_norm)

    def _is_certainly_below(self, limit: float) -> bool:
        if self._weight_bound is None:
            groups = self._norm_groups()
            self._weight_bound = WeightBound(groups, [self._largest_change(group) for group in groups])
        return is_norm_below(limit, self.param_groups, self._row_values(), self._weight_bound)

    def _largest_change(self, group: dict[str, Any]) -> float:
        """Return an upper bound of the change of a weight of a group in a step, divided by the learning rate."""
        return math.inf

    def _device_norm(self) -> Tensor:
        if self.sharded_norm is not None:
            return self.sharded_norm.on_device(self.param_groups, _gradient_norm)
        return _gradient_norm([*(p.grad for p in self._parameters() if p.grad is not None), *self._row_values()])

    def _norm_groups(self) -> list[dict[str, Any]]:
        """Return the parameter groups with the L2 terms that the gradients do not contain."""
        return [{**group, "l2": 0.0} for group in self.param_groups] if self.decoupled else self.param_groups

    def _host_norm(self) -> float:
        groups = self._norm_groups()
        if self.sharded_norm is not None:
            return self.sharded_norm.host(groups, _penalised_norm)
        return _penalised_norm(groups, self._row_values())

    def _step_tables(self) -> None:
        """Train the tables that are trained by rows; none here."""

    def _row_values(self) -> list[Tensor]:
        """Return the gradients of this step that no parameter has as its ``grad``: those of rows of tables."""
        return []

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients and the clipping coefficient."""
        super().zero_grad(set_to_none)
        self._forget_step()

    def _forget_step(self) -> None:
        self._penalty_added, self._decay_scale, self.grad_scale = False, 1.0, None

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
        self._step_tables()
        l2_added, decoupled = self.decides_on_device, self.decoupled
        for group in self.param_groups:
            if decoupled:
                group["weight_decay"] = group["decay"]
            else:
                group["weight_decay"] = 0.0 if l2_added or group["rows_only"] else group["l2"] * self._decay_scale
        self._scale_gradients()
        super().step()
        if self._weight_bound is not None:
            self._weight_bound.grow()
        self._forget_step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, which replaces the parameter groups."""
        super().load_state_dict(state_dict)
        self._weight_bound = None

    def _scale_gradients(self) -> None:
        """Divide the gradients by ``grad_scale``, unless the step of the optimiser does."""
        if self.grad_scale is None or all(group.get("fused") for group in self.param_groups):
            return
        grads = [parameter.grad for parameter in self._parameters() if parameter.grad is not None]
        torch._foreach_div_(grads, self.grad_scale)
        self.grad_scale = None


class PenalisedAdam(PenalisedOptimizer, Adam):
    """Adam with penalties; with ``decoupled_weight_decay=True`` AdamW."""

    def _largest_change(self, group: dict[str, Any]) -> float:
        return largest_adam_change(group["betas"])


class PenalisedSGD(PenalisedOptimizer, SGD):
    """SGD with penalties, with or without momentum."""


class PenalisedAdagrad(PenalisedOptimizer, Adagrad):
    """Adagrad with penalties."""

    def _largest_change(self, group: dict[str, Any]) -> float:
        return 1.0  # the square root of the sum of squared gradients is at least the gradient


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
def _add_penalty_of_touched_rows(parameter: nn.Parameter, l1: float, l2: float) -> None:
    """Add the penalty of the rows that have a gradient; on a GPU their number is not known on the CPU.

    Every row is read, and the penalty of a row without gradient is multiplied by 0.
    """
    if parameter.grad is None or not (l1 or l2):
        return
    touched_V1 = torch.linalg.vector_norm(parameter.grad, dim=1, keepdim=True).ne(0).to(parameter.dtype)
    if l2:
        parameter.grad.addcmul_(touched_V1, parameter, value=l2)
    if l1:
        parameter.grad.addcmul_(touched_V1, parameter.sign(), value=l1)


@torch.no_grad()
def _add_weights_to_gradients(parameters: list[nn.Parameter], l2: float) -> None:
    live = [(p.grad, p.detach()) for p in parameters if p.grad is not None]
    if live:
        grads, weights = (list(tensors) for tensors in zip(*live, strict=True))
        torch._foreach_add_(grads, weights, alpha=l2)


@torch.no_grad()
def _gradient_norm(grads: list[Tensor]) -> Tensor:
    """Return the global norm of gradients, a float64 scalar on their device."""
    return torch.stack(torch._foreach_norm(grads)).double().square().sum().sqrt()


@torch.no_grad()
def _penalised_norm(groups: list[dict[str, Any]], further: Sequence[Tensor] = ()) -> float:
    """Return the global norm of g + l2 w and further gradients; no tensor of the size of a table is allocated.

    All terms are read in one tensor and added in double precision on the CPU: for small networks, the operations of
    their sum take longer than the terms.
    """
    live = [(p, 0.0 if group["rows_only"] else group["l2"]) for group in groups for p in group["params"]]
    grads = [*(p.grad for p, _ in live if p.grad is not None), *further]
    if not grads:
        return 0.0
    decayed = [(p.detach(), p.grad, l2) for p, l2 in live if l2 and p.grad is not None]
    norms = torch._foreach_norm([*grads, *(weight for weight, _, _ in decayed)])
    products = [torch.dot(grad.flatten(), weight.flatten()) for weight, grad, _ in decayed]
    terms: list[float] = torch.stack([*norms, *products]).tolist()
    of_grads, of_weights, of_both = terms[: len(grads)], terms[len(grads) : len(norms)], terms[len(norms) :]
    square = sum(norm * norm for norm in of_grads)
    for (_, _, l2), norm, product in zip(decayed, of_weights, of_both, strict=True):
        square += l2 * (2 * product + l2 * norm * norm)
    return math.sqrt(square) if not square < 0 else 0.0  # rounding may make the sum negative; NaN stays


def clip_gradients(optimizer: Optimizer, max_norm: float) -> Tensor:
    """Clip the global norm of gradient plus penalty, as if the penalty were part of the loss.

    Args:
        optimizer: optimiser of ``build_optimizer``.
        max_norm: maximum norm; above it, the gradients and the L2 term are scaled by max_norm / norm.

    Returns:
        The norm before clipping, a float64 scalar.

    Raises:
        TypeError: the optimiser is not a ``PenalisedOptimizer``.
    """
    return _penalised(optimizer).clip(max_norm)


def limit_gradients(optimizer: Optimizer, max_norm: float) -> None:
    """Clip as ``clip_gradients`` does, in less time on the CPU: the norm is not returned.

    Raises:
        TypeError: the optimiser is not a ``PenalisedOptimizer``.
    """
    _penalised(optimizer).limit(max_norm)


def _penalised(optimizer: Optimizer) -> PenalisedOptimizer:
    if not isinstance(optimizer, PenalisedOptimizer):
        raise TypeError(f"clipping needs a PenalisedOptimizer, got {type(optimizer).__name__}")
    return optimizer
