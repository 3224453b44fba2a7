#!/bin/bash
# One training on several nodes, a process for each GPU (JAX) or each node (TensorFlow):
#
#     KERAS_BACKEND=jax sbatch --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 deploy/slurm-nodes.sh recipe.toml
#     sbatch --nodes=2 --ntasks-per-node=1 --gpus-per-node=4 deploy/slurm-nodes.sh recipe.toml
#
# Recipe, maps and the run's folder are on a file system that all nodes see.
#
#SBATCH --job-name=higan
#SBATCH --time=04:00:00
#SBATCH --cpus-per-task=8
#SBATCH --requeue
#SBATCH --signal=TERM@120
#SBATCH --output=higan-%j.log
#SBATCH --open-mode=append

export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK  # a step does not inherit it

# JAX asks Slurm who is there; TensorFlow is told.
if [ "${KERAS_BACKEND:-tensorflow}" = tensorflow ]; then
  HIGAN_HOSTS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed 's/.*/"&:29500"/' | paste -sd,)
  export HIGAN_HOSTS
fi

# shellcheck disable=SC2016  # each task expands its own SLURM_PROCID
srun bash -c '
  if [ -n "$HIGAN_HOSTS" ]; then
    export TF_CONFIG="{\"cluster\": {\"worker\": [$HIGAN_HOSTS]}, \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
  fi
  exec higan train "$1"' higan "$1"
code=$?
# 75: stopped by SIGTERM, or a worker was lost: the state is saved. 134: JAX ends so where its first worker is lost.
# What loses a worker may be an error of its own, whose code is lower than that of the others: so not for ever.
if { [ "$code" = 75 ] || [ "$code" = 134 ]; } && [ "${SLURM_RESTART_COUNT:-0}" -lt 20 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
