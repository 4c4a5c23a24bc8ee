# Sourced by the studies: train each job once, in a folder of its own; a study that was interrupted goes on where it was.
# shellcheck shell=bash

PYTHON=${PYTHON:-python}
JOBS=${JOBS:-1} # trainings at a time
export PYTHON

# Usage: train_once FOLDER WORD...   Trains into FOLDER unless its record says finished.
# Half a run goes on after its last whole epoch; what it had written lies in FOLDER/part1, part2 ... afterwards. The
# record counts time and samples of the last part only.
train_once() {
  local folder=$1 part=0 last
  shift
  if grep -qs '"status": "finished"' "$folder/record.json"; then
    echo "done already: $folder"
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
    echo "going on: $folder"
    set -- "$@" "ckpt_path=$last"
  else
    echo "training: $folder"
  fi
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
