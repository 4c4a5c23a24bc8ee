"""Prepares impression datasets: split rows, fit vocabularies and scaling on train, write encoded columns and manifest.

Every step processes the rows in chunks, so memory does not grow with the data, except for the split codes (with their
permutation) and the value counts of one field. The rules are in ``docs/methods/datasets.md#common-rules``. An
interrupted preparation continues after the last chunk that it read, if the reader is a ``ResumableImpressions``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import stemlab
from stemlab.array_types import AnyArray
from stemlab.data.io.prefetch import prefetch
from stemlab.data.io.progress import Advance, ProgressBars
from stemlab.data.prepare.assign_splits import assign_splits
from stemlab.data.prepare.atomic_directory import blocks_of, file_errors, find_or_build
from stemlab.data.prepare.column_cache import ColumnCache
from stemlab.data.prepare.fit_vocabularies import FittedEncoders, fit_encoders
from stemlab.data.prepare.manifest import FORMAT, describe_file, find_damage, fingerprint_of, write_manifest
from stemlab.data.prepare.preparation_settings import PreparationSettings
from stemlab.data.prepare.split import SPLITS
from stemlab.data.prepare.write_splits import SplitCounts, write_splits
from stemlab.data.spec import DatasetSpec, Field
from stemlab.data.target_columns import weight_column
from stemlab.errors import StemlabError

_log = logging.getLogger(__name__)


class RawImpressions(Protocol):
    """Reader of a dataset's raw files: int64 columns, and float32 for numerical columns (NaN: missing).

    A reader may have ``notes``, a mapping that is complete after ``chunks``; the manifest stores it under ``source``.
    """

    @property
    def kind(self) -> str:
        """Name and version of the reader; part of the fingerprint."""

    @property
    def files(self) -> Sequence[Path]:
        """All raw files that are read."""

    @property
    def sample(self) -> bool:
        """Whether the data is synthetic."""

    @property
    def skipped(self) -> int:
        """Number of skipped bad rows; final when ``chunks`` is exhausted."""

    @property
    def tokens(self) -> Mapping[str, Sequence[str]]:
        """Column -> strings that its integers index; other columns have integer tokens. Complete after ``chunks``."""

    def chunks(self, advance: Advance) -> Iterator[Mapping[str, AnyArray]]:
        """Yield the columns in chunks, in row order; call ``advance`` with the number of bytes read."""
        ...


@runtime_checkable
class ResumableImpressions(RawImpressions, Protocol):
    """Reader that can continue after chunks that an interrupted process has read."""

    def restore(self, states: Sequence[Any]) -> bool:
        """Continue after the chunks with these states; return False, unchanged, if that is impossible."""

    def chunks_with_state(self, advance: Advance) -> Iterator[tuple[Mapping[str, AnyArray], Any]]:
        """Yield what ``chunks`` yields, each with the state of the reader after it (plain JSON values)."""
        ...


def prepare_impressions(raw: RawImpressions, config: PreparationSettings, root: Path, on_bad_row: str) -> Path:
    """Return the prepared directory for these files and settings; build it if it does not exist.

    Args:
        raw: reader of the raw files.
        config: settings of the preparation.
        root: directory of all prepared datasets.
        on_bad_row: ``error`` or ``skip``, as ``raw`` was configured; part of the fingerprint.

    Raises:
        StemlabError: a bad row, too few rows, or a full disk.
    """
    config.check()
    with file_errors(root), ProgressBars() as progress:
        size = sum(path.stat().st_size for path in raw.files)
        advance = progress.bytes("checking raw files", size)
        files = [describe_file(path, root / ".hashes.json", advance) for path in raw.files]
        settings = {
            "reader": raw.kind,
            "sample": raw.sample,
            "raw": files,
            "on_bad_row": on_bad_row,
            **config.settings(),
        }
        fingerprint = fingerprint_of(settings)
        about = {"fingerprint": fingerprint, "raw": files, "on_bad_row": on_bad_row}
        final = root / f"{config.name}-{fingerprint[:12]}"
        return find_or_build(
            final,
            lambda directory: find_damage(directory, fingerprint),
            lambda directory: _build(directory, blocks_of(final), raw, config, progress, about),
        )


def _build(
    directory: Path,
    blocks: Path,
    raw: RawImpressions,
    config: PreparationSettings,
    progress: ProgressBars,
    about: Mapping[str, Any],
) -> None:
    key = f"{about['fingerprint']} stemlab {stemlab.__version__}" if isinstance(raw, ResumableImpressions) else None
    folder = directory / "columns" if key is None else blocks
    with ColumnCache(folder, config.columns, config.float_columns, key, config.widths) as cache:
        _read_columns(cache, raw, config, progress)
        codes = assign_splits(cache, config)
        encoders = fit_encoders(directory, cache, codes, config, raw.tokens, progress)
        advance, missing = progress.rows("writing splits", len(cache)), _missing_group(raw, config)
        counts = write_splits(directory, cache, codes, encoders, config, advance, missing)
    spec = DatasetSpec(
        config.name,
        _fields(config, encoders),
        config.tasks,
        config.group,
        scenarios=config.scenarios,
        sample=raw.sample,
        labels=config.labels,
        weight=None if config.weight is None else weight_column(config.weight),
    )
    optional = _optional(raw, config, encoders, counts)
    write_manifest(directory, {**_manifest(spec, config, counts, raw.skipped), **optional, **about})


def _missing_group(raw: RawImpressions, config: PreparationSettings) -> int | None:
    """Return the code of an empty cell of the group column; None if no cell is empty."""
    strings = raw.tokens.get(config.group or "", ())
    return next((code for code, text in enumerate(strings) if not text), None)  # no copy of all strings


def _read_columns(cache: ColumnCache, raw: RawImpressions, config: PreparationSettings, progress: ProgressBars) -> None:
    advance = progress.bytes("reading raw files", sum(path.stat().st_size for path in raw.files))
    if isinstance(raw, ResumableImpressions):
        if not raw.restore(cache.states):
            cache.restart()
        cache.states.clear()
        if len(cache):
            _log.info(f"{len(cache):,} rows that an interrupted preparation of {config.name} has read are reused.")
        chunks = iter(()) if cache.complete else raw.chunks_with_state(advance)
    else:
        chunks = ((chunk, None) for chunk in raw.chunks(advance))
    for chunk, state in prefetch(chunks):
        if config.split.rule == "given" and config.split_column not in chunk:
            raise StemlabError(f"dataset.split.rule=given: {config.name} has no split column; use another rule.")
        cache.append(chunk, state)
    cache.finish()
    if not len(cache):
        raise StemlabError(f"{raw.files[0]} has no valid row ({raw.skipped} bad rows were skipped).")


def _fields(config: PreparationSettings, encoders: FittedEncoders) -> tuple[Field, ...]:
    categorical = (Field(name, encoders.sizes[name], table=config.shared.get(name)) for name in config.fields)
    numerical = (Field(column.name, 0, "numerical", column.part) for column in config.numericals)
    lists = (replace(column, size=encoders.sizes[column.name]) for column in config.lists)
    return (*categorical, *numerical, *lists)


def _manifest(spec: DatasetSpec, config: PreparationSettings, counts: SplitCounts, skipped: int) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "stemlab": stemlab.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "sample": spec.sample,
        "spec": spec.to_dict(),
        "rows": dict(zip(SPLITS, counts.rows.sum(axis=1).tolist(), strict=True)),
        "positives": {
            split: dict(zip(config.tasks, positives, strict=True))
            for split, positives in zip(SPLITS, counts.positives.sum(axis=1).tolist(), strict=True)
        },
        "skipped_rows": skipped,
        "split": asdict(config.split),
        "min_count": config.min_count,
        "vocabulary": spec.field_sizes,
    }


def _optional(
    raw: RawImpressions, config: PreparationSettings, encoders: FittedEncoders, counts: SplitCounts
) -> dict[str, Any]:
    """Return the manifest entries that depend on the dataset (scenarios, numerical columns, ...)."""
    entries: dict[str, Any] = {}
    if config.numericals:
        entries["numericals"] = {
            c.name: {"part": c.part, **encoders.scalers[c.name].to_dict()} for c in config.numericals
        }
    if config.scenario is not None:
        entries["scenario_column"] = config.scenario
        entries["scenarios"] = {split: _by_scenario(config, counts, code) for code, split in enumerate(SPLITS)}
    if config.padding:
        entries["padding"] = {name: _token(raw.tokens.get(name), value) for name, value in config.padding.items()}
    if encoders.edges:
        entries["quantile_edges"] = {name: list(edges) for name, edges in encoders.edges.items()}
    if config.sampling is not None:
        entries["sampling"] = asdict(config.sampling)
    entries |= counts.labels.entries()
    notes = getattr(raw, "notes", None)
    if notes:
        entries["source"] = dict(notes)
    return entries


def _by_scenario(config: PreparationSettings, counts: SplitCounts, code: int) -> dict[str, Any]:
    counted = zip(config.scenarios, counts.rows[code].tolist(), counts.positives[code].tolist(), strict=True)
    return {
        name: {"rows": rows, "positives": dict(zip(config.tasks, positives, strict=True))}
        for name, rows, positives in counted
    }


def _token(tokens: Sequence[str] | None, value: int) -> str:
    return str(value) if tokens is None else tokens[value]
