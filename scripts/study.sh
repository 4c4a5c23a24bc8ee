# Sourced by the study scripts: train each run once, in its own folder; an interrupted study can be started again.
# shellcheck shell=bash

PYTHON=${PYTHON:-python}
JOBS=${JOBS:-1} # parallel runs
export PYTHON

# Usage: train_once FOLDER OVERRIDE...   Train into FOLDER unless its record has status finished.
# An interrupted run is resumed after its last complete epoch; its earlier files are moved to FOLDER/part1, part2 ...
# Time and samples in the record are those of the last part only.
train_once() {
  local folder=$1 part=0 last
  shift
  if grep -qs '"status": "finished"' "$folder/record.json"; then
    echo "finished: $folder"
    return 0
  fi
  mkdir -p "$folder"
  while [[ -e $folder/part$((part + 1)) ]]; do part=$((part + 1)); done
  if [[ -f $folder/checkpoints/last.ckpt ]]; then
    part=$((part + 1))
    mkdir "$folder/part$part"
    find "$folder" -mindepth 1 -maxdepth 1 ! -name 'part*' -exec mv {} "$folder/part$part/" ';'
    rm -f "$folder/part$part/record.json"
  fi
  last=$folder/part$part/checkpoints/last.ckpt
  if [[ -f $last ]]; then
    echo "resuming: $folder"
    set -- "$@" "ckpt_path=$last"
  else
    echo "training: $folder"
  fi
  if ! "$PYTHON" -m stemlab.train "$@" "hydra.run.dir=$folder" >"$folder/output.txt" 2>&1; then
    echo "FAILED: $folder (see $folder/output.txt)" >&2
    return 1
  fi
}
export -f train_once

# Usage: ... | train_all   Read lines "FOLDER OVERRIDE..." (no spaces inside) and train JOBS of them in parallel.
train_all() {
  xargs -P "$JOBS" -L 1 bash -c 'train_once "$@"' train_once
}
