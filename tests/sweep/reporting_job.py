"""A job that reports epochs to its sweep until the sweep ends it: ``reporting_job <directory> <exit status>``."""

import os
import sys
from pathlib import Path

from stemlab.config.trial_channel import EpochReport, trial_channel

if __name__ == "__main__":
    directory, status = Path(sys.argv[1]), int(sys.argv[2])
    assert trial_channel(directory / "first stage") is None
    channel = trial_channel(directory)
    epoch = 1
    while not channel.stops_after(EpochReport(epoch, epoch / 10, last=False)):
        epoch += 1
    print(f"stopped after epoch {epoch} on GPU {os.environ.get('CUDA_VISIBLE_DEVICES')}")
    sys.exit(status)
