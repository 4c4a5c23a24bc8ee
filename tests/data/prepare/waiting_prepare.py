"""Prepare the TikTok dataset of a folder; before the manifest is written, wait for the file ``go`` in the folder."""

import sys
import time
from pathlib import Path
from typing import Any

from stemlab.data.prepare import pipeline
from tests.data.tiktok_rows import tiktok

_write_manifest = pipeline.write_manifest


def _wait_and_write(*arguments: Any) -> Any:
    print("written", flush=True)
    while not Path(sys.argv[1], "go").exists():
        time.sleep(0.01)
    return _write_manifest(*arguments)


if __name__ == "__main__":
    pipeline.write_manifest = _wait_and_write  # type: ignore[attr-defined]
    print(tiktok(Path(sys.argv[1])).prepare(), flush=True)
