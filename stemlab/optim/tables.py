"""Training of embedding tables by the rows that a step looked up (docs/methods/tables.md).

Legend: V rows of a table, U distinct rows of a step, D width of a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from stemlab.errors import StemlabError
from stemlab.nn.row_embedding import RowEmbedding
from stemlab.optim.config import TableRule
from stemlab.optim.penalised import PenalisedAdam
from stemlab.optim.row_gradients import RowGradient, collect_row_gradients

_FUSED_DEVICES = ("cpu", "cuda", "mps", "xpu")


class RowAdam(PenalisedAdam):
    """Adam whose parameter groups with the key ``tables`` are embedding tables that are trained by rows.

    Neither a gradient nor an update of a whole table is computed: a step reads and writes the rows that have a gradient
    and their state. The value of ``tables`` is the rule: ``sparse_adam`` or ``rowwise_adagrad``; ``bias_correction``
    is a key of the same groups.
    """

    # class attribute, because torch's Optimizer drops instance attributes when it is copied
    _rows: tuple[RowGradient, ...] | None = None  # of this step

    def add_penalty_gradients(self) -> None:
        """Collect the gradients of rows, and add the penalty terms; no effect when called again in the same step."""
        if self._penalty_added:
            return
        penalties = {
            id(table): (group["l1"], group["l2"]) for group in self._table_groups() for table in group["params"]
        }
        tables = [table for group in self._table_groups() for table in group["params"]]
        with torch.no_grad():
            self._rows = tuple(collect_row_gradients(tables, self.decides_on_device))
            for row in self._rows:
                _add_penalty(row, *penalties[id(row.table)])
        super().add_penalty_gradients()  # the tables have no ``grad`` any more

    def _table_groups(self) -> list[dict[str, Any]]:
        return [group for group in self.param_groups if "tables" in group]

    def _row_values(self) -> list[Tensor]:
        rows = self._rows or ()
        return [row.counted() if self.decides_on_device else row.grad_UD for row in rows]

    def _forget_step(self) -> None:
        super()._forget_step()
        self._rows = None

    @torch.no_grad()
    def _step_tables(self) -> None:
        rows = {id(row.table): row for row in self._rows or ()}
        for group in self._table_groups():
            own = [rows[id(table)] for table in group["params"] if id(table) in rows]
            for row in own:
                if self.grad_scale is not None:
                    row.grad_UD = row.grad_UD / self.grad_scale.to(row.grad_UD.dtype)
            if own:
                rule = _sparse_adam if group["tables"] == "sparse_adam" else _rowwise_adagrad
                rule(own, group, self.state)


def _add_penalty(row: RowGradient, l1: float, l2: float) -> None:
    """Add the gradient of the penalty of the rows."""
    if l1 or l2:
        weight_UD = row.table.index_select(0, row.rows_U)
        row.grad_UD.add_(weight_UD, alpha=l2)
        if l1:
            row.grad_UD.add_(weight_UD.sign(), alpha=l1)


def _sparse_adam(rows: list[RowGradient], group: dict[str, Any], states: dict[Tensor, Any]) -> None:
    """Apply Adam to rows: their moments decay in the steps that look them up only (docs/methods/tables.md#sparse-adam).

    The bias correction counts all steps of the optimiser, as ``torch.optim.SparseAdam`` does.
    """
    held = [_adam_state(row.table, group, states[row.table]) for row in rows]
    steps = [state["step"] for state in held]
    if not group["bias_correction"]:
        torch._foreach_add_(steps, 1.0)
        steps = [torch.full_like(step, float("inf")) for step in steps]  # 1 - beta^inf = 1
    parts = [
        [tensor.index_select(0, row.rows_U) for row, tensor in zip(rows, tensors, strict=True)]
        for tensors in (
            [row.table for row in rows],
            [state["exp_avg"] for state in held],
            [state["exp_avg_sq"] for state in held],
        )
    ]
    weights, first_moments, second_moments = parts
    beta1, beta2 = group["betas"]
    adam(
        *(weights, [row.grad_UD for row in rows], first_moments, second_moments, [], steps),
        fused=group["fused"],
        foreach=False,
        amsgrad=False,
        **{"beta1": beta1, "beta2": beta2, "lr": group["lr"], "eps": group["eps"]},
        weight_decay=0.0,
        maximize=False,
    )
    for row, state, weight, first, second in zip(rows, held, *parts, strict=True):
        _write(row, {row.table: weight, state["exp_avg"]: first, state["exp_avg_sq"]: second})


def _adam_state(table: nn.Parameter, group: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    if not state:
        state["step"] = _zero(table, group)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
    return state


def _zero(table: nn.Parameter, group: dict[str, Any]) -> Tensor:
    """Return a step count where Adam keeps its own."""
    on_device = group["fused"] or group["capturable"]
    return torch.zeros((), dtype=torch.float32, device=table.device if on_device else None)


def _rowwise_adagrad(rows: list[RowGradient], group: dict[str, Any], states: dict[Tensor, Any]) -> None:
    """Apply Adagrad with one float32 sum of squares per row (docs/methods/tables.md#row-wise-adagrad)."""
    for row in rows:
        state = states[row.table]
        if not state:
            state["step"] = _zero(row.table, group)  # not read here, but Adam expects it in every loaded state
            state["row_sum"] = torch.zeros(len(row.table), dtype=torch.float32, device=row.table.device)
        sum_U = state["row_sum"].index_select(0, row.rows_U) + row.grad_UD.float().square().mean(dim=1)
        rate_U1 = (group["lr"] / (sum_U.sqrt() + group["eps"])).unsqueeze(1).to(row.grad_UD.dtype)
        weight_UD = row.table.index_select(0, row.rows_U).addcmul_(rate_U1, row.grad_UD, value=-1)
        _write(row, {row.table: weight_UD, state["row_sum"]: sum_U})


def _write(row: RowGradient, values: dict[Tensor, Tensor]) -> None:
    """Write the rows of the table and of its state."""
    with _repeated_writes_allowed(row):
        for tensor, rows in values.items():
            tensor.index_copy_(0, row.rows_U, rows)


@contextmanager
def _repeated_writes_allowed(row: RowGradient) -> Iterator[None]:
    """Write repeated rows without the sort of deterministic algorithms: all values of a row are equal."""
    deterministic, warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    if row.first_U1 is None or not deterministic:
        yield
        return
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)


def table_settings(rule: TableRule, rate: float | None, bias_correction: bool) -> dict[str, Any]:
    """Return the entries of the parameter group of the tables; without a rate they have that of the optimiser."""
    return {"tables": rule, "bias_correction": bias_correction, **({} if rate is None else {"lr": rate})}


def is_fused(parameters: Sequence[nn.Parameter]) -> bool:
    """Return whether PyTorch has a fused Adam for the parameters."""
    return all(p.is_floating_point() and p.device.type in _FUSED_DEVICES for p in parameters)


def split_tables(net: nn.Module, rule: TableRule) -> list[nn.Parameter]:
    """Return the weights of the tables that are trained by rows.

    Args:
        net: a network after ``use_row_gradients``.
        rule: for the message.

    Raises:
        StemlabError: there are none, or the network reads whole tables.
    """
    if reason := getattr(net, "reads_whole_tables", None):
        raise StemlabError(
            f"optim.tables={rule} is not for {type(net).__name__}, which {reason}: set optim.tables=dense_adam."
        )
    by_rows = [module for module in net.modules() if isinstance(module, RowEmbedding) and module.weight.requires_grad]
    tables = [cast(nn.Parameter, module.weight) for module in by_rows]
    if not tables:
        raise StemlabError(
            f"optim.tables={rule} trains the rows of a batch, but {type(net).__name__} has no embedding table that is "
            "read by id only: set optim.tables=dense_adam."
        )
    return list(dict.fromkeys(tables))
