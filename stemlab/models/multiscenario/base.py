"""Base class and routing of multi-scenario networks (docs/methods/multiscenario.md#common-parts).

Each sample passes only through the modules of its own scenario. On the CPU the batch is split by scenario; on
accelerators the networks use ``stemlab.nn.kernels.batched_scenarios`` instead.

Legend: B samples, R samples of one scenario, S scenarios, C width of a scenario vector, H width, F fields,
D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import ImpressionSizes
from stemlab.models.multitask.base import TabularNet
from stemlab.nn.kernels.batched_scenarios import lookup_own, own_scenario
from stemlab.nn.kernels.dispatch import static_shapes

Fields = Mapping[str, int] | ImpressionSizes


class ScenarioNet(TabularNet):
    """Embedding tables shared by all scenarios; subclasses compute logits from embeddings and scenarios.

    Args:
        fields: field -> embedding rows, or the sizes of the dataset.
        tasks: label names.
        embedding_dim: D.
        padding: id 0 is padding: its row is zero and is not trained.
    """

    def __init__(self, fields: Fields, tasks: Sequence[str], embedding_dim: int, padding: bool) -> None:
        super().__init__(fields, tasks, ["shared"], embedding_dim, padding)
        self.scenarios = scenario_names(ImpressionSizes.of(fields))

    def inputs(self, batch: ImpressionBatch) -> list[Tensor]:
        """Return the inputs of ``score``: embeddings (B, F*D) and scenarios (B,) int64."""
        return [*super().inputs(batch), batch_scenarios(batch)]

    def embedding_tables(self) -> dict[str, dict[str, Tensor]]:
        """Return field -> role -> (rows, D) view; the scenario vectors (S, C) are field ``scenario_vectors``."""
        tables = super().embedding_tables()
        vector_SC = dict(self.named_parameters(recurse=False)).get("vector_SC")
        if vector_SC is not None:
            tables["scenario_vectors"] = {"shared": vector_SC}
        return tables


def new_vectors(count: int, width: int) -> nn.Parameter:
    """Return trained vectors (count, width) of scenarios or tasks, Xavier-uniform.

    Not an ``nn.Embedding``: the initial values of embedding tables are so small that all scenarios would be equal.
    """
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(count, width)))


def vectors_of(vector_SC: Tensor, scenario_B: Tensor) -> Tensor:
    """Return the vector (B, C) of each sample's scenario."""
    if static_shapes(scenario_B):
        return lookup_own(vector_SC, own_scenario(scenario_B, len(vector_SC)))
    return vector_SC[scenario_B]


def scenario_names(sizes: ImpressionSizes) -> tuple[str, ...]:
    """Return the scenario names; ``("all",)`` for a dataset without scenarios."""
    return sizes.scenarios or ("all",)


def batch_scenarios(batch: ImpressionBatch) -> Tensor:
    """Return the scenario of each sample (B,) int64; zeros if the batch has none."""
    if batch.scenario_B is None:
        return torch.zeros(batch.ids_BF.shape[0], dtype=torch.int64, device=batch.ids_BF.device)
    return batch.scenario_B.long()


def samples_by_scenario(scenario_B: Tensor, scenarios: int) -> list[Tensor]:
    """Return, for each scenario, the indices (R,) of its samples in ascending order; R may be 0.

    Raises:
        ValueError: a scenario id is not in 0..S-1.
    """
    if scenarios == 1 and not bool(scenario_B.any()):
        return [torch.arange(scenario_B.shape[0], device=scenario_B.device)]
    counts = torch.bincount(scenario_B, minlength=scenarios).tolist()
    if len(counts) > scenarios:
        raise ValueError(f"scenario id {len(counts) - 1} is out of range: there are {scenarios} scenarios")
    return list(torch.split(torch.argsort(scenario_B, stable=True), counts))


def split_by_scenario(input_BH: Tensor, samples: Sequence[Tensor]) -> list[Tensor]:
    """Return, for each scenario, its samples (R, ...) of the input; differentiable.

    Args:
        input_BH: (B, ...).
        samples: for each scenario, the indices of its samples (``samples_by_scenario``).
    """
    if len(samples) == 1:
        return [input_BH]
    return list(torch.split(input_BH.index_select(0, torch.cat(list(samples))), [len(index) for index in samples]))


def merge_scenarios(parts: Sequence[Tensor], samples: Sequence[Tensor], batch_size: int) -> Tensor:
    """Return the samples of all scenarios (B, ...) in batch order: the inverse of ``split_by_scenario``.

    Args:
        parts: for each scenario, (R, ...).
        samples: for each scenario, the indices of its samples; all together each sample once.
        batch_size: B.
    """
    if len(parts) == 1:
        return parts[0]
    joined = torch.cat(list(parts))
    return joined.new_empty((batch_size, *joined.shape[1:])).index_copy(0, torch.cat(list(samples)), joined)
