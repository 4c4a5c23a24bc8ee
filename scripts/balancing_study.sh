#!/usr/bin/env bash
# Methods of model.balancing: Shared-Bottom on MovieLens-1M as a multi-task set, each method with three seeds.
#
#   scripts/balancing_study.sh
#
# A small network, three epochs with a high learning rate: about fifteen minutes on one core. Needs the official files of
# MovieLens-1M in data/raw/ml1m. Finished runs are skipped, so an interrupted study can be started again. Environment:
# RUNS, SEEDS, METHODS, JOBS (parallel runs), PYTHON.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/study.sh

RUNS=${RUNS:-runs/studies/balancing}
SEEDS=${SEEDS:-2023 76 525}
METHODS=${METHODS:-sum uncertainty dwa gls gradnorm pcgrad mgda cagrad imtl_g aligned_mtl nash_mtl upgrad}

for seed in $SEEDS; do
  for method in $METHODS; do
    echo "$RUNS/${method}_seed$seed experiment=ml1m_multitask/shared_bottom optim.lr=4e-3 trainer.max_epochs=3" \
      "trainer.threads=1 model.balancing=$method seed=$seed logger=csv"
  done
done | train_all
"$PYTHON" -m stemlab.report study=ml1m_balancing "runs=[$RUNS]" copies=scripts/records/ml1m_balancing "output=$RUNS"
