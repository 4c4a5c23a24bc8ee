"""Stacks of linear layers with equal shapes as batched products, and mixtures of experts as one product.

On a GPU many small products leave most of the device idle. The parameters stay separate, so checkpoints do not change;
weights are stacked in the forward pass (docs/methods/kernels.md#batched-products).

Legend: B batch, N stacks, I input width, O output width, H expert output width, E experts, K gates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from stemlab.nn.kernels.dispatch import is_transformed, use_batched

_ELEMENTWISE = (nn.ReLU, nn.LeakyReLU, nn.GELU, nn.Tanh, nn.Sigmoid)

Structure = tuple[tuple[object, ...], ...]


def structure(stack: nn.Module) -> Structure | None:
    """Return types and sizes of the layers of a stack; ``None`` unless all are linear, activation or dropout.

    Stacks with equal structures differ in their weights only. Batch normalisation is not batched.
    """
    layers = _layers_of(stack)
    if not layers or type(layers[0]) is not nn.Linear:
        return None
    found: list[tuple[object, ...]] = []
    for layer in layers:
        if type(layer) is nn.Linear:
            found.append((nn.Linear, layer.in_features, layer.out_features, layer.bias is not None))
        elif type(layer) is nn.Dropout:
            found.append((nn.Dropout, layer.p, layer.training))
        elif type(layer) in _ELEMENTWISE:
            found.append((type(layer),))
        else:
            return None
    return tuple(found)


def _layers_of(stack: nn.Module) -> list[nn.Module]:
    return list(stack) if isinstance(stack, nn.Sequential) else [stack]


def are_batchable(stacks: Sequence[nn.Module]) -> bool:
    """Return whether ``run_stacks`` can run the stacks: two or more with equal structures."""
    first = structure(stacks[0]) if len(stacks) > 1 else None
    return first is not None and all(structure(stack) == first for stack in stacks[1:])


def run_stacks(stacks: Sequence[nn.Module], inputs: Sequence[Tensor]) -> Tensor:
    """Return the output of every stack for its own input, (N, B, O).

    Dropout draws other masks than stack by stack, from the same distribution.

    Args:
        stacks: see ``are_batchable``.
        inputs: for each stack, (B, I); an input that several stacks read must be the same tensor object.
    """
    first, *others = zip(*(_layers_of(stack) for stack in stacks), strict=True)
    state_NBO = _first_layers(cast(Sequence[nn.Linear], first), inputs)
    for layers in others:
        if isinstance(layers[0], nn.Linear):
            state_NBO = _linear(cast(Sequence[nn.Linear], layers), state_NBO)
        elif isinstance(layers[0], nn.ReLU):
            state_NBO = torch.relu(state_NBO)  # not in place: the state may be a view
        else:
            state_NBO = layers[0](state_NBO)
    return state_NBO


def run_each(stacks: Iterable[nn.Module], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the output (B, O) of every stack for its own input; on accelerators, equal stacks run as one.

    Args:
        stacks: modules of one input.
        inputs: for each stack, (B, I); an input that several stacks read should be the same tensor object.
    """
    stacks = list(stacks)
    if not stacks or not use_batched(inputs[0]):
        return [stack(input_BI) for stack, input_BI in zip(stacks, inputs, strict=True)]
    groups: dict[object, list[int]] = {}
    for number, stack in enumerate(stacks):
        groups.setdefault(structure(stack) or number, []).append(number)
    found: dict[int, Tensor] = {}
    for numbers in groups.values():
        if len(numbers) == 1:
            found[numbers[0]] = stacks[numbers[0]](inputs[numbers[0]])
        else:
            outputs_NBO = run_stacks([stacks[n] for n in numbers], [inputs[n] for n in numbers])
            found |= dict(zip(numbers, outputs_NBO.unbind(dim=0), strict=True))
    return [found[number] for number in range(len(stacks))]


def _first_layers(layers: Sequence[nn.Linear], inputs: Sequence[Tensor]) -> Tensor:
    """Return the outputs (N, B, O): one product per distinct input, or one batched product if all inputs differ."""
    readers = _readers(inputs)
    if len(readers) == len(layers):
        return _linear(layers, torch.stack(list(inputs)))
    products = []
    for numbers in readers:
        own = [layers[number] for number in numbers]
        weight_XI = torch.cat([layer.weight for layer in own])
        bias_X = None if own[0].bias is None else torch.cat([layer.bias for layer in own])
        products.append(functional.linear(inputs[numbers[0]], weight_XI, bias_X))
    joined_BX = products[0] if len(products) == 1 else torch.cat(products, dim=1)
    state_NBO = joined_BX.view(joined_BX.shape[0], len(layers), -1).transpose(0, 1)
    order = [number for numbers in readers for number in numbers]
    if order == sorted(order):
        return state_NBO
    return torch.stack([state_NBO[order.index(number)] for number in range(len(layers))])


