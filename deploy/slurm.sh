#!/bin/bash
# An array of trainings, one recipe each, that are put back in the queue before their time is up:
#
#     sbatch --array=0-3 deploy/slurm.sh recipes/*.toml                     and --gpus-per-task=1 where there are GPUs
#
#SBATCH --job-name=higan
#SBATCH --time=04:00:00
#SBATCH --cpus-per-task=8
#SBATCH --requeue
#SBATCH --signal=TERM@120
#SBATCH --output=higan-%A_%a.log
#SBATCH --open-mode=append

recipes=("$@")
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK  # a step does not inherit it
srun higan train "${recipes[$SLURM_ARRAY_TASK_ID]}"
code=$?
# 75: stopped by SIGTERM with its state saved.
if [ "$code" = 75 ]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
