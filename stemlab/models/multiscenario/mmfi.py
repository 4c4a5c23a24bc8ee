"""MMFI: learns the weights of field pairs and of fields for each scenario and task.

Song et al., "Multi-Scenario and Multi-Task Aware Feature Interaction for Recommendation System", TKDD 2024. Equations
and quirks of the released code (q1 to q17): docs/methods/mmfi.md.

Legend: B samples, R samples of one scenario, F fields, P pairs, Q slots (pairs or fields), E embedding width,
S scenarios, T tasks, I width of an indicator.
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
from stemlab.models.multiscenario.base import (
    Fields,
    batch_scenarios,
    merge_scenarios,
    new_vectors,
    samples_by_scenario,
    scenario_names,
    split_by_scenario,
)
from stemlab.models.multiscenario.mmfi_attention import AttentionShape, SlotAttention, SlotGates, linear_parameter
from stemlab.models.multiscenario.mmfi_batched import scores_of_own
from stemlab.models.multiscenario.mmfi_gates import slot_gate_shares
from stemlab.models.multiscenario.mmfi_importance import AttentionOutput, Importance, importance
from stemlab.models.multiscenario.mmfi_settings import check_mmfi_settings
from stemlab.models.multitask.base import GateWeights, TabularNet, build_towers, run_towers
from stemlab.nn.kernels.batched_scenarios import lookup_own, own_scenario
from stemlab.nn.kernels.dispatch import kernels_off, static_shapes
from stemlab.nn.mlp import Activation, MLPStyle
from stemlab.nn.numericals import NumericalEmbedding, NumericalFields
from stemlab.nn.pairs import pair_names, pair_products, pair_products_by_sample, weighted_pair_sum
from stemlab.nn.sparse_attention import Sparse, sparse_weights
from stemlab.types import NonNegativeInt, PositiveFloat, PositiveInt

BLOCKS = ("shared", "first_order")


class MMFI(TabularNet):
    """logit_t = Tower_t([u^{s,t}; l^{s,t}]) for a sample of scenario s (docs/methods/mmfi.md).

    Pairs p = (i < j): r_p = m_p (x_i * x_j), u^{s,t} = sum_p q_p alpha_p r_p; fields: l^{s,t} = sum_f beta_f z_f + b.
    alpha and beta are the weights of two ``SlotAttention`` networks; x and z are two embeddings of the same fields.

    A sample passes only through the attention of its own scenario, whose batch norm sees only samples of that scenario;
    with one such sample in a training batch it uses the running statistics. All scenarios share the towers and their
    batch norm.

    Args:
        fields: field -> embedding rows, or the sizes of the dataset.
        tasks: label names.
        embedding_dim: E, width of x and of z.
        sparse: alpha as a hard mask (``tanh_relu``) or a softmax with temperature (``softmax_t``), both in the released
            code; ``sparsemax`` and ``entmax15`` are extensions. beta is always a softmax.
        published: follow the released code: ``bn_all_rows`` and ``share_gates`` are true, and a setting that
            contradicts the released code raises an error.
        bn_all_rows: the samples of all scenarios pass through the attention of each scenario, for its batch norm (q5);
            ``None``: the value of ``published``.
        share_gates: the first-order branch uses the gates of the pairs (q6); ``None``: the value of ``published``.
        use_pair_out_weight: learn the factor q_p of the hard mask (q8); otherwise q_p = 1.
        activation: after the bottom and after the experts (q7).
        tau_pair: temperature of alpha; not used by the hard mask (q9).
        tau_field: temperature of beta.
        numeric: numerical columns as one field per part of the dataset (released code) or one per column (paper's
            figure; q13).
        num_shared_experts: N.
        num_specific_experts: O, of each scenario and task; released code: N / 2.
        bottom_width: outputs of the shared bottom.
        expert_width: outputs of an expert.
        indicator_dim: I, width of scenario and task vectors.
        tower_hidden_units: hidden widths of a tower; each layer is followed by batch norm and ReLU.
        padding: id 0 is padding: its row is zero and is not trained.
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
        numeric: NumericalEmbedding = "grouped",
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
        self.scenarios = scenario_names(sizes)
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
        self.field_gates = None if shared else nn.ModuleList(SlotGates(shape) for _ in self.scenarios)
        self.towers = build_towers(len(tasks), width, tower_hidden_units, MLPStyle(batch_norm=True))
        self._initialise_tables(padding)

    def _add_attention(self, shape: AttentionShape, with_out: bool) -> None:
        S, T, F, P = shape.scenarios, shape.tasks, len(self.fields), len(self.pairs)
        self.scenario_vector_SI, self.task_vector_TI = new_vectors(S, shape.indicator), new_vectors(T, shape.indicator)
        self.cell_weight_ST = nn.Parameter(torch.empty(S, T).normal_(std=(2 / (S + T)) ** 0.5))
        self.pair_weight_P = nn.Parameter(torch.empty(P).normal_(std=(2 / (P + 1)) ** 0.5))
        self.out_weight_STP = linear_parameter(P, S, T, P) if with_out else None
        self.bias_STE = nn.Parameter(torch.zeros(S, T, shape.width))
        self.pair_attention, self.field_attention = SlotAttention(P, shape), SlotAttention(F, shape)
        self.gates = nn.ModuleList(SlotGates(shape) for _ in range(S))

    @torch.no_grad()
    def _initialise_tables(self, padding: bool) -> None:
        """Draw all tables of a block as one Xavier-uniform matrix (docs/methods/mmfi.md#initial-weights)."""
        tables = self.embedding.weights()
        bound = math.sqrt(6 / (sum(len(table) for table in tables) + self.dim))
        for table in tables:
            table.uniform_(-bound, bound)
            if padding:
                table[0].zero_()

    @classmethod
    def check_settings(cls, settings: Mapping[str, object]) -> None:
        """Raise StemlabError if settings contradict each other or the released code; needs no data."""
        check_mmfi_settings(settings)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the F fields: categorical fields, the scenario if it is a feature, numerical fields."""
        numerical = () if self.numerical is None else self.numerical.names
        taken = self.embedding.inputs
        return (*taken, *(f"{name} (numerical)" if name in taken else name for name in numerical))

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Names of the P pairs, in the order of ``pair_weight_P``."""
        return pair_names(self.fields)

    @staticmethod
    def check_fields(fields: Sequence[str]) -> None:
        """Raise StemlabError if there are fewer than two fields."""
        if len(fields) < 2:
            raise StemlabError(
                f"MMFI needs at least two fields, but the dataset has only {', '.join(fields) or 'none'}."
            )

    def embedding_tables(self) -> dict[str, dict[str, Tensor]]:
        """Return field -> role -> (rows, E) view; role is ``shared`` (pairs) or ``first_order``."""
        return {**super().embedding_tables(), "scenario_vectors": {"shared": self.scenario_vector_SI}}

    def inputs(self, batch: ImpressionBatch) -> list[Tensor]:
        """Return the inputs of ``score``: field vectors [x; z] (B, F, 2E) and scenarios (B,) int64."""
        blocks = self.embedding(batch.ids_BF, None, batch.scenario_B, batch.list_ids_BK, batch.list_weights_BW)
        pair_BFE, field_BFE = (block.view(batch.ids_BF.shape[0], -1, self.dim) for block in blocks)
        field_BFX = torch.cat([pair_BFE, field_BFE], dim=2)
        if self.numerical is not None:
            field_BFX = torch.cat([field_BFX, self.numerical(batch.dense_BN)], dim=1)
        return [field_BFX, batch_scenarios(batch)]

    def score(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], GateWeights]:
        """Return one logit (B, 1) per task, and no gates (they are per slot: see ``gate_shares``)."""
        state_BTX = self.states(inputs)
        return run_towers(self.towers, state_BTX.unbind(dim=1)), ()

    def states(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the inputs of the towers, [u; l] (B, T, 2E), from what ``inputs`` returns."""
        if static_shapes(inputs[0]):
            return self.states_of_own(inputs)
        attended = self.attend(inputs)
        states = []
        for s, part in enumerate(attended):
            weight_RTP = part.pair_RTP if self.out_weight_STP is None else part.pair_RTP * self.out_weight_STP[s]
            if kernels_off():
                pair_RTE = torch.bmm(weight_RTP, part.pair_RPE)  # u = sum_p q_p alpha_p r_p
            else:  # the same sum from x instead of r (docs/methods/kernels.md)
                pair_RTE = weighted_pair_sum(part.vector_RFE, weight_RTP * self.pair_weight_P)
            field_RTE = torch.bmm(part.field_RTF, part.field_RFE) + self.bias_STE[s]  # l = sum_f beta_f z_f + b
            states.append(torch.cat([pair_RTE, field_RTE], dim=2))
        return merge_scenarios(states, [part.samples for part in attended], len(inputs[0]))

    def states_of_own(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return ``states`` in static shapes (docs/methods/kernels.md#static-shapes)."""
        vector_BFE, field_BFE = torch.split(inputs[0], self.dim, dim=2)
        own_BS = own_scenario(inputs[1], len(self.scenarios))
        pair_BPE = pair_products_by_sample(vector_BFE, self.pair_weight_P)
        shared = (self._indicators(), own_BS, self.bn_all_rows)
        pair_BTP = scores_of_own(self.pair_attention, pair_BPE, self.gates, *shared)
        field_BTF = scores_of_own(self.field_attention, field_BFE, self.field_gates or self.gates, *shared)
        weight_BTP = sparse_weights(pair_BTP, self.sparse, self.taus[0])
        if self.out_weight_STP is not None:
            weight_BTP = weight_BTP * lookup_own(self.out_weight_STP, own_BS)
        pair_BTE = weighted_pair_sum(vector_BFE, weight_BTP * self.pair_weight_P)
        field_BTE = torch.bmm(sparse_weights(field_BTF, "softmax_t", self.taus[1]), field_BFE)
        return torch.cat([pair_BTE, field_BTE + lookup_own(self.bias_STE, own_BS)], dim=2)

    def attend(self, inputs: Sequence[Tensor]) -> list[AttentionOutput]:
        """Return the attention weights and slot vectors of each scenario."""
        samples, indicators, vectors, pairs, fields = self._slots(inputs)
        pair_scores = self.pair_attention(pairs, self.gates, indicators, self.bn_all_rows)
        field_scores = self.field_attention(fields, self.field_gates or self.gates, indicators, self.bn_all_rows)
        return [
            AttentionOutput(
                samples=samples[s],
                pair_RTP=sparse_weights(pair_scores[s], self.sparse, self.taus[0]),
                field_RTF=sparse_weights(field_scores[s], "softmax_t", self.taus[1]),
                vector_RFE=vectors[s],
                pair_RPE=pairs[s],
                field_RFE=fields[s],
            )
            for s in range(len(self.scenarios))
        ]

    def _slots(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], ...]:
        """Return per scenario: samples (R,), indicators (T, I), x (R, F, E), pairs r (R, P, E), fields z (R, F, E)."""
        field_BFX, scenario_B = inputs
        samples = samples_by_scenario(scenario_B, len(self.scenarios))
        x, z = zip(*(torch.split(own, self.dim, dim=2) for own in split_by_scenario(field_BFX, samples)), strict=True)
        pairs = [pair_products(vector_RFE, self.pair_weight_P) for vector_RFE in x]
        return samples, list(self._indicators()), list(x), pairs, list(z)

    def _indicators(self) -> Tensor:
        """Return the indicators (S, T, I)."""
        return self.cell_weight_ST.unsqueeze(2) * self.scenario_vector_SI.unsqueeze(1) * self.task_vector_TI

    @torch.no_grad()
    def gate_shares(self, batch: ImpressionBatch) -> list[dict[str, dict[str, float]]]:
        """Return, for pairs and for fields, task -> expert group -> mean gate weight (see ``slot_gate_shares``)."""
        _, indicators, _, *slots = self._slots(self.inputs(batch))
        experts = self.pair_attention.shape.shared
        return [
            slot_gate_shares(cast(Sequence[SlotGates], gates), own, indicators, self.tasks, experts)
            for gates, own in zip((self.gates, self.field_gates or self.gates), slots, strict=True)
        ]

    @torch.no_grad()
    def importance(self, batch: ImpressionBatch) -> Importance:
        """Return the means over the batch of pair and field weights, per scenario and task.

        Call it in evaluation mode: in training mode the forward pass changes the running statistics.
        """
        attended = self.attend(self.inputs(batch))
        ones_STP = torch.ones(len(self.scenarios), len(self.tasks), len(self.pairs), device=self.pair_weight_P.device)
        scale_STP = ones_STP if self.out_weight_STP is None else self.out_weight_STP
        return importance(attended, list(scale_STP), self.fields, self.pairs, self.scenarios, self.tasks)
