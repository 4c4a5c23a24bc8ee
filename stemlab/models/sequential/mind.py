"""MIND: interests as capsules, found by dynamic routing.

Li et al., "Multi-Interest Network with Dynamic Routing for Recommendation at Tmall", CIKM 2019, as released with
TiMiRec (spec/timirec.md section 9). Where it differs: the released code draws routing logits at every forward, so that
its evaluations are noisy; here the logits of evaluation belong to the user and never change.

Legend: B rows, L history width, H longest history, N candidates, K interests, D embedding width, I items, P logit sets.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.api import Phase, SequenceOutput
from stemlab.models.sequential.base import SequenceNet, initialise
from stemlab.nn.interest import CapsuleRouting, best_scores, dot_scores, target_scores
from stemlab.nn.kernels.embedding_lookup import look_up
from stemlab.types import PositiveInt

LOGIT_SETS = 509


class MIND(SequenceNet):
    """Capsules of the history, chosen or mixed by the target in training, the best one in evaluation.

    Args:
        sizes: users, items, longest history.
        embedding_dim: D.
        num_interests: K.
        iterations: routing iterations.
        power: p of the label-aware attention ``softmax((capsule . target)^p)``; ``None`` is the limit: the nearest
            capsule alone.
        relu_layer: a linear layer with ReLU on every capsule.
    """

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
        super().__init__(sizes)
        self.power = power
        self.num_interests = num_interests
        self.items = nn.Embedding(sizes.items + 1, embedding_dim)
        self.routing = CapsuleRouting(embedding_dim, iterations, relu_layer)
        logits = torch.randn(LOGIT_SETS, num_interests, sizes.history_max, generator=torch.Generator().manual_seed(0))
        self.register_buffer("evaluation_logits_PKH", logits, persistent=False)
        initialise(self)

    def forward(self, batch: SequenceBatch, phase: Phase = "eval") -> SequenceOutput:
        """Score the candidates of a batch."""
        history_BLD, candidate_BND = look_up(self.items.weight, batch.history_BL, batch.candidates_BN)
        capsule_BKD = self.routing(history_BLD, batch.history_BL, self.routing_logits(batch, phase))
        if phase == "eval":
            score_BN = best_scores(capsule_BKD, candidate_BND)
        elif self.power is None:
            score_BN = target_scores(capsule_BKD, candidate_BND)
        else:
            score_BN = dot_scores(self.attend(capsule_BKD, candidate_BND[:, 0], self.power), candidate_BND)
        return SequenceOutput(score_BN, interests_BKD=capsule_BKD)

    def routing_logits(self, batch: SequenceBatch, phase: Phase) -> Tensor:
        """Return the starting logits (B, K, L): fresh in training, the user's own in evaluation."""
        width = batch.history_BL.shape[1]
        if phase == "train":
            return torch.randn(len(batch), self.num_interests, width, device=batch.history_BL.device)
        return self.evaluation_logits_PKH[batch.user_B % LOGIT_SETS, :, :width]

    @staticmethod
    def attend(capsule_BKD: Tensor, target_BD: Tensor, power: int) -> Tensor:
        """Return the user vectors (B, D) of training: capsules weighted by the target."""
        weight_BK = dot_scores(target_BD, capsule_BKD).pow(power).softmax(dim=1)
        return torch.bmm(weight_BK.unsqueeze(1), capsule_BKD).squeeze(1)

    def represent(self, batch: SequenceBatch) -> Tensor:
        """Return the capsules (B, K, D) of evaluation."""
        logit_BKL = self.routing_logits(batch, "eval")
        capsule_BKD: Tensor = self.routing(self.items(batch.history_BL), batch.history_BL, logit_BKL)
        return capsule_BKD

    def item_vectors(self) -> Tensor:
        """Return the item table (I+1, D)."""
        return self.items.weight

    def embedding_tables(self) -> dict[str, dict[str, Tensor]]:
        """Field -> role -> (rows, D) view."""
        return {"item_id": {"shared": self.items.weight}}
