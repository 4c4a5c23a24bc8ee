#!/usr/bin/env bash
# Analyses on MovieLens-1M: train missing runs, then write the pages shown in scripts/records/analysis.
#
#   scripts/analyze_ml1m.sh RAW_DIR        RAW_DIR holds ratings.dat, users.dat and movies.dat
#
# Finished runs are skipped, interrupted ones are resumed after their last complete epoch.
# Environment: RUNS (default runs/studies, where the other scripts store their runs), PAGES (default runs/analysis/ml1m),
# JOBS (parallel runs), PYTHON.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/study.sh

RAW_DIR=${1:-${RAW_DIR:-data/raw/ml1m}}
RUNS=${RUNS:-runs/studies}
PAGES=${PAGES:-runs/analysis/ml1m}
TASKS=$RUNS/ml1m_multitask SEQUENCES=$RUNS/ml1m_target_attention

if [[ ! -f $RAW_DIR/ratings.dat ]]; then
  echo "error: there is no $RAW_DIR/ratings.dat; set RAW_DIR to the folder of MovieLens-1M (data/README.md)." >&2
  exit 2
fi
"$PYTHON" -m stemlab.prepare dataset=ml1m_multitask "dataset.raw_dir=$RAW_DIR"
"$PYTHON" -m stemlab.prepare dataset=ml1m dataset.eval_negatives=99 "dataset.raw_dir=$RAW_DIR"
{
  data="dataset.raw_dir=$RAW_DIR logger=csv"
  for model in single_task_like single_task_love shared_bottom mmoe ple stem; do
    echo "$TASKS/${model}_seed2023 experiment=ml1m_multitask/$model seed=2023 $data"
  done
  for task in like love; do # control: how much two seeds differ
    echo "$TASKS/single_task_${task}_seed76 experiment=ml1m_multitask/single_task_$task seed=76 $data"
  done
  shared="dataset=ml1m_multitask dataset.batch_size=4096 model.net.embedding_dim=16 callbacks.early_stop.patience=1"
  shared="$shared trainer.max_epochs=20 seed=2023 $data"
  echo "$TASKS/dcnv2_seed2023 model=dcnv2 $shared"
  echo "$TASKS/dcnv2_me_seed2023 model=dcnv2 model.name=dcnv2_me model.net.num_tables=4 $shared"
  shared="dataset=ml1m dataset.eval_negatives=99 dataset.batch_size=1024 trainer.max_epochs=5 seed=1 $data"
  echo "$SEQUENCES/tin_seed1 model=tin $shared"
  for model in din din_plus; do # dot-product attention, as the paper's formula needs it
    echo "$SEQUENCES/${model}_seed1 model=$model model.net.attention=dot $shared"
  done
} | train_all

analyse() { # NAME RUN...
  local name=$1 runs
  runs=$(IFS=, && echo "${*:2}")
  "$PYTHON" -m stemlab.analyze "analysis=$name" "runs=[$runs]" "output=$PAGES/$name"
}
single=("$TASKS"/single_task_{like,love}_seed2023) joint=("$TASKS"/{shared_bottom,mmoe,ple,stem}_seed2023)
analyse collapse "$TASKS"/dcnv2{,_me}_seed2023 "${joint[@]}"
analyse entanglement "${single[@]}" "$TASKS"/single_task_{like,love}_seed76 "${joint[@]}"
analyse comparable "${single[@]}" "${joint[@]}"
analyse transfer "${single[@]}" "${joint[@]}"
analyse correlation "$SEQUENCES"/{tin,din,din_plus}_seed1
