"""What multi-scenario networks have in common: a row goes only through its own scenario's parts.

Legend: B rows, R rows of one scenario, S scenarios, C width of a scenario's vector, H width, F fields,
D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import ImpressionSizes
from stemlab.models.api import MultiTaskOutput
from stemlab.models.multitask.base import TabularNet

Fields = Mapping[str, int] | ImpressionSizes


class ScenarioNet(TabularNet):
    """Embedding tables shared by all scenarios, then whatever a paper does with a row and its scenario.

    Args:
        fields: field -> embedding rows, or the dataset's sizes.
        tasks: label names.
        embedding_dim: D.
        padding: id 0 is padding: a zero row that is never trained.
    """

    def __init__(self, fields: Fields, tasks: Sequence[str], embedding_dim: int, padding: bool) -> None:
        super().__init__(fields, tasks, ["shared"], embedding_dim, padding)
        self.scenarios = one_scenario(ImpressionSizes.of(fields))

    def forward(self, batch: ImpressionBatch) -> MultiTaskOutput:
        """Score a batch; a row's logits are those of its own scenario."""
        logits, gates = self.score(self.inputs(batch))
        return MultiTaskOutput(torch.cat(logits, dim=1), gates)

    def inputs(self, batch: ImpressionBatch) -> list[Tensor]:
        """Return what ``score`` takes: the embeddings (B, F*D) and the rows' scenarios (B,) int64."""
        return [*self.embedding(batch.ids_BF, batch.dense_BN, batch.scenario_B), scenario_ids(batch)]

    def embedding_tables(self) -> dict[str, dict[str, Tensor]]:
        """Field -> role -> (rows, D) view; the scenarios' vectors (S, C) come as a field ``scenario_vectors``."""
        tables = super().embedding_tables()
        vector_SC = dict(self.named_parameters(recurse=False)).get("vector_SC")
        if vector_SC is not None:
            tables["scenario_vectors"] = {"shared": vector_SC}
        return tables


def new_vectors(count: int, width: int) -> nn.Parameter:
    """Return a learned vector (width,) of every scenario or task, Xavier-uniform.

    Not an ``Embedding``: the tiny initial values of tables would make all scenarios alike.
    """
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(count, width)))


def one_scenario(sizes: ImpressionSizes) -> tuple[str, ...]:
    """Return the scenarios' names; a dataset without scenarios has one, ``all``."""
    return sizes.scenarios or ("all",)


def scenario_ids(batch: ImpressionBatch) -> Tensor:
    """Return every row's scenario (B,) int64; zeros where the batch has none."""
    if batch.scenario_B is None:
        return torch.zeros(len(batch), dtype=torch.int64, device=batch.ids_BF.device)
    return batch.scenario_B.long()


def rows_by_scenario(scenario_B: Tensor, scenarios: int) -> list[Tensor]:
    """Return, a scenario, the indices (R,) of its rows in ascending order; none where the batch has no such row.

    Raises:
        ValueError: an id is not in 0..S-1.
    """
    if scenarios == 1 and not bool(scenario_B.any()):
        return [torch.arange(len(scenario_B), device=scenario_B.device)]
    counts = torch.bincount(scenario_B, minlength=scenarios).tolist()
    if len(counts) > scenarios:
        raise ValueError(f"scenario id {len(counts) - 1}, but there are {scenarios} scenarios")
    return list(torch.split(torch.argsort(scenario_B, stable=True), counts))


def take_rows(input_BH: Tensor, rows: Sequence[Tensor]) -> list[Tensor]:
    """Return, a scenario, its rows (R, ...) of the input; differentiable."""
    if len(rows) == 1:
        return [input_BH]
    return list(torch.split(input_BH.index_select(0, torch.cat(list(rows))), [len(index) for index in rows]))


def join_rows(parts: Sequence[Tensor], rows: Sequence[Tensor], batch_rows: int) -> Tensor:
    """Put the scenarios' rows back in the order of the batch; differentiable.

    Args:
        parts: a scenario, (R, ...).
        rows: a scenario, the indices of its rows in the batch; together every row once.
        batch_rows: B.
    """
    if len(parts) == 1:
        return parts[0]
    joined = torch.cat(list(parts))
    return joined.new_empty((batch_rows, *joined.shape[1:])).index_copy(0, torch.cat(list(rows)), joined)
