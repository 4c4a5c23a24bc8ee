"""KuaiRand (Kuaishou, CIKM 2022), versions 1K, Pure and 27K: logs joined with the user and video tables.

The scenario is ``tab``, the page of the app. Source: docs/methods/datasets.md#kuairand. CC BY-SA 4.0, no automatic
download.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from stemlab.data.batch import ImpressionBatch
from stemlab.data.cell_rules import CellRules
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.io.csv_integers import OnBadRow
from stemlab.data.prepare.encode_table import check_columns
from stemlab.data.prepare.leakage import reasons as leak_reasons
from stemlab.data.prepare.leakage import refuse_leaks
from stemlab.data.prepare.pipeline import prepare_impressions
from stemlab.data.prepare.preparation_settings import NumericalColumn, PreparationSettings
from stemlab.data.prepare.scaling import Scaling
from stemlab.data.prepare.split import SplitRule
from stemlab.data.reading import Reading
from stemlab.data.resident import Residence
from stemlab.data.sample.folder import announce_sample, sample_file
from stemlab.data.sample.kuairand import (
    USER_COLUMNS,
    VIDEO_COLUMNS,
    KuairandSimulation,
    log_names,
    side_names,
    write_sample,
)
from stemlab.data.sources.kuairand_files import (
    ID_COLUMNS,
    KUAIRAND_LABELS,
    SCENARIO,
    SPLIT,
    KuairandFiles,
    RawKuairand,
    find_files,
    missing_file,
)
from stemlab.data.table.side_table import plain_tokens
from stemlab.data.window_order import WINDOW_ROWS
from stemlab.errors import StemlabError
from stemlab.types import NonNegativeInt, PositiveInt

_USER_NUMBERS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
_VIDEO_NUMBERS = ("video_duration", "server_width", "server_height")
_NUMERICALS = {**dict.fromkeys(_USER_NUMBERS, "user"), **dict.fromkeys(_VIDEO_NUMBERS, "item"), "duration_ms": "item"}
_FIELDS = (
    *(*ID_COLUMNS, "tab", "hourmin"),
    *(name for name in (*USER_COLUMNS[1:], *VIDEO_COLUMNS[1:]) if name not in (*_USER_NUMBERS, "video_duration")),
)
_LEAKS = leak_reasons(("play_time_ms", "profile_stay_time", "comment_stay_time"), KUAIRAND_LABELS)


class KuairandDataModule(ImpressionDataModule):
    """KuaiRand impressions (docs/methods/datasets.md#kuairand-protocols).

    Args:
        name: dataset name.
        version: ``1k``, ``pure`` or ``27k``.
        raw_dir: folder of the raw files, or the folder that contains ``KuaiRand-1K/data``.
        data_dir: root folder of prepared datasets and samples.
        source: ``raw`` requires raw files, ``sample`` generates synthetic data, ``auto`` uses raw files if present,
            else a sample.
        logs: names of log files; ``None``: both standard logs of the version, with all their parts.
        test_log: test split: ``standard`` follows the split rule; ``random`` uses all rows of the random log, an
            unbiased test of a model trained and selected on the standard logs before ``split.test_from``.
        scenarios: tabs in the order of their scenario ids, written ``tab0``, ``tab1``, ...; rows of other tabs are
            dropped. Empty: all rows, without scenarios.
        fields: categorical input columns of logs, user table and video table.
        numericals: numerical input columns.
        scaling: scaling of the numerical columns: ``none``, ``standard`` or ``minmax``.
        tasks: labels to predict.
        group: input column that defines the groups of gAUC, or ``None``.
        min_count: minimum number of training samples for a value to get its own id.
        split: rule of the validation and test split; ``dates`` uses ``date`` (20220508), ``time`` uses ``time_ms``.
        on_bad_row: ``error`` stops at the first invalid row, ``skip`` skips and counts invalid rows.
        sample: settings of the synthetic data.
        batch_size: training samples per step and process.
        eval_batch_size: maximum number of samples per evaluation batch.
        residence: see ``ImpressionDataModule``.
        reading: see ``ImpressionDataModule``.
        window_rows: see ``ImpressionDataModule``.
        seed: seed of the shuffling.
    """

    cells = CellRules(scenario_from=("tab", "tab"))

    def __init__(
        self,
        *,
        name: str,
        version: Literal["1k", "pure", "27k"],
        raw_dir: Path,
        data_dir: Path,
        source: Literal["auto", "raw", "sample"],
        logs: list[str] | None,
        test_log: Literal["standard", "random"],
        scenarios: list[str],
        fields: list[str],
        numericals: list[str],
        scaling: Scaling,
        tasks: list[str],
        group: str | None,
        min_count: PositiveInt,
        split: SplitRule,
        on_bad_row: OnBadRow,
        sample: KuairandSimulation,
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
        self._version, self._raw_dir, self._data_dir = version, Path(raw_dir), Path(data_dir)
        self._source, self._logs, self._on_bad_row, self._simulation = source, logs, on_bad_row, sample
        self._tabs = _check_tabs(scenarios)
        self._dates = _check_split(split, test_log)
        refuse_leaks("dataset.fields", fields, _LEAKS)
        refuse_leaks("dataset.numericals", numericals, _LEAKS)
        numbers = check_columns("dataset.numericals", numericals, tuple(_NUMERICALS)) if numericals else ()
        self._preparation = PreparationSettings(
            name=name,
            fields=check_columns("dataset.fields", fields, _FIELDS),
            tasks=check_columns("dataset.tasks", tasks, KUAIRAND_LABELS),
            group=None if group is None else check_columns("dataset.group", [group], _FIELDS)[0],
            min_count=min_count,
            split=replace(split, rule="given") if self._dates else split,
            time="time_ms" if split.rule == "time" else "date",
            numericals=tuple(NumericalColumn(name=one, part=_NUMERICALS[one], scaling=scaling) for one in numbers),
            scenario=SCENARIO if scenarios else None,
            scenarios=tuple(scenarios),
            split_column=SPLIT,
        )
        self._preparation.check()

    def build(self) -> Path:
        """Return the prepared directory of the raw files or of the sample."""
        files = None if self._source == "sample" else self._find_raw()
        raw = RawKuairand(
            files or self._make_sample(),
            self._preparation,
            self._tabs,
            dates=self._dates,
            sample=files is None,
            on_bad_row=self._on_bad_row,
        )
        return prepare_impressions(raw, self._preparation, self._data_dir / "prepared", self._on_bad_row)

    def encode(self, table: Any) -> ImpressionBatch:
        """Return joined rows (all fields and numerical columns, and ``tab`` if there are scenarios) as a batch."""
        if self._tabs and SCENARIO not in table.column_names and "tab" in table.column_names:
            names = pc.binary_join_element_wise(
                "tab", plain_tokens(pc.cast(table["tab"], pa.string())).dictionary_decode(), ""
            )
            table = table.append_column(SCENARIO, names)
        for index, name in enumerate(table.column_names):
            if name in self._preparation.fields and pa.types.is_string(table[name].type):
                table = table.set_column(index, name, plain_tokens(table[name]).dictionary_decode())
        return self.table_encoder(table)

    def _find_raw(self) -> KuairandFiles | None:
        """Return the raw files, or ``None`` if there are none and a sample is allowed."""
        found = find_files(self._raw_dir, self._version, self._logs, random=self._dates is not None)
        if found is None and (self._source == "raw" or self._logs is not None):
            raise missing_file(self._raw_dir, side_names(self._version)[0], self._version)
        return found

    def _make_sample(self) -> KuairandFiles:
        names = log_names(self._version)
        announce_sample(
            self._source,
            f"no {side_names(self._version)[0]} in {self._raw_dir}",
            f"{self._simulation.rows:,} synthetic KuaiRand rows",
        )
        first = sample_file(
            self._data_dir / "sample",
            f"kuairand-{self._version}",
            names[0],
            self._simulation,
            partial(_write_into_folder, simulation=self._simulation, version=self._version),
        )
        users, videos = (first.parent / name for name in side_names(self._version))
        logs = (first, first.parent / names[1])
        return KuairandFiles(logs, first.parent / names[2] if self._dates else None, users, videos)


def _write_into_folder(path: Path, simulation: KuairandSimulation, version: str) -> Path:
    return write_sample(path.parent, simulation, version)


def _check_tabs(scenarios: list[str]) -> tuple[int, ...]:
    """Return the numbers of the tabs named tab0, tab1, ..."""
    known = tuple(f"tab{number}" for number in range(15))
    return tuple(known.index(one) for one in check_columns("dataset.scenarios", scenarios, known)) if scenarios else ()


def _check_split(split: SplitRule, test_log: str) -> tuple[int, int] | None:
    """Return the (first, last + 1) validation day of the standard logs if the random log is the test split."""
    if split.rule == "given":
        raise StemlabError("dataset.split.rule=given: KuaiRand has no given split; use dates, time or random.")
    if test_log == "standard":
        return None
    if split.rule != "dates" or split.valid_from is None or split.test_from is None:
        raise StemlabError("dataset.test_log=random needs dataset.split.rule=dates with valid_from and test_from.")
    return split.valid_from, split.test_from
