"""TikTok: ICME 2019 short-video challenge, track 1 (275,855,531 rows), as used in the STEM paper.

The file has twelve tab-separated integer columns and no header; -1 encodes a missing city or music and is a normal
value. Source: docs/methods/datasets.md#tiktok. Academic use only, no automatic download.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from stemlab.array_types import Int64Array
from stemlab.data.batch import ImpressionBatch
from stemlab.data.cell_rules import CellRules
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.io.csv_integers import IntegerReader, OnBadRow
from stemlab.data.io.progress import Advance
from stemlab.data.io.text_blocks import read_blocks
from stemlab.data.prepare.encode_table import check_columns, check_group
from stemlab.data.prepare.pipeline import prepare_impressions
from stemlab.data.prepare.preparation_settings import PreparationSettings
from stemlab.data.prepare.split import SplitRule
from stemlab.data.reading import Reading
from stemlab.data.resident import Residence
from stemlab.data.sample.folder import announce_sample, sample_file
from stemlab.data.sample.tiktok import TIKTOK_COLUMNS, TiktokSimulation, write_sample
from stemlab.data.window_order import WINDOW_ROWS
from stemlab.errors import StemlabError
from stemlab.types import NonNegativeInt, PositiveInt

TIKTOK_FILE = "final_track1_train.txt"
TIKTOK_FILES = (
    TIKTOK_FILE,
    *(f"{stem}{end}" for stem in (TIKTOK_FILE, TIKTOK_FILE[:-4]) for end in (".gz", ".tgz", ".tar.gz")),
)
TIKTOK_LABELS = ("finish", "like")
TIKTOK_FIELDS = tuple(name for name in TIKTOK_COLUMNS if name not in TIKTOK_LABELS)
_TIME = "create_time"


class RawTiktok:
    """Integer columns of the raw file.

    Args:
        file: the raw file, plain or compressed.
        sample: whether the files are synthetic.
        on_bad_row: ``error`` raises at the first invalid row, ``skip`` skips and counts invalid rows.
    """

    kind = "tiktok/1"
    tokens: Mapping[str, Sequence[str]] = {}

    def __init__(self, file: Path, *, sample: bool, on_bad_row: OnBadRow) -> None:
        self.files: Sequence[Path] = (file,)
        self.sample = sample
        ranges = dict.fromkeys(TIKTOK_LABELS, (0, 1))
        self._reader = IntegerReader(file, TIKTOK_COLUMNS, ranges=ranges, on_bad_row=on_bad_row)
        self._done = 0

    @property
    def skipped(self) -> int:
        """Number of invalid rows skipped so far."""
        return self._reader.skipped

    def chunks(self, advance: Advance) -> Iterator[Mapping[str, Int64Array]]:
        """Yield the twelve columns block by block."""
        return (columns for columns, _ in self.chunks_with_state(advance))

    def chunks_with_state(self, advance: Advance) -> Iterator[tuple[Mapping[str, Int64Array], int]]:
        """Yield the twelve columns block by block, and the number of rows skipped so far."""
        blocks = islice(read_blocks(self.files[0], TIKTOK_FILE, advance), self._done, None)
        return ((rows.columns, self.skipped) for rows in self._reader.parse(blocks))

    def restore(self, states: Sequence[int]) -> bool:
        """Continue after the blocks with these states."""
        self._done, self._reader.skipped = len(states), states[-1] if states else 0
        return True


class TiktokDataModule(ImpressionDataModule):
    """TikTok impressions.

    Args:
        name: dataset name.
        raw_dir: folder of the raw file, or the file itself.
        raw_file: name of the raw file in the folder; ``None``: the official names, plain or compressed.
        data_dir: root folder of prepared datasets and samples.
        source: ``raw`` requires raw files, ``sample`` generates synthetic data, ``auto`` uses raw files if present,
            else a sample.
        fields: input columns, all categorical.
        tasks: labels to predict.
        group: field that defines the groups of gAUC, or ``None``.
        min_count: minimum number of training samples for a value to get its own id.
        split: rule of the validation and test split.
        on_bad_row: ``error`` stops at the first invalid row, ``skip`` skips and counts invalid rows.
        sample: settings of the synthetic data.
        batch_size: training samples per step and process.
        eval_batch_size: maximum number of samples per evaluation batch.
        residence: see ``ImpressionDataModule``.
        reading: see ``ImpressionDataModule``.
        window_rows: see ``ImpressionDataModule``.
        seed: seed of the shuffling.
    """

    raw_columns = TIKTOK_COLUMNS

    cells = CellRules()

    def __init__(
        self,
        *,
        name: str,
        raw_dir: Path,
        raw_file: str | None,
        data_dir: Path,
        source: Literal["auto", "raw", "sample"],
        fields: list[str],
        tasks: list[str],
        group: str | None,
        min_count: PositiveInt,
        split: SplitRule,
        on_bad_row: OnBadRow,
        sample: TiktokSimulation,
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
        self._raw_dir, self._raw_file, self._data_dir = Path(raw_dir), raw_file, Path(data_dir)
        self._source, self._on_bad_row, self._simulation = source, on_bad_row, sample
        columns = check_columns("dataset.fields", fields, TIKTOK_FIELDS)
        self._preparation = PreparationSettings(
            name=name,
            fields=columns,
            tasks=check_columns("dataset.tasks", tasks, TIKTOK_LABELS),
            group=check_group(group, columns),
            min_count=min_count,
            split=split,
            time=_TIME,
        )

    def build(self) -> Path:
        """Return the prepared directory of the raw file or of the sample."""
        file = None if self._source == "sample" else self._find_raw()
        sample = file is None
        raw = RawTiktok(file or self._make_sample(), sample=sample, on_bad_row=self._on_bad_row)
        return prepare_impressions(raw, self._preparation, self._data_dir / "prepared", self._on_bad_row)

    def encode(self, table: Any) -> ImpressionBatch:
        """Return raw rows (column names: ``TIKTOK_COLUMNS``) as a batch."""
        return self.table_encoder(table)

    def _find_raw(self) -> Path | None:
        if self._raw_dir.is_file():
            return self._raw_dir
        names = TIKTOK_FILES if self._raw_file is None else (self._raw_file,)
        found = next((self._raw_dir / name for name in names if (self._raw_dir / name).is_file()), None)
        if found is None and (self._source == "raw" or self._raw_file is not None):
            others = "" if self._raw_file else " (nor .gz, .tgz)"
            raise StemlabError(
                f"{self._raw_dir} has no file {names[0]}{others}: set dataset.raw_dir to its folder (source of the "
                "file: docs/methods/datasets.md) or use dataset.source=sample."
            )
        return found

    def _make_sample(self) -> Path:
        announce_sample(
            self._source, f"no {TIKTOK_FILE} in {self._raw_dir}", f"{self._simulation.rows:,} synthetic TikTok rows"
        )
        write = partial(write_sample, simulation=self._simulation)
        return sample_file(self._data_dir / "sample", "tiktok", TIKTOK_FILE, self._simulation, write)
