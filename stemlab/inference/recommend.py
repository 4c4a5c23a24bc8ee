"""Recommend items with a sequential model; write vectors and an index for retrieval.

Legend: B users of a batch, K vectors per user, D embedding width, I items, T items of a tile, N items per list, S seen
items of all users, O offsets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from stemlab.array_types import AnyArray, Float32Array, Int64Array
from stemlab.data.batch import SequenceBatch
from stemlab.data.sequence.datamodule import SequenceDataModule
from stemlab.errors import StemlabError
from stemlab.inference.device import inference_device, progress_bar
from stemlab.inference.index import ItemIndex, require_faiss
from stemlab.inference.table_io import table_writer
from stemlab.inference.users import DatasetUsers, TargetUsers
from stemlab.inference.users_file import UsersFile, describe_skipped, with_count
from stemlab.inference.vector_io import VectorWriter, check_vector_path, vector_writer
from stemlab.metrics.catalogue import Catalogue, SeenItems
from stemlab.metrics.direct import ScoreFunction
from stemlab.metrics.topk import no_seen_items, top_items, top_scored
from stemlab.models.sequential.base import SequenceNet
from stemlab.runs.restore import RebuiltRun

SEQUENTIAL_DEFAULTS = {
    **{"topk": 50, "exclude_seen": True, "on_unknown": "error", "index": "none", "index_path": None},
    **{"vectors": None, "interests": None, "item_vectors": None},
}
"""Options that only sequential models read, with the defaults of ``conf/predict.yaml``."""

VECTOR_FILES = ("vectors", "interests", "item_vectors")

Write = Callable[[slice, SequenceBatch, Tensor], None]


def refuse_options(config: Mapping[str, Any]) -> None:
    """Raise StemlabError if an option of sequential models is set for a multi-task model."""
    for key, value in SEQUENTIAL_DEFAULTS.items():
        if config[key] != value:
            raise StemlabError(
                f"{key}={config[key]} applies to sequential models only, and {config['ckpt']} is a multi-task model: "
                f"omit {key}."
            )


class Recommender:
    """Recommend items to users of the dataset, or to users whose histories are in a file.

    Args:
        config: config of the command ``predict``.
        run: the run of its checkpoint.

    Attributes:
        users: users processed so far.
        items: items written so far.
        short: users with fewer than ``topk`` items left.
        skipped: what was skipped -> how many (``unknown users`` -> 2).

    Raises:
        StemlabError: the files or options of the command contradict each other, or the device is not available.
    """

    def __init__(self, config: Mapping[str, Any], run: RebuiltRun) -> None:
        _check_files(config)
        self._config, self._run, self._device = config, run, inference_device(run.config["trainer"])
        self._autocast = run.config["trainer"]["precision"] == "bf16-mixed"
        assert isinstance(run.datamodule, SequenceDataModule)
        self._data: SequenceDataModule = run.datamodule
        self.users = self.items = self.short = 0
        self.skipped: dict[str, int] = {}

    @torch.no_grad()
    def run(self) -> None:
        """Write all configured files; they appear only when all of them are complete."""
        self._run.prepare()
        self._net = self._network()
        self._encode = self._net.user_encoder()
        users = self._read_users()
        self.skipped = users.skipped
        catalogue = self._catalogue() if self._net.factorises else None
        with progress_bar("users") as bar, ExitStack() as files:
            task = bar.add_task("recommending", total=len(users), done=0)
            if catalogue is not None:
                self._write_items(files, catalogue.item_ID)
            writers = [*self._vector_writers(files, users), self._list_writer(files, users, catalogue)]
            step = self._data.eval_batch_size
            for start in range(0, len(users), step):
                rows = slice(start, min(start + step, len(users)))
                self._write_batch(rows, users, writers)
                bar.update(task, completed=rows.stop, done=rows.stop)

    def _network(self) -> SequenceNet:
        net = self._run.module().net
        assert isinstance(net, SequenceNet)
        if not net.factorises:
            self._refuse_vectors()
        return net.to(self._device).eval()

    def _refuse_vectors(self) -> None:
        """Raise StemlabError if vectors are to be written for a network that scores user-item pairs directly."""
        name = self._run.config["model"]["name"]
        for key in (*VECTOR_FILES, "index"):
            if self._config[key] != SEQUENTIAL_DEFAULTS[key]:
                raise StemlabError(
                    f"model {name} scores every user-item pair directly and has no vectors to write: "
                    f"set {key}={'none' if key == 'index' else 'null'} (lists of items do not need vectors)."
                )

    def _catalogue(self) -> Catalogue:
        with self._precision():
            item_ID = self._net.item_vectors().float()
        self._check_finite(item_ID)
        return Catalogue(item_ID)

    def _read_users(self) -> TargetUsers:
        path = self._config["input"]
        if path is None:
            return DatasetUsers(self._data)
        has_user_embedding = "user_id" in self._net.embedding_tables()
        return UsersFile(Path(path), self._data, self._config["on_unknown"], has_user_embedding).read()

    def _precision(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast)

    def _check_finite(self, values: Tensor, what: str = "vectors") -> None:
        if not values.isfinite().all():
            raise StemlabError(f"{self._run.saved.path} gives {what} that are not finite: use another checkpoint.")

    # ---------------------------------------------------------------------------------------------------- users

    def _write_batch(self, rows: slice, users: TargetUsers, writers: list[Write]) -> None:
        batch = users.batch(rows).to(self._device)
        user_BKD = torch.empty(len(batch), 0, 0)
        if self._net.factorises:
            with self._precision():
                user_BKD = self._encode(batch).float()
            self._check_finite(user_BKD)
        for write in writers:
            write(rows, batch, user_BKD)
        self.users += len(batch)

    def _list_writer(self, files: ExitStack, users: TargetUsers, catalogue: Catalogue | None) -> Write:
        """Return a function that computes and writes the item lists of a batch of users."""
        write_table = files.enter_context(table_writer(Path(self._config["output"]), escape=self._config["escape_csv"]))
        tokens = np.array(["", *self._data.item_tokens], dtype=object)

        def write(rows: slice, batch: SequenceBatch, user_BKD: Tensor) -> None:
            seen = self._seen(users, rows, len(batch))
            if catalogue is not None:
                item_BN, score_BN = top_items(catalogue, user_BKD, seen, self._config["topk"])
            else:
                item_BN, score_BN = top_scored(self._scores(batch), len(tokens) - 1, seen, self._config["topk"])
            write_table(self._table(users.names(rows), tokens, item_BN.cpu().numpy(), score_BN.cpu().numpy()))

        return write

    def _scores(self, batch: SequenceBatch) -> ScoreFunction:
        def score(item_BT: Tensor) -> Tensor:
            with self._precision():
                score_BT = self._net.scores(batch, item_BT).float()
            self._check_finite(score_BT, "scores")
            return score_BT

        return score

    def _seen(self, users: TargetUsers, rows: slice, count: int) -> SeenItems:
        if not self._config["exclude_seen"]:
            return no_seen_items(count, self._device)
        item_S, offset_O = (torch.from_numpy(part).long().to(self._device) for part in users.seen(rows))
        return SeenItems(item_S, offset_O)

    def _table(self, names: list[str], tokens: AnyArray, item_BN: Int64Array, score_BN: Float32Array) -> Any:
        """Return an Arrow table with one row per item: user, item, rank from 1, score."""
        found_BN = item_BN > 0
        row_X, column_X = found_BN.nonzero()
        self.items += len(row_X)
        self.short += int((~found_BN.all(1)).sum())
        return pa.table(
            {
                "user": pa.array(np.array(names, dtype=object)[row_X], pa.string()),
                "item": pa.array(tokens[item_BN[found_BN]], pa.string()),
                "rank": pa.array(column_X.astype(np.int32) + 1),
                "score": pa.array(score_BN[found_BN]),
            }
        )

    def _vector_writers(self, files: ExitStack, users: TargetUsers) -> list[Write]:
        """Return functions that write user vectors and interests of a batch, if configured."""
        writers: list[Write] = []
        for key, vectors in (("vectors", _user_vectors), ("interests", self._interests)):
            if self._config[key] is not None:
                file = files.enter_context(vector_writer(Path(self._config[key]), "user", len(users)))
                writers.append(_make_vector_writer(file, users, vectors))
        return writers

    def _interests(self, batch: SequenceBatch, user_BKD: Tensor) -> Tensor:
        """Return the interest vectors, (B, K, D), which may differ from the user vectors that score items."""
        with self._precision():
            interests_BKD: Tensor | None = self._net(batch, "eval").interests_BKD
        if interests_BKD is None:
            name = self._run.config["model"]["name"]
            raise StemlabError(
                f"model {name} has no interests to write: set interests=null (vectors= writes the user vectors)."
            )
        return interests_BKD.float()

    # ---------------------------------------------------------------------------------------------------- items

    def _write_items(self, files: ExitStack, item_ID: Tensor) -> None:
        """Write the item vectors and the index, if configured."""
        vectors, tokens = item_ID.cpu().numpy(), self._data.item_tokens
        if self._config["item_vectors"] is not None:
            path = Path(self._config["item_vectors"])
            files.enter_context(vector_writer(path, "item", len(tokens)))(tokens, vectors[1:])
        if self._config["index"] != "none":
            metadata = {"checkpoint": str(self._run.saved.path), "sample": self._run.saved.spec.sample}
            index = ItemIndex.build(self._config["index"], vectors, tokens, **metadata)
            files.enter_context(index.writing(Path(self._config["index_path"])))

    def summary(self) -> str:
        """Return one sentence: files written, users and items skipped, users with too few items left."""
        config, seen = self._config, "excluded" if self._config["exclude_seen"] else "included"
        counts = f"{with_count(self.items, 'items')} for {with_count(self.users, 'users')}"
        parts = [f"{counts} written to {config['output']}, seen items {seen}"]
        if self.short:
            parts.append(f"{with_count(self.short, 'users')} with fewer than {config['topk']} items left")
        parts += [describe_skipped(self.skipped)] if self.skipped else []
        parts += [f"{key.replace('_', ' ')} in {config[key]}" for key in VECTOR_FILES if config[key] is not None]
        if config["index"] != "none":
            parts.append(f"{config['index']} index of {len(self._data.item_tokens):,} items in {config['index_path']}")
        mark = "[SAMPLE model] " if self._run.saved.spec.sample else ""
        return f"{mark}{'; '.join(parts)}."


def _user_vectors(batch: SequenceBatch, user_BKD: Tensor) -> Tensor:
    """Return the user vectors that score items, (B, K, D)."""
    return user_BKD


def _make_vector_writer(
    file: VectorWriter, users: TargetUsers, vectors: Callable[[SequenceBatch, Tensor], Tensor]
) -> Write:
    def write(rows: slice, batch: SequenceBatch, user_BKD: Tensor) -> None:
        file(users.names(rows), vectors(batch, user_BKD).cpu().numpy())

    return write


def _check_files(config: Mapping[str, Any]) -> None:
    """Check the output files and their combination before any input is read.

    Raises:
        StemlabError: a file has the wrong suffix, is named twice, or an option lacks its counterpart.
    """
    index, path = config["index"], config["index_path"]
    if index != "none" and path is None:
        raise StemlabError(f"index={index} needs a file: set index_path=items.faiss.")
    if index == "none" and path is not None:
        raise StemlabError(f"index_path={path} needs a kind of index: set index=exact or index=hnsw.")
    if config["index"] != "none":
        require_faiss()
    key_of_file: dict[Path, str] = {}
    for key in ("input", "output", *VECTOR_FILES, "index_path"):
        if config[key] is None:
            continue
        file = Path(config[key]).resolve()
        if file in key_of_file:
            raise StemlabError(f"{key}={config[key]} is also {key_of_file[file]}=: give another file.")
        key_of_file[file] = key
        if key in VECTOR_FILES:
            check_vector_path(key, Path(config[key]))
