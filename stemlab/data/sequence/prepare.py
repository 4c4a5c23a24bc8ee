"""Preparation of sequence datasets: raw interactions to an atomic, fingerprinted directory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import stemlab
from stemlab.data.io.progress import Advance, ProgressBars
from stemlab.data.prepare.atomic_directory import file_errors, find_or_build
from stemlab.data.prepare.manifest import FORMAT, describe_file, find_damage, fingerprint_of, write_manifest
from stemlab.data.sequence.raw import RawSequences
from stemlab.data.sequence.writer import write_log
from stemlab.data.spec import SequenceSpec

_log = logging.getLogger(__name__)


def prepare_sequences(
    read: Callable[[Advance], RawSequences],
    *,
    name: str,
    reader: str,
    settings: Mapping[str, Any],
    files: Sequence[Path],
    root: Path,
    sample: bool = False,
) -> Path:
    """Return the prepared directory of these files and settings; build it if it does not exist.

    Args:
        read: reads the raw files and reports the bytes consumed; called only when the directory must be built.
        name: dataset name.
        reader: name and version of ``read``; the version must be increased when the same files are read differently.
        settings: all other settings that determine the result, as plain JSON values; stored in the manifest.
        files: all raw files that are read.
        root: directory of all prepared datasets.
        sample: whether the files are synthetic.

    Raises:
        StemlabError: ``read`` fails, ids are out of range, or the disk is full.
    """
    with file_errors(root), ProgressBars() as progress:
        size = sum(path.stat().st_size for path in files)
        advance = progress.bytes("checking raw files", size)
        raw = [describe_file(path, root / ".hashes.json", advance) for path in files]
        inputs = {"kind": "sequence", "name": name, "reader": reader, "sample": sample, "raw": raw, **settings}
        fingerprint = fingerprint_of(inputs)

        def build(directory: Path) -> None:
            sequences = read(progress.bytes("reading raw files", size))
            sequences.check(name)
            spec = SequenceSpec(name, sequences.users, sequences.items, sample=sample)
            contents = write_log(directory, sequences)
            _warn(name, contents)
            about = {"fingerprint": fingerprint, "raw": raw, "settings": dict(settings), **sequences.facts}
            write_manifest(directory, {**_manifest(spec, contents, sequences.skipped), **about})

        return find_or_build(
            root / f"{name}-{fingerprint[:12]}", lambda directory: find_damage(directory, fingerprint), build
        )


def _warn(name: str, contents: Mapping[str, Any]) -> None:
    for split, rows in contents["positives_among_negatives"].items():
        if rows:
            _log.warning(
                "dataset %r: %d %s rows have their own positive among their negatives; its rank includes that tie",
                name,
                rows,
                split,
            )
    for split, rows in contents["rows_without_history"].items():
        if rows:
            _log.warning(
                "dataset %r: %d of %d %s rows have no earlier interaction of their user and are not evaluated",
                name,
                rows,
                contents["interactions"][split],
                split,
            )


def _manifest(spec: SequenceSpec, contents: Mapping[str, Any], skipped: int) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "stemlab": stemlab.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "sample": spec.sample,
        "spec": spec.to_dict(),
        **contents,
        "skipped_rows": skipped,
    }
