"""Synthetic sequences, small networks, and recommendations as the command ``predict`` computes them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.inference.recommend import SEQUENTIAL_DEFAULTS, Recommender
from stemlab.models.sequential.base import SequenceNet
from stemlab.models.sequential.bprmf import BPRMF
from stemlab.models.sequential.comirec import ComiRec
from stemlab.models.sequential.lightgcn import LightGCN
from stemlab.models.sequential.mind import MIND
from stemlab.models.sequential.pop import POP
from stemlab.models.sequential.sasrec import SASRec
from stemlab.models.sequential.timirec import TiMiRec
from stemlab.models.sequential.tin import TIN
from stemlab.models.sequential.tisasrec import TiSASRec
from tests.data.sequence.toys import Toy, leave_two_out, raw_of

USERS, ITEMS, HISTORY = 23, 40, 6
SIZES = SequenceSizes(USERS, ITEMS, HISTORY)
ROWS = sorted(leave_two_out(USERS - 1, ITEMS, seed=5), key=lambda row: (row[0], row[2]))  # user 23 has no interactions
NETS = {
    **{"bprmf": BPRMF, "comirec": ComiRec, "lightgcn": LightGCN, "mind": MIND, "pop": POP, "sasrec": SASRec},
    **{"timirec": TiMiRec, "tin": TIN, "tisasrec": TiSASRec},
}
OWN = {"pop": {}, "tin": {"embedding_dim": 8, "category_dim": 0, "hidden_units": [8]}}
TRAINER = {"name": "cpu", "accelerator": "cpu", "devices": 1, "threads": None, "precision": "32-true"}


def build(name: str) -> SequenceNet:
    torch.manual_seed(0)
    net = NETS[name](SIZES, **OWN.get(name, {"embedding_dim": 8}))
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5)  # initial vectors are so short that scores hardly differ
    user, item = np.array([row[:2] for row in ROWS if row[3] == 0]).T
    net.observe(torch.from_numpy(user), torch.from_numpy(item))
    return net.eval()


class RecommendCase:
    """Recommendations of one network, written to its own folder."""

    def __init__(self, folder: Path, name: str = "comirec", eval_batch_size: int = 9) -> None:
        self.folder, self.name, self.net = folder, name, build(name)
        (folder / "out").mkdir()
        self.toy = Toy(
            raw_of(ROWS, USERS, ITEMS), folder / "data", history_max=HISTORY, eval_batch_size=eval_batch_size
        )

    def recommend(self, precision: str = "32-true", **chosen: Any) -> str:
        """Write ``out/top.parquet`` and return the summary; files of ``chosen`` are relative to the same folders."""
        files = ("vectors", "interests", "item_vectors", "index_path", "output")
        chosen = {"output": "top.parquet", **chosen}
        paths = {key: str(self.folder / "out" / chosen[key]) for key in files if chosen.get(key)}
        if chosen.get("input"):
            paths["input"] = str(self.folder / chosen["input"])
        run = SimpleNamespace(
            config={"trainer": {**TRAINER, "precision": precision}, "model": {"name": self.name}},
            datamodule=self.toy,
            saved=SimpleNamespace(path=Path("best.ckpt"), spec=SimpleNamespace(sample=True)),
            prepare=self.toy.prepare,
            module=lambda: SimpleNamespace(net=self.net),
        )
        job = Recommender({**SEQUENTIAL_DEFAULTS, "input": None, "escape_csv": False, **chosen, **paths}, run)
        job.run()
        return job.summary()

    def lists(self, name: str = "top.parquet") -> dict[str, list[str]]:
        """Return user -> items; check the columns, ranks and the order of the scores."""
        table = pd.read_parquet(self.folder / "out" / name)
        assert list(table) == ["user", "item", "rank", "score"]
        for _, rows in table.groupby("user"):
            assert rows["rank"].tolist() == list(range(1, len(rows) + 1))
            assert rows["score"].is_monotonic_decreasing
        return {user: rows["item"].tolist() for user, rows in table.groupby("user", sort=False)}

    def output_files(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "out").iterdir())

    def write(self, name: str, rows: list[tuple], *columns: str) -> str:
        table = pd.DataFrame(rows, columns=list(columns))
        if name.endswith(".parquet"):
            table.to_parquet(self.folder / name)
        else:
            table.to_csv(self.folder / name, index=False)
        return name


def known_rows() -> list[tuple[str, str, int]]:
    """Return all interactions of the dataset as rows of a users file."""
    return [(f"u{user}", f"i{item}", time) for user, item, time, _ in ROWS]


def reference_lists(net: SequenceNet, count: int, exclude: bool = True) -> dict[str, list[str]]:
    """Return the reference lists: per user, the network scores of all items after the last H interactions."""
    found = {}
    for user in range(1, USERS):
        mine = [row for row in ROWS if row[0] == user]
        last = mine[-HISTORY:]
        gaps = np.diff([row[2] for row in mine])
        batch = SequenceBatch(
            user_B=torch.tensor([user]),
            history_BL=torch.tensor([[row[1] for row in last]]),
            length_B=torch.tensor([len(last)]),
            candidates_BN=torch.arange(1, ITEMS + 1)[None],
            time_BL=torch.tensor([[row[2] for row in last]]),
            unit_B=torch.tensor([gaps[gaps > 0].min(initial=0xFFFF)]),
        )
        with torch.no_grad():
            score_I = net(batch, "eval").score_BN[0].double()
        seen = {row[1] for row in mine} if exclude else set()
        left = [item for item in range(1, ITEMS + 1) if item not in seen]
        best = sorted(left, key=lambda item: (-float(score_I[item - 1]), item))
        found[f"u{user}"] = [f"i{item}" for item in best[:count]]
    return found
