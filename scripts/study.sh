# Sourced by the studies: train each job once, in a folder of its own; a study that was interrupted goes on where it was.
# shellcheck shell=bash

PYTHON=${PYTHON:-python}
JOBS=${JOBS:-1} # trainings at a time
export PYTHON

# Usage: train_once FOLDER WORD...   Trains into FOLDER unless its record says finished; half a run is begun again.
train_once() {
  local folder=$1
  shift
  if grep -qs '"status": "finished"' "$folder/record.json"; then
    echo "done already: $folder"
    return 0
  fi
  rm -rf "$folder"
  mkdir -p "$folder"
  echo "training: $folder"
  if ! "$PYTHON" -m stemlab.train "$@" "hydra.run.dir=$folder" >"$folder/output.txt" 2>&1; then
    echo "FAILED: $folder (see output.txt there)" >&2
    return 1
  fi
}
export -f train_once

# Usage: ... | train_all   Reads lines "FOLDER WORD..." (no spaces in them) and trains JOBS of them at a time.
train_all() {
  xargs -P "$JOBS" -L 1 bash -c 'train_once "$@"' train_once
}
