"""Tenrec (Tencent, NeurIPS 2022): videos and articles with clicks, likes, shares and follows, in two protocols.

Rows of a user are sorted by time, but have no timestamps. QK-video and QB-video share user and item ids, so the two
files can be scenarios of one dataset. Source: docs/methods/datasets.md#tenrec. CC BY-NC 4.0, no automatic download.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.compute as pc

from stemlab.array_types import Int64Array
from stemlab.data.batch import ImpressionBatch
from stemlab.data.cell_rules import CellRules
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.io.csv_header import HeaderCsvReader
from stemlab.data.io.csv_integers import OnBadRow
from stemlab.data.io.progress import Advance
from stemlab.data.prepare.encode_table import check_columns
from stemlab.data.prepare.leakage import IS_LABEL, refuse_leaks
from stemlab.data.prepare.leakage import reasons as leak_reasons
from stemlab.data.prepare.negative_downsampling import DownsamplingRule
from stemlab.data.prepare.pipeline import prepare_impressions
from stemlab.data.prepare.preparation_settings import PreparationSettings
from stemlab.data.prepare.split import SplitRule
from stemlab.data.prepare.vocabulary import as_tokens
from stemlab.data.reading import Reading
from stemlab.data.resident import Residence
from stemlab.data.sample.folder import announce_sample, sample_file
from stemlab.data.sample.tenrec import HISTORY, TenrecSimulation, write_sample
from stemlab.data.table.cells import without_missing
from stemlab.data.window_order import WINDOW_ROWS
from stemlab.errors import StemlabError
from stemlab.types import NonNegativeInt, PositiveInt

File = Literal["ctr_data_1M", "QK-video", "QB-video", "QK-article"]
VIDEOS = ("QK-video", "QB-video", "ctr_data_1M")
_USER_AND_ITEM = ("user_id", "item_id", "gender", "age")
_FIELDS = {
    **dict.fromkeys(VIDEOS, (*_USER_AND_ITEM, "video_category")),
    "ctr_data_1M": (*_USER_AND_ITEM, "video_category", *HISTORY),
    "QK-article": (*_USER_AND_ITEM, "category_first", "category_second"),
}
_LABELS = {
    **dict.fromkeys(VIDEOS, ("click", "like", "share", "follow")),
    "QK-article": ("read", "like", "share", "follow", "favorite"),
}
_TOTALS = ("exposure_count", "click_count", "like_count", "comment_count")
_LEAKS = {
    **leak_reasons(
        ("watching_times", "read_time", "read_percentage"),
        ("click", "like", "share", "follow", "read", "favorite"),
    ),
    **dict.fromkeys(_TOTALS, "a total over the whole log, including later rows"),
}
_MISSING = ("\\N", "")  # \N in the files; both become the value -1
_NEGATIVES = 2  # per click, in the paper's protocol
_MIN_COUNT = {"paper": 1, "stem": 10}
_SCENARIO = "scenario"
_RANGES = {
    **dict.fromkeys(("user_id", "item_id"), (0, (1 << 63) - 1)),
    **{name: (0, 1) for name, reason in _LEAKS.items() if reason == IS_LABEL},
}


class RawTenrec:
    """Integer columns of one or several raw files.

    Args:
        files: the raw files; the column ``scenario`` holds the index of a row's file.
        columns: names of the columns to read.
        sample: whether the files are synthetic.
        on_bad_row: ``error`` raises at the first invalid row, ``skip`` skips and counts invalid rows.
    """

    kind = "tenrec/1"
    tokens: Mapping[str, Sequence[str]] = {}

    def __init__(self, files: Sequence[Path], columns: Sequence[str], *, sample: bool, on_bad_row: OnBadRow) -> None:
        self.files, self.sample = tuple(files), sample
        self._reader = HeaderCsvReader(columns, _RANGES, _MISSING, on_bad_row)

    @property
    def skipped(self) -> int:
        """Number of invalid rows skipped so far."""
        return self._reader.skipped

    def chunks(self, advance: Advance) -> Iterator[Mapping[str, Int64Array]]:
        """Yield the columns block by block, file after file."""
        for index, path in enumerate(self.files):
            for rows, _ in self._reader.read(path, path.name.removesuffix(".gz"), advance):
                yield {**rows.columns, _SCENARIO: np.full(len(rows), index, dtype=np.int64)}


class TenrecDataModule(ImpressionDataModule):
    """Tenrec impressions (docs/methods/datasets.md#tenrec-protocols).

    Args:
        name: dataset name.
        raw_dir: folder of the raw files, or of their folder ``Tenrec``.
        data_dir: root folder of prepared datasets and samples.
        source: ``raw`` requires raw files, ``sample`` generates synthetic data, ``auto`` uses raw files if present,
            else a sample.
        file: name of the file to read, without ``.csv``.
        scenarios: files to read instead of ``file``, one per scenario; user and item ids are shared.
        protocol: ``paper`` keeps all clicks and twice as many other rows, drawn at random in each scenario with the
            seed of the split (section 3.3 of the Tenrec paper); ``stem`` keeps all rows.
        fields: input columns, all categorical; ``None``: those of the protocol (paper: with the history, if the file
            has one).
        tasks: labels to predict.
        group: input column that defines the groups of gAUC, or ``None``.
        min_count: minimum number of training samples for a value to get its own id; ``None``: 1 (paper), 10 (stem).
        shared_history: whether history columns share the embedding table of ``item_id``; in the paper each has its own.
        split: rule of the validation and test split; random 8:1:1 in both protocols.
        on_bad_row: ``error`` stops at the first invalid row, ``skip`` skips and counts invalid rows.
        sample: settings of the synthetic data.
        batch_size: training samples per step and process.
        eval_batch_size: maximum number of samples per evaluation batch.
        residence: see ``ImpressionDataModule``.
        reading: see ``ImpressionDataModule``.
        window_rows: see ``ImpressionDataModule``.
        seed: seed of the shuffling.
    """

    cells = CellRules(missing=_MISSING, missing_token="-1")

    def __init__(
        self,
        *,
        name: str,
        raw_dir: Path,
        data_dir: Path,
        source: Literal["auto", "raw", "sample"],
        file: File,
        scenarios: list[str],
        protocol: Literal["paper", "stem"],
        fields: list[str] | None,
        tasks: list[str],
        group: str | None,
        min_count: PositiveInt | None,
        shared_history: bool,
        split: SplitRule,
        on_bad_row: OnBadRow,
        sample: TenrecSimulation,
        batch_size: PositiveInt,
        eval_batch_size: PositiveInt,
        seed: NonNegativeInt,
        residence: Residence = "auto",
        reading: Reading = "auto",
        window_rows: PositiveInt = WINDOW_ROWS,
    ) -> None:
        super().__init__(
            name=name,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            residence=residence,
            reading=reading,
            window_rows=window_rows,
        )
        self._raw_dir, self._data_dir = Path(raw_dir), Path(data_dir)
        self._source, self._on_bad_row, self._simulation = source, on_bad_row, sample
        self._names = _check_scenarios(scenarios) or (file,)
        if split.rule != "random":
            raise StemlabError(f"dataset.split.rule={split.rule}: Tenrec's rows have no times or splits; use random.")
        inputs = _check_fields(fields, self._names, protocol)
        self._preparation = PreparationSettings(
            name=name,
            fields=inputs,
            tasks=_check_tasks(tasks, self._names[0]),
            group=None if group is None else check_columns("dataset.group", [group], _FIELDS[self._names[0]])[0],
            min_count=_MIN_COUNT[protocol] if min_count is None else min_count,
            split=split,
            time="",
            scenario=_SCENARIO if scenarios else None,
            scenarios=tuple(scenarios),
            shared=_shared(inputs) if shared_history else {},
            sampling=_sampling(protocol, self._names[0], split.seed),
            padding={name: 0 for name in inputs if name in HISTORY},
        )
        self._preparation.check()

    def build(self) -> Path:
        """Return the prepared directory of the raw files or of the sample."""
        files = None if self._source == "sample" else self._find_raw()
        columns = [name for name in self._preparation.columns if name != _SCENARIO]
        raw = RawTenrec(files or self._make_sample(), columns, sample=files is None, on_bad_row=self._on_bad_row)
        return prepare_impressions(raw, self._preparation, self._data_dir / "prepared", self._on_bad_row)

    def encode(self, table: Any) -> ImpressionBatch:
        r"""Return raw rows as a batch; ``\N`` is missing. With scenarios, the column ``scenario`` is required."""
        for name in [name for name in self._preparation.fields if name in table.column_names]:
            table = table.set_column(table.column_names.index(name), name, _missing_as_token(name, table[name]))
        return self.table_encoder(table)

    def _find_raw(self) -> list[Path] | None:
        """Return the raw files, or ``None`` if there are none and a sample is allowed."""
        folders = (self._raw_dir, self._raw_dir / "Tenrec")
        found: dict[str, Path] = {}
        for name in self._names:
            candidates = [folder / f"{name}{suffix}" for folder in folders for suffix in (".csv", ".csv.gz")]
            paths = [path for path in candidates if path.is_file()]
            found |= {name: paths[0]} if paths else {}
        missing = [name for name in self._names if name not in found]
        if missing and (found or self._source == "raw"):
            raise StemlabError(
                f"{self._raw_dir} has no file {missing[0]}.csv (nor .csv.gz): set dataset.raw_dir to its folder "
                "(source of the file: docs/methods/datasets.md) or use dataset.source=sample."
            )
        return [found[name] for name in self._names] if found else None

    def _make_sample(self) -> list[Path]:
        announce_sample(
            self._source,
            f"no {self._names[0]}.csv in {self._raw_dir}",
            f"synthetic Tenrec rows ({', '.join(self._names)})",
        )
        return [
            sample_file(
                self._data_dir / "sample",
                f"tenrec-{name}",
                f"{name}.csv",
                self._simulation,
                partial(write_sample, simulation=self._simulation, file=name),
            )
            for name in self._names
        ]


def _check_scenarios(scenarios: list[str]) -> tuple[str, ...]:
    if "QK-article" in scenarios:
        raise StemlabError(
            "dataset.scenarios has 'QK-article', which has other items than the video files and clicked rows only: "
            f"choose from {', '.join(VIDEOS)}, or use dataset.file=QK-article."
        )
    if {"QK-video", "ctr_data_1M"} <= set(scenarios):
        raise StemlabError("dataset.scenarios has QK-video and ctr_data_1M, which is a subset of it: keep one of them.")
    return check_columns("dataset.scenarios", scenarios, VIDEOS) if scenarios else ()


def _check_tasks(tasks: list[str], file: str) -> tuple[str, ...]:
    if file == "QK-article" and "click" in tasks:
        raise StemlabError(
            "dataset.tasks has 'click', but all rows of QK-article are clicks, so there are no negatives: "
            f"choose from {', '.join(_LABELS[file])}."
        )
    return check_columns("dataset.tasks", tasks, _LABELS[file])


def _check_fields(fields: list[str] | None, files: Sequence[str], protocol: str) -> tuple[str, ...]:
    """Return the input columns; default: those of the protocol."""
    known = tuple(name for name in _FIELDS[files[0]] if all(name in _FIELDS[file] for file in files))
    if fields is None:
        return tuple(name for name in known if protocol == "paper" or name not in HISTORY)
    refuse_leaks("dataset.fields", fields, _LEAKS)
    for name in fields:
        if name in HISTORY and name not in known:
            without = next(file for file in files if file != "ctr_data_1M")
            raise StemlabError(
                f"dataset.fields has {name!r}, but {without}.csv has no history; ctr_data_1M.csv has one."
            )
    return check_columns("dataset.fields", fields, known)


def _shared(fields: Sequence[str]) -> dict[str, str]:
    shared = {name: "item_id" for name in fields if name in HISTORY}
    if not shared or "item_id" not in fields:
        raise StemlabError(
            "dataset.shared_history=true needs item_id and hist_1 to hist_10 (or some of them) in dataset.fields "
            f"(they are: {', '.join(fields)})."
        )
    return shared


def _sampling(protocol: str, file: str, seed: int) -> DownsamplingRule | None:
    if protocol == "stem":
        return None
    if file == "QK-article":
        raise StemlabError(
            "dataset.protocol=paper samples rows without a click, but all rows of QK-article are clicks: use "
            "dataset.protocol=stem, which keeps all rows."
        )
    return DownsamplingRule(label="click", negatives=_NEGATIVES, seed=seed)


def _missing_as_token(name: str, column: Any) -> Any:
    """Return the tokens of a column, -1 for missing values, as in training."""
    return pc.fill_null(without_missing(as_tokens(name, column), _MISSING), "-1")
