"""TiMiRec: several interests per user, mixed by a predictor that is trained to predict the interest of the target.

Wang et al., "Target Interest Distillation for Multi-Interest Recommendation", CIKM 2022 (docs/methods/timirec.md).

Legend: B batch, L history width, N candidates, K interests, D embedding width, I items.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.errors import StemlabError
from stemlab.models.api import Phase, SequenceOutput
from stemlab.models.sequential.base import SequenceNet, counted_padding
from stemlab.nn.init import initialise
from stemlab.nn.interest import SelfAttentiveExtractor, best_scores, dot_scores, target_scores
from stemlab.nn.kernels.embedding_lookup import HistoryLookup, UniqueEmbeddings, look_up_history
from stemlab.nn.precision import at_least_float32
from stemlab.nn.recurrent import LastStateGRU
from stemlab.types import Dropout, PositiveFloat, PositiveInt

Stage = Literal["pretrain", "finetune"]
Similarity = Literal["cosine", "dot"]


class TiMiRec(SequenceNet):
    """Stage ``pretrain``: the interest extractor alone. Stage ``finetune``: a predictor mixes the interests.

    - Interests: ``v_1 .. v_K = extractor(history)``.
    - Pretrain (the released "ComiRec+"): training scores with the interest nearest to the target, evaluation with the
      best interest per candidate.
    - Finetune: ``q = predictor(history)``, ``u = sum_k softmax(q)_k v_k``, ``score(i) = <u, E[i]>`` in both phases.
    - Distillation: ``t_k = sim(v_k, E[target])``, loss ``T^2 KL(softmax(t / T) || softmax(q / T))``. The ranking loss
      trains all parameters, the distillation loss all but the extractor.

    Args:
        sizes: number of users and items, longest history.
        stage: ``pretrain`` or ``finetune``.
        embedding_dim: D.
        attention_dim: hidden width of the attention that forms the interests.
        num_interests: K.
        position_embedding: add position embeddings to the history.
        transformer: apply a transformer layer before the interests are formed (TiMiRec+); False is TiMiRec.
        temperature: T of the distillation; its loss is multiplied by T^2.
        projection_layers: linear layers from the predictor's state to the logits.
        projection_dropout: dropout between them.
        similarity: of interests and target, ``cosine`` or ``dot``.
        detach_target: stop the gradient of the distillation loss at the extractor.
        temperature_in_mixing: also divide the logits by T where they mix the interests.
        share_item_tables: the predictor reads the extractor's item table instead of its own.
        mask_padding: mask padding in the extractor.
    """

    # Settings that both stages must share.
    EXTRACTOR_SETTINGS: ClassVar[tuple[str, ...]] = (
        "embedding_dim",
        "attention_dim",
        "num_interests",
        "position_embedding",
        "transformer",
        "mask_padding",
    )

    def __init__(
        self,
        sizes: SequenceSizes,
        stage: Stage = "finetune",
        *,
        embedding_dim: PositiveInt = 64,
        attention_dim: PositiveInt = 8,
        num_interests: PositiveInt = 2,
        position_embedding: bool = True,
        transformer: bool = True,
        temperature: PositiveFloat = 1.0,
        projection_layers: PositiveInt = 1,
        projection_dropout: Dropout = 0.5,
        similarity: Similarity = "cosine",
        detach_target: bool = True,
        temperature_in_mixing: bool = False,
        share_item_tables: bool = False,
        mask_padding: bool = True,
    ) -> None:
        super().__init__(sizes)
        self.stage = stage
        self.temperature = temperature
        self.similarity = similarity
        self.detach_target = detach_target
        self.temperature_in_mixing = temperature_in_mixing
        self.items = nn.Embedding(sizes.items + 1, embedding_dim)
        self.uncapturable = counted_padding("model.net.mask_padding=false", not mask_padding)
        self.extractor = SelfAttentiveExtractor(
            sizes.history_max,
            embedding_dim,
            attention_dim,
            num_interests,
            position_embedding=position_embedding,
            transformer=transformer,
            pool_raw=False,
            mask_padding=mask_padding,
        )
        self.predictor: InterestPredictor | None = None
        if stage == "finetune":
            rows = None if share_item_tables else sizes.items + 2  # the released code has one unused row
            self.predictor = InterestPredictor(
                rows, embedding_dim, num_interests, projection_layers, projection_dropout
            )
        initialise(self, "rechorus")

    def forward(self, batch: SequenceBatch, phase: Phase = "eval") -> SequenceOutput:
        """Score the candidates of a batch."""
        items, (candidate_BND,) = look_up_history(self.items, batch.history_BL, batch.candidates_BN)
        interest_BKD = self.extractor(items, batch.history_BL, batch.length_B)
        if self.predictor is None:
            scores = best_scores if phase == "eval" else target_scores
            return SequenceOutput(scores(interest_BKD, candidate_BND), interests_BKD=interest_BKD)
        intent_BK = self.predictor(items, batch.history_BL, batch.length_B)
        score_BN = dot_scores(self.mix(interest_BKD, intent_BK), candidate_BND)
        target_BK = self.similarities(interest_BKD, candidate_BND[:, 0]) if phase == "train" else None
        return SequenceOutput(score_BN, intent_BK, target_BK, interest_BKD)

    def mix(self, interest_BKD: Tensor, intent_BK: Tensor) -> Tensor:
        """Return the user vectors u = sum_k softmax(q)_k v_k, (B, D)."""
        logit_BK = intent_BK / self.temperature if self.temperature_in_mixing else intent_BK
        return (logit_BK.softmax(dim=1).unsqueeze(2) * interest_BKD).sum(dim=1)

    def similarities(self, interest_BKD: Tensor, target_BD: Tensor) -> Tensor:
        """Return the similarities t (B, K) of the interests to the target item."""
        if self.detach_target:
            interest_BKD, target_BD = interest_BKD.detach(), target_BD.detach()
        if self.similarity == "cosine":
            interest_BKD, target_BD = functional.normalize(interest_BKD, dim=2), functional.normalize(target_BD, dim=1)
        return dot_scores(target_BD, interest_BKD)

    def losses(self, output: SequenceOutput) -> dict[str, Tensor]:
        """Return ``rank`` and, in stage finetune, ``distill``: T^2 KL(softmax(t/T) || softmax(q/T))."""
        parts = super().losses(output)
        if output.target_BK is not None and output.intent_BK is not None:
            T = self.temperature
            target_BK = (at_least_float32(output.target_BK) / T).log_softmax(dim=1)
            intent_BK = (at_least_float32(output.intent_BK) / T).log_softmax(dim=1)
            parts["distill"] = T**2 * (target_BK.exp() * (target_BK - intent_BK)).sum(dim=1).mean()
        return parts

    def represent(self, batch: SequenceBatch) -> Tensor:
        """Return the K interests in stage pretrain, the one mixture in stage finetune: (B, K or 1, D)."""
        return self._represent(look_up_history(self.items, batch.history_BL)[0], batch)

    def user_encoder(self) -> Callable[[SequenceBatch], Tensor]:
        """Return ``represent``; on the CPU, products of an item are computed once for all batches."""
        if type(self).represent is not TiMiRec.represent:  # a subclass has its own
            return self.represent
        look_up = HistoryLookup(self.items)
        return lambda batch: self._represent(look_up(batch.history_BL), batch)

    def _represent(self, items: Tensor | UniqueEmbeddings, batch: SequenceBatch) -> Tensor:
        interest_BKD: Tensor = self.extractor(items, batch.history_BL, batch.length_B)
        if self.predictor is None:
            return interest_BKD
        return self.mix(interest_BKD, self.predictor(items, batch.history_BL, batch.length_B)).unsqueeze(1)

    def for_export(self) -> TiMiRec:
        """Return a network whose GRU pads histories to ``history_max``, if padding counts in the extractor.

        The exported histories then keep the width of the batch, on which the extractor's result depends.
        """
        if self.extractor.mask_padding or self.predictor is None:
            return self
        made = copy.deepcopy(self)
        assert made.predictor is not None
        made.predictor.padded_width = self.sizes.history_max
        return made

    def embedding_tables(self) -> dict[str, dict[str, Tensor]]:
        """Return field -> role -> (rows, D) view; the predictor's own item table has the role ``predictor``."""
        tables: dict[str, dict[str, Tensor]] = {"item_id": {"shared": self.items.weight}}
        if self.predictor is not None and self.predictor.items is not None:
            tables["item_id"]["predictor"] = self.predictor.items.weight[: len(self.items.weight)]
        if self.extractor.positions is not None:
            tables["position"] = {"shared": self.extractor.positions.weight}
        return tables

    @torch.no_grad()
    def import_extractor(self, state: Mapping[str, Tensor]) -> None:
        """Copy the item table and the extractor from the state of another ``TiMiRec``; nothing else changes.

        Raises:
            StemlabError: a tensor is missing, unexpected or of another shape; names the first one. Nothing is copied.
        """
        ours, theirs = _extractor_part(self.state_dict()), _extractor_part(state)
        for name in [*ours, *(set(theirs) - set(ours))]:
            shapes = [str(tuple(s[name].shape)) if name in s else "absent" for s in (theirs, ours)]
            if shapes[0] != shapes[1]:
                raise StemlabError(
                    f"the extractor to start from does not fit: {name} is {shapes[0]} there and {shapes[1]} here; "
                    f"choose the same model.net settings ({', '.join(self.EXTRACTOR_SETTINGS)}), dataset and "
                    "history_max in both stages."
                )
        for name, tensor in ours.items():
            tensor.copy_(theirs[name])


