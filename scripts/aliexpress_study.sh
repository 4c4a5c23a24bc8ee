#!/usr/bin/env bash
# MMFI with hard mask and soft attention, MMoE, PLE, STEM, STAR, PEPNet and HiNet on the AliExpress sample (synthetic):
# four countries, click and conversion, three seeds.
#
#   scripts/aliexpress_study.sh
#
# Small networks (conf/experiment/aliexpress/sample_*.yaml): less than a minute each on one core. Finished runs are
# skipped, so an interrupted study can be started again. Environment: RUNS, SEEDS, MODELS, JOBS (parallel runs),
# PYTHON.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/study.sh

RUNS=${RUNS:-runs/studies/aliexpress_sample}
SEEDS=${SEEDS:-2023 76 525}
MODELS=${MODELS:-mmoe ple stem star pepnet hinet mmfi_hard mmfi_soft}

"$PYTHON" -m stemlab.prepare dataset=aliexpress dataset.source=sample
for seed in $SEEDS; do
  for model in $MODELS; do
    echo "$RUNS/${model}_seed$seed" "experiment=aliexpress/sample_$model seed=$seed logger=csv"
  done
done | train_all

"$PYTHON" -m stemlab.report study=aliexpress_sample "runs=[$RUNS]" copies=scripts/records/aliexpress_sample "output=$RUNS"
