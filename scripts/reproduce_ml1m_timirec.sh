#!/usr/bin/env bash
# TiMiRec+ on MovieLens-1M in two stages, then compare it with the released training log.
#
#   scripts/reproduce_ml1m_timirec.sh RAW_DIR
#
# RAW_DIR holds ratings.dat, or train, dev and test in the ReChorus format (the released evaluation files with stored
# negatives; data/README.md).
# Finished runs are skipped, interrupted ones are resumed where they stopped; stage 2 uses stage 1.
# Environment: RUNS (default runs/studies/ml1m_timirec), SEEDS, MODELS, JOBS (parallel runs), PYTHON, and WORDS
# (settings for every run: WORDS="trainer=gpu").
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/study.sh

RAW_DIR=${1:-${RAW_DIR:-data/raw/ml1m}}
RUNS=${RUNS:-runs/studies/ml1m_timirec}
SEEDS=${SEEDS:-1}
MODELS=${MODELS:-timirec_pretrain timirec}
WORDS=${WORDS:-}

if [[ -f $RAW_DIR/ratings.dat ]]; then
  DATA="dataset=ml1m dataset.raw_dir=$RAW_DIR"
elif compgen -G "$RAW_DIR/train*.csv*" >/dev/null; then
  DATA="dataset=rechorus dataset.name=ml1m dataset.raw_dir=$RAW_DIR"
else
  echo "error: $RAW_DIR has neither ratings.dat nor train, dev and test; set RAW_DIR to the folder of MovieLens-1M (data/README.md)." >&2
  exit 2
fi
# shellcheck disable=SC2086  # DATA holds several words
"$PYTHON" -m stemlab.prepare $DATA
for seed in $SEEDS; do
  for model in $MODELS; do
    # No space at the end of a line: xargs -L would join the next line to it.
    echo "$RUNS/${model}_seed$seed experiment=ml1m/$model seed=$seed $DATA logger=csv${WORDS:+ $WORDS}"
  done
done | train_all

"$PYTHON" -m stemlab.report study=ml1m_timirec "runs=[$RUNS]" copies=scripts/records/ml1m_timirec "output=$RUNS"