def _extractor_part(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name.startswith(("items.", "extractor."))}


class InterestPredictor(nn.Module):
    """GRU over the history and projection to K logits (docs/methods/timirec.md#interest-predictor).

    Args:
        rows: rows of the predictor's item table; ``None``: it reads the embeddings that it is given.
        width: D, of the items and of the GRU's state.
        interests: K.
        layers: linear layers of the projection; each but the last is followed by dropout, then ReLU (released code).
        dropout: between the layers.

    Attributes:
        padded_width: width to which histories are padded, or None.
    """

    padded_width: int | None = None

    def __init__(self, rows: int | None, width: int, interests: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.items = None if rows is None else nn.Embedding(rows, width)
        self.gru = LastStateGRU(width, width)
        hidden = [m for _ in range(layers - 1) for m in (nn.Linear(width, width), nn.Dropout(dropout), nn.ReLU())]
        self.projection = nn.Sequential(*hidden, nn.Linear(width, interests))

    def forward(self, items: Tensor | UniqueEmbeddings, history_BL: Tensor, length_B: Tensor) -> Tensor:
        """Return the logits q (B, K).

        Args:
            items: the extractor's item embeddings of the history, read if there is no own item table.
            history_BL: item ids of the history, 0 = padding.
            length_B: numbers of items.
        """
        if self.padded_width is not None and isinstance(items, Tensor):
            further = self.padded_width - history_BL.shape[1]
            history_BL = functional.pad(history_BL, (0, further))
            if self.items is None:
                items = functional.pad(items, (0, 0, 0, further))
        logit_BK: Tensor = self.projection(self.state(items, history_BL, length_B))
        return logit_BK

    def state(self, items: Tensor | UniqueEmbeddings, history_BL: Tensor, length_B: Tensor) -> Tensor:
        """Return the last state of the GRU, (B, D)."""
        if isinstance(items, UniqueEmbeddings):
            return self.gru.forward_unique(items if self.items is None else items.of(self.items), length_B)
        state_BD: Tensor = self.gru(items if self.items is None else self.items(history_BL), length_B)
        return state_BD
