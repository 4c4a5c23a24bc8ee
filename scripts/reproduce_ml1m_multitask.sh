#!/usr/bin/env bash
# The README's table on MovieLens-1M: train ten models (single_task: two networks) with three seeds, then report.
#
#   scripts/reproduce_ml1m_multitask.sh RAW_DIR        RAW_DIR holds ratings.dat, users.dat and movies.dat
#
# About two hours on two cores. Finished runs are skipped, so an interrupted study can be started again.
# Environment: RUNS (default runs/studies/ml1m_multitask), SEEDS, MODELS, JOBS (parallel runs), PYTHON.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/study.sh

RAW_DIR=${1:-${RAW_DIR:-data/raw/ml1m}}
RUNS=${RUNS:-runs/studies/ml1m_multitask}
SEEDS=${SEEDS:-2023 76 525}
MODELS=${MODELS:-single_task_like single_task_love shared_bottom omoe mmoe ple esmm aitm mmoe_me ple_me stem}

if [[ ! -f $RAW_DIR/ratings.dat ]]; then
  echo "error: there is no $RAW_DIR/ratings.dat; set RAW_DIR to the folder of MovieLens-1M (data/README.md)." >&2
  exit 2
fi
"$PYTHON" -m stemlab.prepare dataset=ml1m_multitask "dataset.raw_dir=$RAW_DIR"
for seed in $SEEDS; do
  for model in $MODELS; do
    echo "$RUNS/${model}_seed$seed experiment=ml1m_multitask/$model seed=$seed dataset.raw_dir=$RAW_DIR logger=csv"
  done
done | train_all

"$PYTHON" -m stemlab.report study=ml1m_multitask "runs=[$RUNS]" copies=scripts/records/ml1m_multitask "output=$RUNS"
