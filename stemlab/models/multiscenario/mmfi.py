"""MMFI: which pairs of fields matter is learnt for every scenario and task.

Song et al., "Multi-Scenario and Multi-Task Aware Feature Interaction for Recommendation System", TKDD 2024; equations
and quirks of the released code (q1 to q17): spec/mmfi.md sections 2 to 8.

Legend: B rows, R rows of one scenario, F fields, P pairs, E embedding width, S scenarios, T tasks, I width of an
indicator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, cast

import torch
from torch import Tensor, nn

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import ImpressionSizes
from stemlab.errors import StemlabError
from stemlab.models.api import MultiTaskOutput
from stemlab.models.multiscenario.base import (
    Fields,
    new_vectors,
    one_scenario,
    rows_by_scenario,
    scenario_ids,
    take_rows,
)
from stemlab.models.multiscenario.mmfi_attention import Attention, AttentionShape, Gates, stacked
from stemlab.models.multiscenario.mmfi_gates import gate_shares
from stemlab.models.multiscenario.mmfi_importance import Attended, Importance, importance
from stemlab.models.multitask.base import Gates as GateWeights
from stemlab.models.multitask.base import TabularNet, build_towers, run_towers
from stemlab.nn.mlp import Activation, MLPStyle
from stemlab.nn.numericals import How, NumericalFields
from stemlab.nn.pairs import pair_names, pair_products, weighted_products
from stemlab.nn.sparse_attention import Sparse, sparse_weights
from stemlab.types import NonNegativeInt, PositiveFloat, PositiveInt

BLOCKS = ("shared", "first_order")
PUBLISHED = {
    "bn_all_rows": (True,),
    "share_gates": (True,),
    "use_pair_out_weight": (True,),
    "activation": ("none",),
    "numeric": ("grouped",),
    "sparse": ("tanh_relu", "softmax_t"),
    "tau_pair": (1.0,),
    "tau_field": (1.0,),
}


class MMFI(TabularNet):
    """Pairs and fields under attention of the row's scenario and each task -> a tower a task.

    A row goes only through its own scenario's attention, whose batch norm sees its scenario's rows only; in training,
    where a batch has one such row, the running statistics stand in. The towers belong to all scenarios, and so does
    their batch norm.

    Args:
        fields: field -> embedding rows, or the dataset's sizes.
        tasks: label names.
        embedding_dim: E, of either embedding of a field: for pairs, and for the first-order branch.
        sparse: weights of the pairs: a hard mask, or softmax with a temperature (both published); ``sparsemax`` and
            ``entmax15`` are our extension. Fields always have a softmax.
        published: the released code's behaviour in all that follows: ``bn_all_rows`` and ``share_gates`` are true, and
            a setting that contradicts it is refused.
        bn_all_rows: all rows go through every scenario's attention, for its batch norm (q5); ``None``: as
            ``published``.
        share_gates: the first-order branch uses the pairs' gates (q6); ``None``: as ``published``.
        use_pair_out_weight: the hard mask is multiplied by one more learned weight a pair (q8).
        activation: after bottom and experts (q7).
        tau_pair: temperature of the pairs' weights, not of the hard mask (q9).
        tau_field: temperature of the fields' weights.
        numeric: numerical columns as one field a part of the dataset (code), or one a column (figure; q13).
        num_shared_experts: N.
        num_specific_experts: of each scenario and task; published: N / 2.
        bottom_width: outputs of the shared bottom.
        expert_width: outputs of an expert.
        indicator_dim: I, of scenario and task vectors.
        tower_hidden_units: widths of a tower; each is followed by batch norm and ReLU.
        padding: id 0 is padding: a zero row that is never trained.
    """

    def __init__(
        self,
        fields: Fields,
        tasks: Sequence[str],
        *,
        embedding_dim: PositiveInt,
        sparse: Sparse = "tanh_relu",
        published: bool = False,
        bn_all_rows: bool | None = None,
        share_gates: bool | None = None,
        use_pair_out_weight: bool = True,
        activation: Activation | Literal["none"] = "none",
        tau_pair: PositiveFloat = 1.0,
        tau_field: PositiveFloat = 1.0,
        numeric: How = "grouped",
        num_shared_experts: PositiveInt = 4,
        num_specific_experts: NonNegativeInt = 2,
        bottom_width: PositiveInt = 14,
        expert_width: PositiveInt = 4,
        indicator_dim: PositiveInt = 4,
        tower_hidden_units: list[PositiveInt] = [40, 32, 8],  # noqa: B006 - never changed
        padding: bool = True,
    ) -> None:
        quirks = {"bn_all_rows": bn_all_rows, "share_gates": share_gates, "use_pair_out_weight": use_pair_out_weight}
        chosen = {"activation": activation, "numeric": numeric, "sparse": sparse}
        experts = {"num_shared_experts": num_shared_experts, "num_specific_experts": num_specific_experts}
        self.check_settings(
            {**quirks, **chosen, **experts, "published": published, "tau_pair": tau_pair, "tau_field": tau_field}
        )
        sizes = ImpressionSizes.of(fields)
        super().__init__(replace(sizes, numericals={}), tasks, BLOCKS, embedding_dim, padding)
        self.scenarios = one_scenario(sizes)
        width = len(BLOCKS) * embedding_dim
        self.numerical = NumericalFields(sizes.numericals, width, numeric) if sizes.numericals else None
        self.sparse, self.taus, self.dim = sparse, (tau_pair, tau_field), embedding_dim
        self.bn_all_rows = published if bn_all_rows is None else bn_all_rows
        self.check_fields(self.fields)
        shape = AttentionShape(
            scenarios=len(self.scenarios),
            tasks=len(tasks),
            width=embedding_dim,
            indicator=indicator_dim,
            bottom=bottom_width,
            expert=expert_width,
            shared=num_shared_experts,
            own=num_specific_experts,
            activation=activation,
        )
        self._add_attention(shape, with_out=use_pair_out_weight and sparse == "tanh_relu")
        shared = published if share_gates is None else share_gates
        self.field_gates = None if shared else nn.ModuleList(Gates(shape) for _ in self.scenarios)
        self.towers = build_towers(len(tasks), width, tower_hidden_units, MLPStyle(batch_norm=True))
        self._initialise_tables(padding)

    def _add_attention(self, shape: AttentionShape, with_out: bool) -> None:
        S, T, F, P = shape.scenarios, shape.tasks, len(self.fields), len(self.pairs)
        self.scenario_vector_SI, self.task_vector_TI = new_vectors(S, shape.indicator), new_vectors(T, shape.indicator)
        self.cell_weight_ST = nn.Parameter(torch.empty(S, T).normal_(std=(2 / (S + T)) ** 0.5))
        self.pair_weight_P = nn.Parameter(torch.empty(P).normal_(std=(2 / (P + 1)) ** 0.5))
        self.out_weight_STP = stacked(P, S, T, P) if with_out else None
        self.bias_STE = nn.Parameter(torch.zeros(S, T, shape.width))
        self.pair_attention, self.field_attention = Attention(P, shape), Attention(F, shape)
        self.gates = nn.ModuleList(Gates(shape) for _ in range(S))

    @torch.no_grad()
    def _initialise_tables(self, padding: bool) -> None:
        """Xavier-uniform as if all tables of a block were one, on top of each other."""
        tables = self.embedding.weights()
        bound = math.sqrt(6 / (sum(len(table) for table in tables) + self.dim))
        for table in tables:
            table.uniform_(-bound, bound)
            if padding:
                table[0].zero_()

    @classmethod
    def check_settings(cls, settings: Mapping[str, object]) -> None:
        """Raise StemlabError where one setting would make another one void; needs no data."""
        if settings["sparse"] == "tanh_relu" and settings["tau_pair"] != 1:
            raise StemlabError(
                f"model.net.tau_pair={settings['tau_pair']} is the temperature of distributions, and "
                "model.net.sparse=tanh_relu is none; leave it at 1.0, or choose sparse=softmax_t."
            )
        if not settings["published"]:
            return
        half = int(str(settings["num_shared_experts"])) // 2
        for name, allowed in {**PUBLISHED, "num_specific_experts": (half,)}.items():
            value = settings[name]
            if value is not None and value not in allowed:
                raise StemlabError(
                    f"model.net.published=true, but the released code has {name}={_told(allowed)}, not "
                    f"{_told((value,))}; set model.net.{name}={_told(allowed[:1])}, or model.net.published=false."
                )

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the F fields: categorical ones, the scenario where it is a feature, numerical ones."""
        numerical = () if self.numerical is None else self.numerical.names
        taken = self.embedding.inputs
        return (*taken, *(f"{name} (numerical)" if name in taken else name for name in numerical))

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Names of the P pairs, in the order of their weights."""
        return pair_names(self.fields)

    @staticmethod
    def check_fields(fields: Sequence[str]) -> None:
        """Raise StemlabError unless there is a pair of fields."""
        if len(fields) < 2:
            raise StemlabError(f"MMFI weighs pairs of fields, but the dataset has only {', '.join(fields) or 'none'}.")

    def embedding_tables(self) -> dict[str, dict[str, Tensor]]:
        """Field -> role -> (rows, E) view; role is ``shared`` (of the pairs) or ``first_order``."""
        return {**super().embedding_tables(), "scenario_vectors": {"shared": self.scenario_vector_SI}}

    def forward(self, batch: ImpressionBatch) -> MultiTaskOutput:
        """Score a batch; a row's logits are those of its own scenario."""
        logits, gates = self.score(self.inputs(batch))
        return MultiTaskOutput(torch.cat(logits, dim=1), gates)

    def inputs(self, batch: ImpressionBatch) -> list[Tensor]:
        """Return what ``score`` takes: fields (B, F, 2E), for pairs and for themselves, and scenarios (B,) int64."""
        blocks = self.embedding(batch.ids_BF, None, batch.scenario_B)
        of_pairs, of_fields = (block.view(len(batch), -1, self.dim) for block in blocks)
        field_BFX = torch.cat([of_pairs, of_fields], dim=2)
        if self.numerical is not None:
            field_BFX = torch.cat([field_BFX, self.numerical(batch.dense_BN)], dim=1)
        return [field_BFX, scenario_ids(batch)]

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], GateWeights]:
        """Return one logit (B, 1) a task, and no gates (one a pair: ``gate_shares``), from what ``inputs`` returns."""
        state_BTX = self.states(inputs)
        return run_towers(self.towers, state_BTX.unbind(dim=1)), ()

    def states(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return what the towers read, (B, T, 2E): sums of pairs, then of fields."""
        attended = self.attend(inputs)
        states = []
        for s, part in enumerate(attended):
            pair_RTE = weighted_products(part.pair_vector_RFE, part.pair_RTP * self.pair_scale(s))
            field_RTE = torch.bmm(part.field_RTF, part.field_vector_RFE) + self.bias_STE[s]
            states.append(torch.cat([pair_RTE, field_RTE], dim=2))
        joined = torch.cat(states)
        order = torch.cat([part.rows for part in attended])
        return joined.new_empty(joined.shape).index_copy(0, order, joined)

    def pair_scale(self, scenario: int) -> Tensor:
        """Return what a pair's attention is multiplied by, (T, P) or (P,): m_p, and q_p of the hard mask."""
        return self.pair_weight_P if self.out_weight_STP is None else self.out_weight_STP[scenario] * self.pair_weight_P

    def attend(self, inputs: Sequence[Tensor]) -> list[Attended]:
        """Return, a scenario, what its rows attend to."""
        rows, vectors, indicators, pair_slots, field_slots = self._slots(inputs)
        pair_scores = self.pair_attention(pair_slots, self.gates, indicators, self.bn_all_rows)
        field_scores = self.field_attention(field_slots, self.field_gates or self.gates, indicators, self.bn_all_rows)
        return [
            Attended(
                rows=rows[s],
                pair_RTP=sparse_weights(pair_scores[s], self.sparse, self.taus[0]),
                field_RTF=sparse_weights(field_scores[s], "softmax_t", self.taus[1]),
                pair_vector_RFE=pair,
                field_vector_RFE=field,
            )
            for s, (pair, field) in enumerate(vectors)
        ]

    def _slots(
        self, inputs: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[tuple[Tensor, ...]], list[Tensor], list[Tensor], list[Tensor]]:
        """Return, a scenario each: rows, both vectors of the fields, indicators, pairs and fields (E, Q, R)."""
        field_BFX, scenario_B = inputs
        rows = rows_by_scenario(scenario_B, len(self.scenarios))
        vectors = [torch.split(own, self.dim, dim=2) for own in take_rows(field_BFX, rows)]
        indicators = list(self.cell_weight_ST.unsqueeze(2) * self.scenario_vector_SI.unsqueeze(1) * self.task_vector_TI)
        pair_slots = [pair_products(pair.permute(2, 1, 0).contiguous(), self.pair_weight_P) for pair, _ in vectors]
        field_slots = [field.permute(2, 1, 0).contiguous() for _, field in vectors]
        return rows, vectors, indicators, pair_slots, field_slots

    @torch.no_grad()
    def gate_shares(self, batch: ImpressionBatch) -> list[dict[str, dict[str, float]]]:
        """Return, of pairs and of fields, task -> expert group -> mean share of the rows' own scenarios' gates."""
        _, _, indicators, *slots = self._slots(self.inputs(batch))
        experts = self.pair_attention.shape.shared
        return [
            gate_shares(cast(Sequence[Gates], gates), own, indicators, self.tasks, experts)
            for gates, own in zip((self.gates, self.field_gates or self.gates), slots, strict=True)
        ]

    @torch.no_grad()
    def importance(self, batch: ImpressionBatch) -> Importance:
        """Return how much every pair and every field counts in each scenario, for each task, in a batch.

        Call it in evaluation mode: in training mode the running statistics would move.
        """
        attended = self.attend(self.inputs(batch))
        scales = [self.pair_scale(s).expand(len(self.tasks), -1) for s in range(len(self.scenarios))]
        return importance(attended, scales, self.fields, self.pairs, self.scenarios, self.tasks)


def _told(values: Sequence[object]) -> str:
    """Values as the command line has them."""
    return " or ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in values)
