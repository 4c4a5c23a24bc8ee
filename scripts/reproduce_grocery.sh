#!/usr/bin/env bash
# The table of TiMiRec's repository on Grocery and Gourmet Food: train eleven models, then compare their numbers.
#
#   scripts/reproduce_grocery.sh RAW_DIR        RAW_DIR holds train, dev and test (.csv or .csv.gz; data/README.md)
#
# Finished runs are skipped, interrupted ones are resumed where they stopped.
# Environment: RUNS (default runs/studies/grocery), SEEDS, MODELS, JOBS (parallel runs), PYTHON.
# More seeds of one model: SEEDS="0 1 2" MODELS=timirec_plus scripts/reproduce_grocery.sh RAW_DIR
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/study.sh

RAW_DIR=${1:-${RAW_DIR:-data/raw/grocery}}
RUNS=${RUNS:-runs/studies/grocery}
SEEDS=${SEEDS:-0}
MODELS=${MODELS:-bprmf lightgcn gru4rec youtube mind sasrec tisasrec comirec comirec_plus timirec timirec_plus}

if [[ ! -f $RAW_DIR/train.csv && ! -f $RAW_DIR/train.csv.gz ]]; then
  echo "error: there is no train.csv or train.csv.gz in $RAW_DIR; set RAW_DIR to the folder of Grocery (data/README.md)." >&2
  exit 2
fi
"$PYTHON" -m stemlab.prepare dataset=grocery "dataset.raw_dir=$RAW_DIR"
for seed in $SEEDS; do
  for model in $MODELS; do
    echo "$RUNS/${model}_seed$seed experiment=grocery/$model seed=$seed dataset.raw_dir=$RAW_DIR logger=csv"
  done
done | train_all

"$PYTHON" -m stemlab.report study=grocery "runs=[$RUNS]" copies=scripts/records/grocery "output=$RUNS"
