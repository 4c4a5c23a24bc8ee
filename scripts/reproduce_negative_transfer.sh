#!/usr/bin/env bash
# Negative transfer on the KuaiRand log: shared tables against one network per task and STEM, on several random splits.
#
#   scripts/reproduce_negative_transfer.sh FILE        FILE is the tab-separated log (data/README.md)
#
# 36 trainings of about 10 seconds on two cores. Finished runs are skipped, so an interrupted study can be started again.
# Environment: RUNS (default runs/studies/kuairand_log), SPLITS, MODELS, JOBS (parallel runs), PYTHON.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/study.sh

FILE=${1:-${FILE:-data/raw/kuairand/feedback_log_kcore15.csv}}
RUNS=${RUNS:-runs/studies/kuairand_log}
SPLITS=${SPLITS:-1 2 3 4 5 6}
MODELS=${MODELS:-single_task_is_comment single_task_is_profile_enter shared_bottom mmoe ple stem}

if [[ ! -f $FILE ]]; then
  echo "error: there is no $FILE; give the path of the KuaiRand log (data/README.md)." >&2
  exit 2
fi

for split in $SPLITS; do
  for model in $MODELS; do
    task=""
    experiment=$model
    if [[ $model == single_task_* ]]; then
      experiment=single_task
      task="model.task=${model#single_task_}"
    fi
    echo "$RUNS/${model}_split$split experiment=kuairand_log/$experiment $task dataset.split.seed=$split seed=1 dataset.path=$FILE logger=csv"
  done
done | train_all

"$PYTHON" -m stemlab.report "runs=[$RUNS]" copies=scripts/records/kuairand_log "output=$RUNS/tables"
"$PYTHON" scripts/negative_transfer.py "$RUNS"
