"""LightningModule of sequential models: network, losses, ranking metrics, optimiser.

Legend: B samples, K vectors per user, N candidates, T items of a tile, I items, D embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from stemlab.array_types import AnyArray, Int64Array
from stemlab.data.batch import SequenceBatch
from stemlab.data.sequence.protocol import RankingProtocol
from stemlab.data.spec import SequenceSpec
from stemlab.errors import StemlabError, nearest
from stemlab.lightning.module import METRIC_SPLITS, NetModule
from stemlab.lightning.settings import SequentialSettings
from stemlab.metrics import BeyondAccuracyMetrics, RankingMetrics
from stemlab.metrics.catalogue import Catalogue, SeenItems, SeenTable
from stemlab.metrics.direct import ScoreFunction, scored_ranks
from stemlab.metrics.own import ranking_names
from stemlab.metrics.ranking import metric_names, positive_ranks
from stemlab.metrics.topk import top_items, top_scored
from stemlab.models.sequential.base import SequenceNet
from stemlab.nn.row_embedding import use_row_gradients
from stemlab.nn.sharded.id_tables import gather_tables, release_tables
from stemlab.optim import build_ranking_optimizer

_SeenLookup = Callable[[AnyArray], tuple[AnyArray, AnyArray]]
_UserEncoder = Callable[[SequenceBatch], Tensor]


class SequentialModule(NetModule):
    """Train and evaluate a sequential network (docs/methods/timirec.md#training-protocol).

    Evaluation uses the network's user and item vectors in float32. With ``protocol.candidates=stored`` the positive is
    ranked among the candidates of the batch, with ``full`` among all items that the user has not seen. During training,
    validation reports the first cut-off and the monitor only, as the released code does; afterwards all cut-offs.

    Args:
        net: the network.
        spec: users, items and name of the dataset.
        protocol: candidates, cut-offs, tie rule.
        settings: optimiser, monitor, seed.
        hyper_parameters: plain values saved in every checkpoint: ``config``, ``spec``, ``fingerprint``.

    Raises:
        StemlabError: the monitor is not a metric of this protocol.
    """

    def __init__(
        self,
        net: SequenceNet,
        spec: SequenceSpec,
        protocol: RankingProtocol,
        settings: SequentialSettings,
        hyper_parameters: dict[str, Any] | None = None,
    ) -> None:
        metrics = {split: RankingMetrics(protocol.topk, settings.own_metrics) for split in METRIC_SPLITS}
        super().__init__(net, settings, metrics, hyper_parameters)
        if settings.optim.tables != "dense_adam":
            use_row_gradients(net)
        self.spec, self.protocol, self.settings = spec, protocol, settings
        self._split_metrics = metrics
        self._lists: dict[str, BeyondAccuracyMetrics] = {}
        # item vectors of the running evaluation, and the function that returns user vectors
        self._evaluation: tuple[Catalogue, _UserEncoder] | None = None
        self._seen_by_all: SeenTable | None = None
        first, own = protocol.topk[0], settings.own_metrics
        self.headlines = (f"hr@{first}", f"ndcg@{first}")
        self._reported_in_training = {
            *self.headlines,
            "mrr",
            check_monitor(settings.monitor, protocol, ranking_names(own, protocol.topk)).removeprefix("val/"),
            *ranking_names(own, [first]),
        }

    def measure_beyond_accuracy(self, interactions_I: Int64Array, category_I: Int64Array | None) -> None:
        """Also measure the lists of recommended items in evaluations outside of a training.

        Args:
            interactions_I: (I+1,) training interactions of every item.
            category_I: (I+1,) category of every item, 0 for none; ``None``: the dataset has no categories.
        """
        topk = self.protocol.topk
        self._lists = {split: BeyondAccuracyMetrics(topk, interactions_I, category_I) for split in METRIC_SPLITS}

    @torch.no_grad()
    def forward(self, batch: SequenceBatch) -> Tensor:
        """Return the evaluation scores of the candidates, (B, N) float32 for every precision of the network."""
        if not self._sequence_net.factorises:
            return self._sequence_net.scores(batch, batch.candidates_BN).float()
        # represent() is not compiled: a compiled network rounds differently, so metrics would not be reproducible
        user_BKD, catalogue = self._sequence_net.represent(batch).detach().float(), self._new_catalogue()
        with torch.autocast(self.device.type, enabled=False):
            return catalogue.scores(user_BKD, batch.candidates_BN)

    @property
    def _sequence_net(self) -> SequenceNet:
        assert isinstance(self.net, SequenceNet)
        return self.net

    # ------------------------------------------------------------------------------------------------- training

    def losses(self, batch: SequenceBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch, a scalar, and its parts by name."""
        parts = dict(self._sequence_net.losses(self.run_net(batch, "train")))
        return reduce(torch.add, parts.values()), parts

    def configure_optimizers(self) -> Optimizer:
        """Build the optimiser, with coupled L2 on all parameters except biases."""
        return build_ranking_optimizer(self.net, self.settings.optim)

    # ----------------------------------------------------------------------------------------------- evaluation

    def on_validation_epoch_start(self) -> None:
        """Drop what was computed with earlier weights; gather tables that are divided among the processes."""
        self._evaluation = None
        gather_tables(self.net)

    def on_test_epoch_start(self) -> None:
        """Drop what was computed with earlier weights; gather tables that are divided among the processes."""
        self.on_validation_epoch_start()

    def validation_step(self, batch: SequenceBatch, batch_idx: int) -> None:
        """Add the ranks of a validation batch to the metrics."""
        self._measure("val", batch)

    def test_step(self, batch: SequenceBatch, batch_idx: int) -> None:
        """Add the ranks of a test batch to the metrics."""
        self._measure(self.test_split_name, batch)

    @torch.no_grad()
    def _measure(self, split: str, batch: SequenceBatch) -> None:
        if not self._sequence_net.factorises:
            self._split_metrics[split].update(self._scored_ranks(batch))
            if self._measures_lists(split):
                seen = self._seen(batch).without(batch.candidates_BN[:, 0])
                items, most = self.spec.items, self._lists[split].most
                self._lists[split].update(top_scored(self._score_function(batch), items, seen, most)[0])
            return
        if self._evaluation is None:
            self._evaluation = self._new_catalogue(), self._sequence_net.user_encoder()
        catalogue, encode = self._evaluation
        user_BKD = encode(batch).float()
        with torch.autocast(self.device.type, enabled=False):
            rank_B = self._ranks(user_BKD, batch, catalogue)
            if self._measures_lists(split):
                seen = self._seen(batch).without(batch.candidates_BN[:, 0])
                item_BN, _ = top_items(catalogue, user_BKD, seen, self._lists[split].most)
                self._lists[split].update(item_BN, catalogue.item_ID)
        self._split_metrics[split].update(rank_B)

    def _measures_lists(self, split: str) -> bool:
        return split in self._lists and self.trainer.state.fn != "fit"

    def _report(self, split: str) -> None:
        super()._report(split)
        if self._measures_lists(split):
            self._report_metrics(split, self._lists[split])

    def _new_catalogue(self) -> Catalogue:
        return Catalogue(self._sequence_net.item_vectors().detach().float())

    def _ranks(self, user_BKD: Tensor, batch: SequenceBatch, catalogue: Catalogue) -> Tensor:
        if self.protocol.candidates == "stored":
            return catalogue.candidate_ranks(user_BKD, batch.candidates_BN, self.protocol.ties)
        return catalogue.ranks(user_BKD, batch.candidates_BN[:, 0], self._seen(batch), self.protocol.ties)

    def _scored_ranks(self, batch: SequenceBatch) -> Tensor:
        """Return the ranks for a network without user and item vectors, which scores each pair directly."""
        score = self._score_function(batch)
        if self.protocol.candidates == "stored":
            return positive_ranks(score(batch.candidates_BN), self.protocol.ties)
        seen, positive_B = self._seen(batch), batch.candidates_BN[:, 0]
        return scored_ranks(score, self.spec.items, positive_B, seen, self.protocol.ties)

    def _score_function(self, batch: SequenceBatch) -> ScoreFunction:
        net = self._sequence_net

        def score(item_BT: Tensor) -> Tensor:
            return net.scores(batch, item_BT).float()

        return score

    def _seen(self, batch: SequenceBatch) -> SeenItems:
        if self.device.type == "cuda":
            return self._seen_table().of_users(batch.user_B)
        seen_items: _SeenLookup = self.trainer.datamodule.seen_items  # type: ignore[attr-defined]
        parts = (torch.from_numpy(part).long().to(self.device) for part in seen_items(batch.user_B.cpu().numpy()))
        return SeenItems(*parts)

    def _seen_table(self) -> SeenTable:
        """Return the seen items of all users on the device; they are copied to it once."""
        if self._seen_by_all is None:
            self._seen_by_all = SeenTable(*self.trainer.datamodule.seen_columns(self.device))  # type: ignore[attr-defined]
        return self._seen_by_all

    def on_validation_epoch_end(self) -> None:
        """Report the validation metrics."""
        super().on_validation_epoch_end()
        self._end_evaluation()

    def on_test_epoch_end(self) -> None:
        """Report the test metrics."""
        super().on_test_epoch_end()
        self._end_evaluation()

    def _end_evaluation(self) -> None:
        self._evaluation = None
        release_tables(self.net)

    def _is_reported(self, name: str) -> bool:
        return self.trainer.state.fn != "fit" or name in self._reported_in_training


def check_monitor(monitor: str, protocol: RankingProtocol, own: Iterable[str] = ()) -> str:
    """Return the monitor if validation measures it.

    Raises:
        StemlabError: validation does not measure it; the message gives the nearest name.
    """
    known = [f"val/{name}" for name in (*metric_names(protocol.topk), *own)]
    if monitor not in known:
        raise StemlabError(
            f"no metric is called {monitor!r} (known: {', '.join(known)}): set callbacks.checkpoint.monitor to one of "
            f"these, or add its cut-off to dataset.evaluation.topk.{nearest(monitor, known)}"
        )
    return monitor