def _readers(inputs: Sequence[Tensor]) -> list[list[int]]:
    """Return for each distinct input the numbers of the stacks that read it."""
    readers: list[list[int]] = []
    for number, input_BI in enumerate(inputs):
        # `is`, not id(): torch.compile would compile again for every new tensor
        own = next((numbers for numbers in readers if inputs[numbers[0]] is input_BI), None)
        if own is None:
            readers.append([number])
        else:
            own.append(number)
    return readers


def _linear(layers: Sequence[nn.Linear], input_NBI: Tensor) -> Tensor:
    """Return the outputs (N, B, O) of one layer per input."""
    weight_NOI = torch.stack([layer.weight for layer in layers])
    biases: list[Tensor | None] = [layer.bias for layer in layers]
    given = [bias for bias in biases if bias is not None]
    if not given:
        return torch.bmm(input_NBI, weight_NOI.transpose(1, 2))
    return _affine(input_NBI, weight_NOI, torch.stack(given))


def _affine(input_NBI: Tensor, weight_NOI: Tensor, bias_NO: Tensor) -> Tensor:
    """Return W x + b (N, B, O)."""
    if is_transformed():
        return torch.baddbmm(bias_NO.unsqueeze(1), input_NBI, weight_NOI.transpose(1, 2))
    device = input_NBI.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        input_NBI, weight_NOI, bias_NO = (tensor.to(dtype) for tensor in (input_NBI, weight_NOI, bias_NO))
    output_NBO: Tensor = _Affine.apply(input_NBI, weight_NOI, bias_NO)  # type: ignore[no-untyped-call]
    return output_NBO


class _Affine(torch.autograd.Function):
    """``_affine`` whose gradient of the weights is (N, O, I) in memory; twice differentiable.

    The gradient of each weight is then a contiguous part of it. That of ``torch.baddbmm`` is (N, I, O) in memory, and
    autograd copies each part to transpose it.
    """

    @staticmethod
    def forward(ctx: Any, input_NBI: Tensor, weight_NOI: Tensor, bias_NO: Tensor) -> Tensor:
        ctx.save_for_backward(input_NBI, weight_NOI)
        return torch.baddbmm(bias_NO.unsqueeze(1), input_NBI, weight_NOI.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, grad_NBO: Tensor) -> tuple[Tensor | None, ...]:
        input_NBI, weight_NOI = ctx.saved_tensors
        d_input_NBI = torch.bmm(grad_NBO, weight_NOI) if ctx.needs_input_grad[0] else None
        return d_input_NBI, torch.bmm(grad_NBO.transpose(1, 2), input_NBI), grad_NBO.sum(dim=1)


def mix_stacked(
    states: Tensor | Sequence[Tensor],
    gate_weights: Sequence[Tensor],
    visible_experts: Sequence[Sequence[int]],
    trainable: Sequence[Sequence[bool]],
) -> list[Tensor]:
    """Return ``mix_experts``: all mixtures as one product, one more for stop-gradients.

    Args:
        states: outputs of all experts, (E, B, H) or (B, H) each.
        gate_weights: as for ``mix_experts``.
        visible_experts: as for ``mix_experts``.
        trainable: as for ``mix_experts``.
    """
    if not gate_weights:
        return []
    every = range(len(states))
    state_BEH = states.transpose(0, 1) if isinstance(states, Tensor) else torch.stack(list(states), dim=1)
    trained, stopped, stops = [], [], [0]
    for gate_BE, experts, flags in zip(gate_weights, visible_experts, trainable, strict=True):
        columns = dict(zip(experts, torch.split(gate_BE.to(state_BEH.dtype), 1, dim=1), strict=True))
        train = dict(zip(experts, flags, strict=True))
        zero_B1 = state_BEH.new_zeros(len(gate_BE), 1)
        trained.append(torch.cat([columns[e] if train.get(e) else zero_B1 for e in every], dim=1))
        stopped.append([zero_B1 if train.get(e, True) else columns[e] for e in every])
        stops += [e + 1 for e, flag in train.items() if not flag]
    mixture_BKH = torch.bmm(torch.stack(trained, dim=1), state_BEH)
    if last := max(stops):
        weight_BKE = torch.stack([torch.cat(columns[:last], dim=1) for columns in stopped], dim=1)
        mixture_BKH = torch.baddbmm(mixture_BKH, weight_BKE, state_BEH[:, :last].detach())
    return list(mixture_BKH.unbind(dim=1))
