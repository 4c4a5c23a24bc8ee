"""AliExpress search data (Li et al., CIKM 2020): five countries as scenarios, clicks and purchases of displayed items.

Reads the publisher's pairs of files (search pages and items, joined here) or MTReclib's train.csv and test.csv; both
give the same rows in the same order. Source: docs/methods/datasets.md#aliexpress. No automatic download, no
redistribution.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

from stemlab.data.batch import ImpressionBatch
from stemlab.data.cell_rules import CellRules
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.io.csv_integers import OnBadRow
from stemlab.data.prepare.encode_table import check_columns
from stemlab.data.prepare.pipeline import prepare_impressions
from stemlab.data.prepare.preparation_settings import NumericalColumn, PreparationSettings
from stemlab.data.prepare.scaling import Scaling
from stemlab.data.prepare.split import SplitRule
from stemlab.data.reading import Reading
from stemlab.data.resident import Residence
from stemlab.data.sample.aliexpress import AliexpressSimulation, write_sample
from stemlab.data.sample.folder import announce_sample, sample_file
from stemlab.data.sources.aliexpress_columns import (
    ALIEXPRESS_TASKS,
    CATEGORICALS,
    COUNTRIES,
    NUMERICAL_PARTS,
    NUMERICALS,
    SEARCH_COLUMN,
)
from stemlab.data.sources.aliexpress_files import CountryFiles, find_countries, missing_country
from stemlab.data.sources.aliexpress_raw import SCENARIO, SPLIT, RawAliexpress
from stemlab.data.window_order import WINDOW_ROWS
from stemlab.errors import StemlabError
from stemlab.types import NonNegativeInt, PositiveInt


class AliexpressDataModule(ImpressionDataModule):
    """AliExpress impressions (docs/methods/datasets.md#aliexpress-protocol).

    Args:
        name: dataset name.
        raw_dir: folder that contains the countries' folders, zip archives or files.
        data_dir: root folder of prepared datasets and samples.
        source: ``raw`` requires raw files, ``sample`` generates synthetic data, ``auto`` uses raw files if present,
            else a sample.
        scenarios: countries in the order of their scenario ids: nl, es, fr, us (MTReclib's four), ru.
        fields: categorical input columns; ``None``: all 16.
        numericals: numerical input columns; ``None``: all 63. Page columns belong to the part ``user``, item columns to
            the part ``item``.
        scaling: scaling of the numerical columns (already in [0, 1]): ``none``, ``standard`` or ``minmax``.
        tasks: labels to predict, both on all impressions.
        group: ``search_id`` (gAUC per search page), one of the fields, or ``None``.
        min_count: minimum number of training samples for a value to get its own id.
        split: the publisher's split (``given``), and which of its training rows are used for validation.
        on_bad_row: ``error`` stops at the first invalid row, ``skip`` skips and counts invalid rows.
        sample: settings of the synthetic data.
        batch_size: training samples per step and process.
        eval_batch_size: maximum number of samples per evaluation batch.
        residence: see ``ImpressionDataModule``.
        reading: see ``ImpressionDataModule``.
        window_rows: see ``ImpressionDataModule``.
        seed: seed of the shuffling.
    """

    cells = CellRules()

    def __init__(
        self,
        *,
        name: str,
        raw_dir: Path,
        data_dir: Path,
        source: Literal["auto", "raw", "sample"],
        scenarios: list[str],
        fields: list[str] | None,
        numericals: list[str] | None,
        scaling: Scaling,
        tasks: list[str],
        group: str | None,
        min_count: PositiveInt,
        split: SplitRule,
        on_bad_row: OnBadRow,
        sample: AliexpressSimulation,
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
        if split.rule != "given":
            raise StemlabError(f"dataset.split.rule={split.rule}: AliExpress has its own train and test; use given.")
        wanted = NUMERICALS if numericals is None else tuple(numericals)
        inputs = CATEGORICALS if fields is None else check_columns("dataset.fields", fields, CATEGORICALS)
        self._preparation = PreparationSettings(
            name=name,
            fields=inputs,
            tasks=check_columns("dataset.tasks", tasks, ALIEXPRESS_TASKS),
            group=None if group is None else check_columns("dataset.group", [group], (SEARCH_COLUMN, *inputs))[0],
            min_count=min_count,
            split=split,
            time="",
            numericals=tuple(
                NumericalColumn(name=one, part=NUMERICAL_PARTS[one], scaling=scaling)
                for one in (check_columns("dataset.numericals", list(wanted), NUMERICALS) if wanted else ())
            ),
            scenario=SCENARIO,
            scenarios=check_columns("dataset.scenarios", scenarios, COUNTRIES),
            split_column=SPLIT,
        )

    def build(self) -> Path:
        """Return the prepared directory of the raw files or of the sample."""
        found = None if self._source == "sample" else self._find_raw()
        prepared = self._data_dir / "prepared"
        columns = [*self._preparation.fields, *(column.name for column in self._preparation.numericals)]
        raw = RawAliexpress(
            found or self._make_sample(), columns, prepared, sample=found is None, on_bad_row=self._on_bad_row
        )
        return prepare_impressions(raw, self._preparation, prepared, self._on_bad_row)

    def encode(self, table: Any) -> ImpressionBatch:
        """Return rows with MTReclib's columns as a batch; with several countries, a ``scenario`` column is required."""
        return self.table_encoder(table)

    def _find_raw(self) -> list[CountryFiles] | None:
        """Return the files of the countries, or ``None`` if there are none and a sample is allowed."""
        found = find_countries(self._raw_dir, self._preparation.scenarios)
        if found is None and self._source == "raw":
            raise missing_country(self._raw_dir, self._preparation.scenarios[0], "use dataset.source=sample")
        return found

    def _make_sample(self) -> list[CountryFiles]:
        countries, found = self._preparation.scenarios, list[CountryFiles]()
        announce_sample(
            self._source,
            f"no files of {', '.join(countries)} in {self._raw_dir}",
            f"{self._simulation.rows:,} synthetic AliExpress rows per country",
        )
        for country in countries:
            folder = sample_file(
                self._data_dir / "sample",
                f"aliexpress-{country}",
                f"{country}_user_train.csv",
                self._simulation,
                partial(_write_into_folder, simulation=self._simulation, country=country),
            ).parent
            found.extend(find_countries(folder, [country]) or [])
        return found


def _write_into_folder(path: Path, simulation: AliexpressSimulation, country: str) -> None:
    write_sample(path.parent, simulation, country)
