# Sourced by the study scripts: train each run once, in its own folder; an interrupted study can be started again.
# shellcheck shell=bash

PYTHON=${PYTHON:-python}
JOBS=${JOBS:-1} # parallel runs
export PYTHON

# Usage: train_once FOLDER OVERRIDE...   Train into FOLDER; an interrupted run is resumed where it stopped (docs/running.md).
# Time and samples in the record are those of the last part only.
train_once() {
  local folder=$1
  shift
  if grep -qs '"status": "finished"' "$folder/record.json"; then
    echo "finished: $folder"
    return 0
  fi
  mkdir -p "$folder"
  echo "training: $folder"
  if ! "$PYTHON" -m stemlab.train "$@" resume=auto "hydra.run.dir=$folder" >>"$folder/output.txt" 2>&1; then
    echo "FAILED: $folder (see $folder/output.txt)" >&2
    return 1
  fi
}
export -f train_once

# Usage: ... | train_all   Read lines "FOLDER OVERRIDE..." (no spaces inside) and train JOBS of them in parallel.
train_all() {
  xargs -P "$JOBS" -L 1 bash -c 'train_once "$@"' train_once
}
