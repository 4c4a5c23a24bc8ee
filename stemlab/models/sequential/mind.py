"""MIND: interests are capsules, computed by dynamic routing.

Li et al., "Multi-Interest Network with Dynamic Routing for Recommendation at Tmall", CIKM 2019, in the form of the code
released with TiMiRec (docs/methods/sequential.md#mind). Difference: the released code draws the initial routing logits
in every forward pass, so its evaluation is random; here each user has fixed logits in evaluation.

Legend: B samples, L history width, H longest history, N candidates, K interests, D embedding width, P logit sets.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.api import Phase
from stemlab.models.sequential.multi_interest import MultiInterestNet
from stemlab.nn.global_batch import BatchShare
from stemlab.nn.init import initialise
from stemlab.nn.interest import CapsuleRouting, dot_scores, target_scores
from stemlab.types import PositiveInt

LOGIT_SETS = 509


class MIND(MultiInterestNet):
    """Interests are capsules v_k of the history; routing starts from logits b_kj drawn from N(0, 1).

    Training uses the capsule nearest to the target, or with ``power`` the mixture sum_k a_k v_k.

    Args:
        sizes: number of users and items, longest history.
        embedding_dim: D.
        num_interests: K.
        iterations: routing iterations.
        power: p of the label-aware attention a = softmax_k(<v_k, E[target]>^p); ``None`` is its limit, the nearest
            capsule only.
        relu_layer: apply a linear layer with ReLU to each capsule.
    """

    batch_share: BatchShare | None = None
    evaluation_logits_PKH: Tensor

    def __init__(
        self,
        sizes: SequenceSizes,
        *,
        embedding_dim: PositiveInt = 64,
        num_interests: PositiveInt = 2,
        iterations: PositiveInt = 3,
        power: PositiveInt | None = None,
        relu_layer: bool = False,
    ) -> None:
        super().__init__(sizes, embedding_dim)
        self.power = power
        self.num_interests = num_interests
        self.routing = CapsuleRouting(embedding_dim, iterations, relu_layer)
        logits = torch.randn(LOGIT_SETS, num_interests, sizes.history_max, generator=torch.Generator().manual_seed(0))
        self.register_buffer("evaluation_logits_PKH", logits, persistent=False)
        initialise(self, "rechorus")

    def interests(self, history_BLD: Tensor, batch: SequenceBatch, phase: Phase) -> Tensor:
        """Return the capsules (B, K, D)."""
        capsule_BKD: Tensor = self.routing(history_BLD, batch.history_BL, self.routing_logits(batch, phase))
        return capsule_BKD

    def training_scores(self, interest_BKD: Tensor, candidate_BND: Tensor) -> Tensor:
        """Return the scores (B, N) of training; the target is candidate 0."""
        if self.power is None:
            return target_scores(interest_BKD, candidate_BND)
        return dot_scores(self.attend(interest_BKD, candidate_BND[:, 0], self.power), candidate_BND)

    def routing_logits(self, batch: SequenceBatch, phase: Phase) -> Tensor:
        """Return the initial logits (B, K, L): drawn in training, fixed per user in evaluation."""
        width = batch.history_BL.shape[1]
        if phase == "train":
            share = self.batch_share or BatchShare(0, 1)
            samples, device = len(batch), batch.history_BL.device
            # all processes draw the logits of the global batch and use their own rows
            return torch.randn(share.processes * samples, self.num_interests, width, device=device)[share.rows(samples)]
        set_B = batch.user_B % LOGIT_SETS
        if torch.compiler.is_exporting():  # a slice would exclude the longest width from the dynamic ones
            return self.evaluation_logits_PKH.index_select(2, torch.arange(width))[set_B]
        return self.evaluation_logits_PKH[set_B, :, :width]

    @staticmethod
    def attend(capsule_BKD: Tensor, target_BD: Tensor, power: int) -> Tensor:
        """Return sum_k softmax_k(<v_k, target>^power) v_k, the user vectors (B, D) of training."""
        weight_BK = dot_scores(target_BD, capsule_BKD).pow(power).softmax(dim=1)
        return torch.bmm(weight_BK.unsqueeze(1), capsule_BKD).squeeze(1)
