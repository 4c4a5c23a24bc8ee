"""Census-Income (KDD): 299,285 persons of the US census of 1994 and 1995, with up to three binary tasks.

The tasks are those of the MMoE paper: income over 50,000 dollars, never married, and education of college level or
higher. Source: docs/methods/datasets.md#census-income. CC BY 4.0; no automatic download.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stemlab.array_types import AnyArray, BoolArray, Int64Array
from stemlab.data.batch import ImpressionBatch
from stemlab.data.cell_rules import CellRules
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.io.arrow import as_numpy
from stemlab.data.io.csv_integers import OnBadRow
from stemlab.data.io.progress import Advance
from stemlab.data.prepare.encode_table import check_columns, check_group
from stemlab.data.prepare.pipeline import prepare_impressions
from stemlab.data.prepare.preparation_settings import NumericalColumn, PreparationSettings
from stemlab.data.prepare.split import SplitRule
from stemlab.data.reading import Reading
from stemlab.data.resident import Residence
from stemlab.data.table.cells import read_numbers, read_token_codes, without_missing
from stemlab.data.table.file import TableChunk, open_table
from stemlab.data.table.tokens import TokenCodes
from stemlab.data.window_order import WINDOW_ROWS
from stemlab.errors import StemlabError
from stemlab.types import NonNegativeInt, PositiveInt

CENSUS_FILES = ("census-income.data", "census-income.test")
"""Training and test part; each may also end in ``.gz``."""
CENSUS_NUMERICALS = (
    *("age", "wage_per_hour", "capital_gains", "capital_losses", "dividends", "employer_size", "weeks_worked"),
)
_WEIGHT, _INCOME, _MARITAL, _EDUCATION = "instance_weight", "income_class", "marital_status", "education_level"
CENSUS_COLUMNS = (
    *("age", "worker_class", "industry_code", "occupation_code", _EDUCATION, "wage_per_hour", "enrolled", _MARITAL),
    *("major_industry", "major_occupation", "race", "hispanic_origin", "sex", "union_member", "unemployment_reason"),
    *("employment", "capital_gains", "capital_losses", "dividends", "tax_filer", "previous_region", "previous_state"),
    *("household_detail", "household_summary", _WEIGHT, "migration_msa", "migration_region", "migration_within_region"),
    *("same_house", "previous_sunbelt", "employer_size", "parents_present", "father_birth", "mother_birth"),
    *("own_birth", "citizenship", "self_employed", "veteran_form", "veteran_benefits", "weeks_worked", "year"),
    _INCOME,
)
"""Names of the 42 columns, in file order."""
CENSUS_FIELDS = tuple(name for name in CENSUS_COLUMNS if name not in (*CENSUS_NUMERICALS, _WEIGHT, _INCOME))
_COLLEGE = (
    *("Associates degree-occup /vocational", "Associates degree-academic program", "Bachelors degree(BA AB BS)"),
    *("Masters degree(MA MS MEng MEd MSW MBA)", "Prof school degree (MD DDS DVM LLB JD)", "Doctorate degree(PhD EdD)"),
)
LABELS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "income": (_INCOME, ("50000+.",)),
    "never_married": (_MARITAL, ("Never married",)),
    "education": (_EDUCATION, _COLLEGE),
}
"""Task -> its column and the cells that mean 1."""
_INCOMES = ("- 50000.", "50000+.")
_MISSING = ("?", "")
_SPLIT = "split"
_log = logging.getLogger(__name__)


class RawCensusIncome:
    """Columns of one or both official files.

    Args:
        files: the files that exist, the training part first.
        parts: split code of the rows of each file: 0, or None for rows that are valid and test in equal parts.
        seed: seed of the draw of these parts.
        on_bad_row: ``error`` raises at the first invalid row, ``skip`` skips and counts invalid rows.
    """

    kind = "census_income/1"
    sample = False

    def __init__(self, files: Sequence[Path], parts: Sequence[int | None], seed: int, on_bad_row: OnBadRow) -> None:
        self.files, self._parts, self._seed, self._on_bad_row = tuple(files), parts, seed, on_bad_row
        self.skipped = 0
        self._codes = {name: TokenCodes() for name in CENSUS_FIELDS}

    @property
    def tokens(self) -> Mapping[str, Sequence[str]]:
        """Field -> its distinct strings, by code."""
        return self._codes

    def chunks(self, advance: Advance) -> Iterator[Mapping[str, AnyArray]]:
        """Yield fields, numerical columns, labels and the split.

        Raises:
            StemlabError: a bad row.
        """
        for path, part in zip(self.files, self._parts, strict=True):
            rows = open_table(path, separator=",", names=CENSUS_COLUMNS).chunks(CENSUS_COLUMNS, advance)
            chunks = [self._parse(path, piece) for piece in rows]  # at most 199,523 rows
            total = sum(len(chunk["age"]) for chunk in chunks)
            codes = np.full(total, part) if part is not None else self._halves(total)
            start = 0
            for chunk in chunks:
                stop = start + len(chunk["age"])
                yield {**chunk, _SPLIT: codes[start:stop]}
                start = stop

    def _halves(self, rows: int) -> Int64Array:
        """Return 1 (valid) for a random half of the rows, 2 (test) for the others."""
        codes = np.full(rows, 2, dtype=np.int64)
        codes[np.random.RandomState(self._seed).permutation(rows)[: rows // 2]] = 1
        return codes

    def _parse(self, path: Path, piece: TableChunk) -> dict[str, AnyArray]:
        cells = {name: stripped(column) for name, column in piece.columns.items()}
        bad = {name: read_numbers(without_missing(cells[name], _MISSING)) for name in CENSUS_NUMERICALS}
        wrong: dict[str, BoolArray] = {name: flags for name, (_, flags) in bad.items()}
        wrong[_INCOME] = ~_is_in(cells[_INCOME], _INCOMES)
        any_wrong: BoolArray = np.logical_or.reduce(list(wrong.values()))
        self.skipped += int(any_wrong.sum()) + len(piece.malformed)
        if self._on_bad_row == "error":
            problems = list(piece.malformed)
            if any_wrong.any():
                row = int(np.argmax(any_wrong))
                name = next(name for name, flags in wrong.items() if flags[row])
                wanted = f"neither {_INCOMES[0]!r} nor {_INCOMES[1]!r}" if name == _INCOME else "not a number"
                problems.append((int(piece.lines[row]), f"column {name!r} is {cells[name][row].as_py()!r}, {wanted}"))
            if problems:
                line, problem = min(problems)
                raise StemlabError(f"{path}, line {line}: {problem}; correct it or set dataset.on_bad_row=skip.")
        parsed: dict[str, AnyArray] = {name: values for name, (values, _) in bad.items()}
        for name, codes in self._codes.items():
            parsed[name], _ = read_token_codes(without_missing(cells[name], _MISSING), codes)
        for task, (name, ones) in LABELS.items():
            parsed[task] = _is_in(cells[name], ones).astype(np.int64)
        return {name: values[~any_wrong] for name, values in parsed.items()}


class CensusIncomeDataModule(ImpressionDataModule):
    """Census-Income as an impression dataset.

    Args:
        name: dataset name.
        raw_dir: folder with census-income.data and census-income.test (or only one of them), plain or ``.gz``.
        data_dir: root folder of prepared datasets.
        fields: categorical input columns; the columns of the tasks are refused.
        numericals: numerical input columns.
        scaling: scaling of the numerical columns, fitted on the training split.
        tasks: labels to predict: ``income``, ``never_married``, ``education``.
        group: field that defines the groups of gAUC, or ``None``.
        min_count: minimum number of training samples for a value to get its own id.
        split: ``given`` trains on census-income.data and divides census-income.test at random into equal parts for
            validation and test (MMoE paper, section 6.2); with only one of the files the rule is ``random``.
        on_bad_row: ``error`` stops at the first invalid row, ``skip`` skips and counts invalid rows.
        batch_size: training samples per step and process.
        eval_batch_size: maximum number of samples per evaluation batch.
        residence: see ``ImpressionDataModule``.
        reading: see ``ImpressionDataModule``.
        window_rows: see ``ImpressionDataModule``.
        seed: seed of the shuffling.
    """

    raw_columns = CENSUS_COLUMNS
    separator = ","

    cells = CellRules(missing=_MISSING, strip=True, numbers="lenient")

    def __init__(
        self,
        *,
        name: str,
        raw_dir: Path,
        data_dir: Path,
        fields: list[str],
        numericals: list[str],
        scaling: Literal["none", "standard", "minmax"],
        tasks: list[str],
        group: str | None,
        min_count: PositiveInt,
        split: SplitRule,
        on_bad_row: OnBadRow,
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
        self._raw_dir, self._data_dir, self._on_bad_row = Path(raw_dir), Path(data_dir), on_bad_row
        if split.rule in ("time", "dates"):
            raise StemlabError(f"dataset.split.rule={split.rule}: {name} has no time column; use given or random.")
        columns = check_columns("dataset.fields", fields, CENSUS_FIELDS)
        self._preparation = PreparationSettings(
            name=name,
            fields=columns,
            tasks=check_columns("dataset.tasks", tasks, tuple(LABELS)),
            group=check_group(group, columns),
            min_count=min_count,
            split=split,
            time="",
            numericals=tuple(
                NumericalColumn(name=column, scaling=scaling)
                for column in (check_columns("dataset.numericals", numericals, CENSUS_NUMERICALS) if numericals else ())
            ),
            split_column=_SPLIT,
        )
        for task in self._preparation.tasks:
            if LABELS[task][0] in columns:
                raise StemlabError(
                    f"dataset.fields has {LABELS[task][0]!r}, from which the label {task!r} is made: leave it out."
                )

    def build(self) -> Path:
        """Return the prepared directory of the official files."""
        found = [self._find(name) for name in CENSUS_FILES]
        files = [path for path in found if path is not None]
        if not files:
            raise StemlabError(
                f"{self._raw_dir} has neither {CENSUS_FILES[0]} nor {CENSUS_FILES[1]} (nor .gz): set dataset.raw_dir "
                "to their folder (source: docs/methods/datasets.md)."
            )
        settings, parts = self._preparation, [0 if path == found[0] else None for path in files]
        if len(files) == 1 and settings.split.rule == "given":
            _log.info(f"{files[0]} is the only file: rows are split at random (the published split needs both files).")
            settings = dataclasses.replace(settings, split=dataclasses.replace(settings.split, rule="random"))
        raw = RawCensusIncome(files, parts, settings.split.seed, self._on_bad_row)
        return prepare_impressions(raw, settings, self._data_dir / "prepared", self._on_bad_row)

    def encode(self, table: Any) -> ImpressionBatch:
        """Return raw rows (column names: ``CENSUS_COLUMNS``) as a batch."""
        for name in (*self._preparation.fields, *(column.name for column in self._preparation.numericals)):
            if name in table.column_names and pa.types.is_string(table[name].type):
                cells = without_missing(stripped(table[name]), _MISSING)
                values = pa.array(read_numbers(cells)[0]) if name in CENSUS_NUMERICALS else cells
                table = table.set_column(table.column_names.index(name), name, values)
        return self.table_encoder(table)

    def _find(self, name: str) -> Path | None:
        return next((path for path in (self._raw_dir / name, self._raw_dir / f"{name}.gz") if path.is_file()), None)


def stripped(column: Any) -> Any:
    """Return a text column without blanks around the cells: the files are separated by a comma and a blank."""
    return pc.utf8_trim_whitespace(column)


def _is_in(column: Any, cells: Sequence[str]) -> BoolArray:
    found: BoolArray = as_numpy(pc.cast(pc.is_in(column, value_set=pa.array(cells)), pa.int8())) == 1
    return found
