#!/usr/bin/env bash
# Effect of task conflict: STEM, MMoE and PLE on the TikTok sample (synthetic), three levels of conflict, three seeds.
#
#   scripts/conflict_study.sh
#
# Small networks (conf/experiment/tiktok_conflict): about ten minutes on two cores. Finished runs are skipped, so an
# interrupted study can be started again. Environment: RUNS, SEEDS, LEVELS, MODELS, JOBS (parallel runs), PYTHON.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/study.sh

RUNS=${RUNS:-runs/studies/tiktok_conflict}
SEEDS=${SEEDS:-2023 76 525}
LEVELS=${LEVELS:-0.0 0.5 1.0}
MODELS=${MODELS:-mmoe ple stem}

for level in $LEVELS; do
  "$PYTHON" -m stemlab.prepare dataset=tiktok dataset.source=sample "dataset.sample.conflict=$level"
  for seed in $SEEDS; do
    for model in $MODELS; do
      echo "$RUNS/${model}_conflict${level}_seed$seed" \
        "experiment=tiktok_conflict/$model dataset.sample.conflict=$level seed=$seed logger=csv"
    done
  done | train_all
done

"$PYTHON" -m stemlab.report study=tiktok_conflict "runs=[$RUNS]" copies=scripts/records/tiktok_conflict "output=$RUNS"
