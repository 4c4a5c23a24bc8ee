"""Raw interactions -> prepared directory, built once and in one step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import stemlab
from stemlab.data.io.progress import Advance, ProgressBars
from stemlab.data.prepare.atomic_directory import find_or_build
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
    """Return the prepared directory of these files and settings, building it if there is none.

    Args:
        read: reads the raw files, telling the bytes consumed; called only if something is to be built.
        name: dataset name.
        reader: name and version of ``read`` (raise the version when the same files would be read differently).
        settings: all else that determines the result, as plain JSON values; kept in the manifest.
        files: every raw file that is read.
        root: directory of all prepared datasets.
        sample: whether the files are synthetic.

    Raises:
        StemlabError: what ``read`` raises, ids out of range, a full disk.
    """
    with ProgressBars() as progress:
        size = sum(path.stat().st_size for path in files)
        advance = progress.bytes("checking raw files", size)
        raw = [describe_file(path, root / ".hashes.json", advance) for path in files]
        known = {"kind": "sequence", "name": name, "reader": reader, "sample": sample, "raw": raw, **settings}
        fingerprint = fingerprint_of(known)

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
                "dataset %r: %d %s rows list their own positive as a negative; it ties with itself in their rank",
                *(name, rows, split),
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
