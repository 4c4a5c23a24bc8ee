#!/usr/bin/env bash
# Train on several machines. Start it on every machine with the same arguments, and NODE_RANK=0, 1, ...:
#
#   NODES=2 NODE_RANK=0 DEVICES=4 MASTER_ADDR=node0 scripts/launch/torchrun.sh /shared/runs/stem \
#     model=stem dataset=tiktok trainer=ddp
#
# NODES machines with DEVICES processes each; MASTER_ADDR is the machine with NODE_RANK=0, MASTER_PORT a free port there
# (29500). The first argument is the run directory: an absolute path on a file system that all machines share. Started
# again, the training resumes there.
set -euo pipefail

if [[ ${1:-} != /* ]]; then
  echo "usage: NODES=2 NODE_RANK=0 DEVICES=4 MASTER_ADDR=node0 $0 /shared/runs/<name> override..." >&2
  exit 2
fi
run=$1
shift
nodes=${NODES:?number of machines} devices=${DEVICES:?processes of each machine}

exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes "$nodes" --node-rank "${NODE_RANK:?number of this machine, from 0}" --nproc-per-node "$devices" \
  --master-addr "${MASTER_ADDR:?name of the machine with NODE_RANK=0}" --master-port "${MASTER_PORT:-29500}" \
  -m stemlab.train "$@" trainer.num_nodes="$nodes" trainer.devices="$devices" hydra.run.dir="$run" resume=auto
