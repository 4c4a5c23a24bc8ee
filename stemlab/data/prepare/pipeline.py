"""Raw impressions -> prepared directory: split, vocabularies and scaling from train, encoded columns, manifest.

Every step goes through the rows chunk by chunk; only the split codes (and their permutation) and one field's counts
grow with the data.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import stemlab
from stemlab.array_types import AnyArray
from stemlab.data.io.prefetch import prefetch
from stemlab.data.io.progress import Advance, ProgressBars
from stemlab.data.prepare.assign_splits import assign_splits
from stemlab.data.prepare.atomic_directory import find_or_build
from stemlab.data.prepare.column_cache import ColumnCache
from stemlab.data.prepare.fit_vocabularies import FittedEncoders, fit_encoders
from stemlab.data.prepare.manifest import FORMAT, describe_file, find_damage, fingerprint_of, write_manifest
from stemlab.data.prepare.prepare_config import NumericalColumn, PrepareConfig
from stemlab.data.prepare.split import SPLITS
from stemlab.data.prepare.write_splits import SplitCounts, write_splits
from stemlab.data.spec import DatasetSpec, Field
from stemlab.errors import StemlabError

__all__ = ["NumericalColumn", "PrepareConfig", "RawImpressions", "prepare_impressions"]


class RawImpressions(Protocol):
    """A dataset's raw files as columns: integers, and float32 for numerical columns (NaN: no value).

    It may have ``notes``, a mapping known after ``chunks``, which the manifest tells under ``source``.
    """

    @property
    def kind(self) -> str:
        """Name and version of the reader; part of the fingerprint."""

    @property
    def files(self) -> Sequence[Path]:
        """Every raw file that is read."""

    @property
    def sample(self) -> bool:
        """Whether they are synthetic."""

    @property
    def skipped(self) -> int:
        """Bad rows left out, known when ``chunks`` is exhausted."""

    @property
    def tokens(self) -> Mapping[str, Sequence[str]]:
        """Column -> strings that its integers stand for; other columns are their own tokens. Known after ``chunks``."""

    def chunks(self, advance: Advance) -> Iterator[Mapping[str, AnyArray]]:
        """Yield the columns chunk by chunk in row order, telling ``advance`` the bytes of the files consumed."""
        ...


def prepare_impressions(raw: RawImpressions, config: PrepareConfig, root: Path, on_bad_row: str) -> Path:
    """Return the prepared directory of these files and this config, building it if there is none.

    Args:
        raw: the raw files.
        config: how to prepare them.
        root: directory of all prepared datasets.
        on_bad_row: how ``raw`` treats bad rows; part of the fingerprint.

    Raises:
        StemlabError: bad rows, too few rows, a full disk.
    """
    config.check()
    with ProgressBars() as progress:
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
        return find_or_build(
            root / f"{config.name}-{fingerprint[:12]}",
            lambda directory: find_damage(directory, fingerprint),
            lambda directory: _build(directory, raw, config, progress, about),
        )


def _build(
    directory: Path, raw: RawImpressions, config: PrepareConfig, progress: ProgressBars, about: Mapping[str, Any]
) -> None:
    spool = _spool(directory / "spool", raw, config, progress)
    codes = assign_splits(spool, config)
    encoders = fit_encoders(directory, spool, codes, config, raw.tokens, progress)
    counts = write_splits(directory, spool, codes, encoders, config, progress.rows("writing splits", len(spool)))
    spool.close()
    shutil.rmtree(directory / "spool")
    spec = DatasetSpec(
        config.name,
        _fields(config, encoders),
        config.tasks,
        config.group,
        scenarios=config.scenarios,
        sample=raw.sample,
    )
    optional = _optional(raw, config, encoders, counts)
    write_manifest(directory, {**_manifest(spec, config, counts, raw.skipped), **optional, **about})


def _spool(directory: Path, raw: RawImpressions, config: PrepareConfig, progress: ProgressBars) -> ColumnCache:
    spool = ColumnCache(directory, config.columns, [column.name for column in config.numericals])
    advance = progress.bytes("reading raw files", sum(path.stat().st_size for path in raw.files))
    for chunk in prefetch(raw.chunks(advance)):
        if config.split.rule == "given" and config.split_column not in chunk:
            raise StemlabError(f"dataset.split.rule=given: the rows of {config.name} have no split: use another.")
        spool.append(chunk)
    if not len(spool):
        raise StemlabError(f"{raw.files[0]} has no usable row ({raw.skipped} bad rows were skipped).")
    return spool


def _fields(config: PrepareConfig, encoders: FittedEncoders) -> tuple[Field, ...]:
    categorical = (Field(name, encoders.sizes[name], table=config.shared.get(name)) for name in config.fields)
    numerical = (Field(column.name, 0, "numerical", column.part) for column in config.numericals)
    return (*categorical, *numerical)


def _manifest(spec: DatasetSpec, config: PrepareConfig, counts: SplitCounts, skipped: int) -> dict[str, Any]:
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
        "split": config.split.settings(),
        "min_count": config.min_count,
        "vocabulary": spec.field_sizes,
    }


def _optional(
    raw: RawImpressions, config: PrepareConfig, encoders: FittedEncoders, counts: SplitCounts
) -> dict[str, Any]:
    """Return what only some manifests say."""
    told: dict[str, Any] = {}
    if config.numericals:
        told["numericals"] = {c.name: {"part": c.part, **encoders.scalers[c.name].to_dict()} for c in config.numericals}
    if config.scenario is not None:
        told["scenario_column"] = config.scenario
        told["scenarios"] = {split: _by_scenario(config, counts, code) for code, split in enumerate(SPLITS)}
    if config.padding:
        told["padding"] = {name: _token(raw.tokens.get(name), value) for name, value in config.padding.items()}
    if config.sampling is not None:
        told["sampling"] = asdict(config.sampling)
    notes = getattr(raw, "notes", None)
    if notes:
        told["source"] = dict(notes)
    return told


def _by_scenario(config: PrepareConfig, counts: SplitCounts, code: int) -> dict[str, Any]:
    told = zip(config.scenarios, counts.rows[code].tolist(), counts.positives[code].tolist(), strict=True)
    return {
        name: {"rows": rows, "positives": dict(zip(config.tasks, positives, strict=True))}
        for name, rows, positives in told
    }


def _token(tokens: Sequence[str] | None, value: int) -> str:
    return str(value) if tokens is None else tokens[value]
