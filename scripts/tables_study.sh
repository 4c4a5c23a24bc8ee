#!/usr/bin/env bash
# Quality of optim.tables: Shared-Bottom on MovieLens-1M and MMoE on the TikTok sample (synthetic), each rule, three seeds.
#
#   scripts/tables_study.sh
#
# Small networks, four epochs with a high learning rate: about fifteen minutes on one core. Needs the official files of
# MovieLens-1M in data/raw/ml1m. Finished runs are skipped, so an interrupted study can be started again. Environment:
# RUNS, DATASETS, SEEDS, RULES, JOBS (parallel runs), PYTHON. The last rule needs `make torchrec` and trains without clipping.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/study.sh

RUNS=${RUNS:-runs/studies/tables}
SEEDS=${SEEDS:-2023 76 525}
DATASETS=${DATASETS:-ml1m tiktok}
RULES=${RULES:-dense_adam sparse_adam rowwise_adagrad torchrec_rowwise_adagrad}

declare -A OPTIONS=(
  [ml1m]="experiment=ml1m_multitask/shared_bottom optim.lr=4e-3 trainer.max_epochs=4"
  [tiktok]="experiment=tiktok_conflict/mmoe dataset.batch_size=2048 optim.lr=4e-3 trainer.max_epochs=4"
)
for dataset in $DATASETS; do
  for seed in $SEEDS; do
    for rule in $RULES; do
      rate=$([[ $rule == *rowwise_adagrad ]] && echo "optim.tables_lr=0.05" || true)
      if [[ $rule == torchrec_* ]]; then rate+=" optim.clip_norm=null"; fi
      echo "$RUNS/$dataset/${rule}_seed$seed ${OPTIONS[$dataset]} optim.tables=$rule $rate seed=$seed logger=csv"
    done
  done | train_all
  "$PYTHON" -m stemlab.report "study=${dataset}_tables" "runs=[$RUNS/$dataset]" "copies=scripts/records/${dataset}_tables" \
    "output=$RUNS/$dataset"
done
