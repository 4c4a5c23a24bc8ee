"""Classes of a user, complete and incomplete ones."""

from pytorch_lightning import Callback
from torch import nn

from stemlab.analysis.base import Analysis
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.sources.table import TableDataModule
from stemlab.models.multitask.base import TabularNet, build_towers, run_towers
from stemlab.models.sequential.base import SequenceNet
from stemlab.nn.mlp import MLPStyle


class Towers(TabularNet):
    """One tower per task."""

    def __init__(self, fields, tasks, *, width: int = 4, units: list[int] = [8]):  # noqa: B006
        super().__init__(fields, tasks, ["shared"], width, True)
        self.towers = build_towers(len(tasks), self.embedding.output_width, units, MLPStyle("relu", 0.0, False))

    def score(self, inputs):
        return run_towers(self.towers, [inputs[0]] * len(self.tasks)), ()


class Bare(nn.Module):
    def __init__(self, width=3):
        super().__init__()


class WithoutScore(TabularNet):
    def __init__(self, fields, tasks, *, width: int, depth):
        super().__init__(fields, tasks, ["shared"], 4, True)


class WithoutRepresent(SequenceNet):
    def forward(self, batch, phase="eval"):
        raise NotImplementedError


class NoNetwork:
    pass


class WithoutBuild(ImpressionDataModule):
    pass


class Rows(TableDataModule):
    pass


class WithoutFind(Analysis):
    pass


class Counter(Callback):
    """Counts the epochs."""

    def __init__(self, *, start: int = 0):
        self.count = start

    def on_train_epoch_end(self, trainer, module):
        self.count += 1
