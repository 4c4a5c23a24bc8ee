"""Sequence datasets from a user's own interaction log: tables, RecBole files, lines, ReChorus folders.

Source: docs/interactions.md.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from stemlab.data.io.csv_integers import OnBadRow
from stemlab.data.io.progress import Advance
from stemlab.data.resident import Residence
from stemlab.data.sequence.datamodule import SequenceDataModule
from stemlab.data.sequence.interaction_splits import InteractionSplit, split_log
from stemlab.data.sequence.prepare import prepare_sequences
from stemlab.data.sequence.protocol import RankingProtocol
from stemlab.data.sequence.raw import RawSequences
from stemlab.data.sequence.stored_negatives import EvaluationNegatives
from stemlab.data.sources.interaction_columns import guess_columns
from stemlab.data.sources.interaction_files import ReadLog, read_category_table, read_lines_log, read_table_log
from stemlab.data.sources.interaction_format import (
    InteractionFiles,
    InteractionFormat,
    bare_names,
    find_log_files,
    is_sequence_column,
    open_log,
)
from stemlab.data.sources.item_categories import meta_categories
from stemlab.data.sources.rechorus import find_parts, read_folder
from stemlab.data.table.time_units import UNIT_NAMES, TimeUnit
from stemlab.errors import StemlabError
from stemlab.types import NonNegativeInt, PositiveInt

_log = logging.getLogger(__name__)
_DEFAULT_NEGATIVES = 99
_LEFT_OUT = {
    "duplicate_rows": "repeated rows",
    "rows_below_min_rating": "rows below min_rating",
    "rows_outside_k_core": "rows outside the k-core",
    "rows_unseen_in_train": "valid and test rows of users or items without a training row",
}


class InteractionsDataModule(SequenceDataModule):
    """Sequences of a user's own interaction log.

    Args:
        name: dataset name.
        path: the file, or the folder of RecBole files or of a ReChorus dataset.
        raw_dir: folder of the file, replacing the folder of ``path``; ``None`` uses ``path`` as it is.
        data_dir: root folder of prepared datasets.
        format: ``table`` (csv, tsv, parquet), ``recbole`` (``.inter``, ``.item``), ``lines`` (user item item ...),
            ``rechorus`` (folder of train, dev, test), ``auto`` recognises it.
        separator: separator of a text table: one character or ``tab``; ``None`` detects it.
        columns: column names of a text table without a header.
        user: column of the users; ``None``: the one whose name fits.
        item: column of the items, likewise.
        time: column of the times, likewise.
        time_unit: unit of the times; ``auto`` guesses it from the values.
        rating: column of the ratings, likewise; read if ``min_rating`` is set.
        min_rating: interactions with a lower rating are dropped.
        category: column of the item categories, likewise, in ``item_file`` if there is one; optional.
        item_file: table of items with categories, in the folder of the log, or a path.
        k_core: users and items with fewer interactions are removed, repeatedly; ``None`` keeps all.
        split: rule of the validation and test split.
        eval_negatives: stored negatives per validation and test row; 0 stores none; ``None``: 99, or those of a
            ReChorus folder.
        eval_seed: seed of these negatives.
        largest_negative: largest item id of these negatives; ``None``: the number of items.
        on_bad_row: ``error`` stops at the first invalid row, ``skip`` skips and counts invalid rows.
        batch_size: training instances per step and process.
        eval_batch_size: maximum number of instances per evaluation batch.
        residence: see ``SequenceDataModule``.
        seed: seed of the shuffling and of the training negatives.
        history_max: H, maximum history length.
        num_negatives: negatives per training instance.
        train_negatives: items that are never drawn as training negatives (see ``SequenceDataModule``).
        times: whether batches contain times.
        evaluation: protocol of the ranking evaluation.
    """

    def __init__(
        self,
        *,
        name: str,
        path: str | None,
        raw_dir: Path | None,
        data_dir: Path,
        format: Literal["auto", "table", "recbole", "lines", "rechorus"],
        separator: str | None,
        columns: list[str] | None,
        user: str | None,
        item: str | None,
        time: str | None,
        time_unit: Literal["auto"] | TimeUnit,
        rating: str | None,
        min_rating: float | None,
        category: str | None,
        item_file: str | None,
        k_core: PositiveInt | None,
        split: InteractionSplit,
        eval_negatives: NonNegativeInt | None,
        eval_seed: NonNegativeInt,
        largest_negative: PositiveInt | None,
        on_bad_row: OnBadRow,
        batch_size: PositiveInt,
        eval_batch_size: PositiveInt,
        seed: NonNegativeInt,
        history_max: PositiveInt,
        num_negatives: PositiveInt,
        train_negatives: Literal["train", "all"],
        times: bool,
        evaluation: RankingProtocol,
        residence: Residence = "auto",
    ) -> None:
        super().__init__(
            name=name,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            residence=residence,
            seed=seed,
            history_max=history_max,
            num_negatives=num_negatives,
            train_negatives=train_negatives,
            times=times,
            evaluation=evaluation,
        )
        if rating is not None and min_rating is None:
            raise StemlabError("dataset.rating is read for dataset.min_rating only: set it, or leave both out.")
        self._path, self._data_dir = path, Path(data_dir)
        self._raw_dir = None if raw_dir is None else Path(raw_dir)
        self._format, self._item_file, self._split = format, item_file, split
        self._roles = {"user": user, "item": item, "time": time, "category": category}
        if min_rating is not None:
            self._roles["rating"] = rating
        reading = {"format": format, "separator": separator, "columns": columns, "time_unit": time_unit}
        filters = {"min_rating": min_rating, "k_core": k_core, "on_bad_row": on_bad_row, "split": asdict(split)}
        drawn = {"eval_negatives": eval_negatives, "eval_seed": eval_seed, "largest_negative": largest_negative}
        self._settings: dict[str, Any] = {**reading, **filters, **drawn, "roles": self._roles}

    def build(self) -> Path:
        """Return the prepared directory of the log."""
        named = self._settings["columns"] is not None
        files = find_log_files(self._path, self._raw_dir, self._format, self._item_file, named)
        self._refuse_unread(files.format)
        return prepare_sequences(
            lambda advance: self._read(files, advance),
            name=self.name,
            reader=f"interactions/1 {files.format}",
            settings=self._settings,
            files=files.all,
            root=self._data_dir / "prepared",
        )

    def _refuse_unread(self, kind: InteractionFormat) -> None:
        """Raise StemlabError for settings that a format does not read."""
        unread = {
            "lines": ("separator", "columns", "user", "item", "time", "rating", "category", "min_rating", "item_file"),
            "recbole": ("separator", "columns"),
            "rechorus": (
                *("separator", "columns", "user", "item", "time", "rating", "category", "min_rating", "item_file"),
                *("k_core", "eval_negatives", "largest_negative"),
            ),
            "table": (),
        }[kind]
        values = {**self._settings, **self._roles, "item_file": self._item_file}
        given = [key for key in unread if values.get(key) is not None]
        if kind in ("lines", "rechorus") and self._settings["time_unit"] != "auto":
            given.append("time_unit")
        if given:
            raise StemlabError(
                f"dataset.{given[0]} is set, but a log of the format {kind} ({self._path}) is read without it: leave "
                "it out, or set dataset.format."
            )
        rule = self._split.rule
        if (kind == "rechorus" and rule != "auto") or (kind == "lines" and rule == "time"):
            reason = "has a split of its own" if kind == "rechorus" else "has no times, only the order of each user"
            raise StemlabError(f"dataset.split.rule={rule}: a log of the format {kind} ({self._path}) {reason}.")

    def _read(self, files: InteractionFiles, advance: Advance) -> RawSequences:
        if files.format == "rechorus":
            raw = read_folder(find_parts(files.log), advance)
            return _with_categories(raw, meta_categories(files.log))
        read, columns = self._read_log(files, advance)
        settings = self._settings
        count = settings["eval_negatives"]
        negatives = EvaluationNegatives(
            count=_DEFAULT_NEGATIVES if count is None else count,
            seed=settings["eval_seed"],
            largest=settings["largest_negative"],
        )
        raw = split_log(read.log, self._split, settings["k_core"], negatives, skipped=read.skipped)
        left_out = {"rows_below_min_rating": read.low_ratings, **raw.facts}
        about = {"format": files.format, "columns": columns, "time_unit": read.unit, **left_out}
        _say_what_is_left_out(left_out)
        categories = read.categories
        if files.items is not None:
            categories = self._item_categories(files.items, files.format, columns.get("item"), advance)
        return _with_categories(replace(raw, facts={"log": about}), categories)

    def _read_log(self, files: InteractionFiles, advance: Advance) -> tuple[ReadLog, dict[str, str]]:
        """Return the rows of the log and role -> column; one line says what was read."""
        bad, name = self._settings["on_bad_row"], files.log.name
        if files.format == "lines":
            read = read_lines_log(files.log, on_bad_row=bad, advance=advance)
            _log.info(f"{name} (lines): {len(read.log.user):,} interactions, in the order of each user's items.")
            return read, {}
        table = open_log(files.log, files.format, self._settings["separator"], self._settings["columns"])
        in_log = {role: column for role, column in self._roles.items() if role != "category" or files.items is None}
        names, unit = bare_names(table), self._settings["time_unit"]
        columns = guess_columns(table.path, list(names), in_log)
        read = read_table_log(
            table,
            {role: names[column] for role, column in columns.items()},
            unit=None if unit == "auto" else unit,
            min_rating=self._settings["min_rating"],
            on_bad_row=bad,
            advance=advance,
        )
        roles = ", ".join(f"{role}: {column}" for role, column in columns.items())
        unit_name = UNIT_NAMES[read.unit or "s"]
        _log.info(f"{name} ({files.format}): {len(read.log.user):,} interactions; {roles} ({unit_name}).")
        return read, columns

    def _item_categories(
        self, path: Path, form: InteractionFormat, item: str | None, advance: Advance
    ) -> dict[str, str] | None:
        """Return item -> category of the table of items; ``None`` if it has no column of categories."""
        table = open_log(path, form, None, None)
        names = bare_names(table)
        chosen = {"item": item if item in names else None, "category": self._roles["category"]}
        columns = guess_columns(path, list(names), chosen)
        if "category" not in columns:
            return None
        category = names[columns["category"]]
        separator = None if is_sequence_column(category) else "|"
        return read_category_table(table, names[columns["item"]], category, separator, advance)


def _say_what_is_left_out(counts: Mapping[str, int]) -> None:
    found = [f"{count:,} {_LEFT_OUT[name]}" for name, count in counts.items() if count and name in _LEFT_OUT]
    if found:
        _log.info(f"left out: {', '.join(found)}.")


def _with_categories(raw: RawSequences, category_of: Mapping[str, str] | None) -> RawSequences:
    if category_of is None:
        return raw
    return replace(raw, categories=[category_of.get(item) for item in raw.item_tokens])
