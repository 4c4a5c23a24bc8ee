"""DDP whose ranks hold parts of the embedding tables; checkpoints contain whole tables, as without it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from stemlab.nn.sharded.exchange import Exchange, ShardedTables
from stemlab.nn.sharded.network import exchange_of, shard_tables, sharded_weights
from stemlab.optim import PenalisedOptimizer
from stemlab.optim.sharded import ShardedNorm
from stemlab.runs.launcher import RankStrategy
from stemlab.runs.table_plan import TablePlan


class ShardedStrategy(RankStrategy):
    """Divide tables when the process group exists, and keep them out of DDP: the lookups average their gradients.

    A checkpoint is gathered on rank 0, table by table, under the names and in the order of a run whose ranks all have
    whole tables, so that every command reads it and a run can resume with another layout or number of ranks.

    Args:
        plan: the tables to divide.
        arguments: arguments of ``DDPStrategy``.
    """

    def __init__(self, plan: TablePlan, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._plan = plan

    def setup_environment(self) -> None:
        """Set up the process group, then divide the tables of the module; every rank has built the same network."""
        super().setup_environment()
        net = self._net()
        if exchange_of(net) is None:
            layout = self._plan.layout(self.global_rank, self.world_size)
            shard_tables(net, self._plan.chosen, layout, distributed.new_group())
        # DDP would broadcast them from rank 0 and average their gradients; Lightning broadcasts before an evaluation
        ignore: Any = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
        ignore(self._module(), self.exchanged_parameters())

    def exchanged_parameters(self) -> list[str]:
        """Return the names of the divided tables: the lookups exchange their gradients."""
        return [f"net.{name}" for name, _, _ in sharded_weights(self._net())]

    def setup_optimizers(self, trainer: Trainer) -> None:
        """Create the optimiser, which clips the norm over the parts of all ranks."""
        super().setup_optimizers(trainer)
        parts = [table.weight for tables in self._exchange().lookups for table in tables.tables]
        for optimizer in self.optimizers:
            if isinstance(optimizer, PenalisedOptimizer):
                optimizer.sharded_norm = ShardedNorm(parts, self._exchange().group)

    # ---------------------------------------------------------------------------------------------- checkpoints

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the state of the module, with whole tables on rank 0. Collective."""
        state = super().lightning_module_state_dict()
        for name, tables, position in sharded_weights(self._net()):
            state[f"net.{name}"] = gather(tables, position, state[f"net.{name}"])
        return state

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the state of an optimiser, with the states of whole tables on rank 0. Collective."""
        state: dict[str, Any] = dict(super().optimizer_state(optimizer))
        state["state"] = dict(state["state"])
        for index, (tables, position) in self._divided(optimizer).items():
            if index in state["state"]:
                shape = tables.tables[position].weight.shape
                state["state"][index] = {
                    key: gather(tables, position, value) if _has_shape(value, shape) else value
                    for key, value in state["state"][index].items()
                }
        return state

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint memory-mapped: a rank reads the rows and columns that it holds only."""
        del weights_only  # never code
        content: dict[str, Any] = torch.load(checkpoint_path, map_location="cpu", weights_only=True, mmap=True)
        return content

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Load the state of the module: of each divided table the part of this rank."""
        state = dict(checkpoint["state_dict"])
        for name, tables, _ in sharded_weights(self._net()):
            state[f"net.{name}"] = tables.exchange.layout.part(state[f"net.{name}"])
        super().load_model_state_dict({**checkpoint, "state_dict": state}, strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load the states of the optimisers: of each divided table the part of this rank."""
        saved = [
            {**state, "state": self._own_parts(optimizer, state["state"])}
            for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True)
        ]
        super().load_optimizer_state_dict({**checkpoint, "optimizer_states": saved})

    def _own_parts(self, optimizer: Optimizer, states: Mapping[int, Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
        """Return the states of an optimiser with copies of the parts that this rank holds; the file is mapped."""
        divided = self._divided(optimizer)
        own = {
            index: {key: value if index in divided else _copy(value) for key, value in values.items()}
            for index, values in states.items()
        }
        for index, (tables, position) in divided.items():
            whole, layout = torch.Size((tables.sizes[position], tables.width)), tables.exchange.layout
            for key, value in states.get(index, {}).items():
                if _has_shape(value, whole):
                    own[index][key] = layout.part(value)
        return own

    def _divided(self, optimizer: Optimizer) -> dict[int, tuple[ShardedTables, int]]:
        """Return number of a parameter in the optimiser's state -> its tables and position, if it is divided."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        number = {id(parameter): index for index, parameter in enumerate(parameters)}
        return {
            number[id(weight)]: (tables, position)
            for tables in self._exchange().lookups
            for position, weight in enumerate(table.weight for table in tables.tables)
            if id(weight) in number
        }

    def _module(self) -> LightningModule:
        assert self.lightning_module is not None
        return self.lightning_module

    def _net(self) -> nn.Module:
        net = self._module().net
        assert isinstance(net, nn.Module)
        return net

    def _exchange(self) -> Exchange:
        exchange = exchange_of(self._net())
        assert exchange is not None
        return exchange


def gather(tables: ShardedTables, position: int, part: Tensor) -> Tensor:
    """Return a whole table, or a state of its shape, on rank 0; on other ranks the part. Collective."""
    exchange = tables.exchange
    whole_VW = exchange.layout.whole(part, tables.sizes[position], tables.width, exchange.group)
    return part if whole_VW is None else whole_VW


def _has_shape(value: Any, shape: torch.Size) -> bool:
    return isinstance(value, Tensor) and value.shape == shape


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
