#!/bin/bash
# Pretrain in a Slurm job, on one graphics card or many. Submit the same file again to go on:
#   sbatch --export=ALL,CONFIG=my.yaml examples/slurm_job.sh
#SBATCH --job-name=pretrain
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2          # processes on a node: one for each graphics card
#SBATCH --gres=gpu:2                 # graphics cards on a node; leave out to train on processors
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=08:00:00
#SBATCH --signal=TERM@120            # two minutes before the end: the state is saved
#SBATCH --output=%x_%j.log

set -euo pipefail
CONFIG=${CONFIG:-my.yaml}
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

# Go on with a run that is there already; `--name` and `--run_id` name it for this.
RESULTS=${RESULTS:-exp_results}
NAME=${NAME:-$(basename "$CONFIG" .yaml)}
RESUME=()
if [[ -e "$RESULTS/$NAME/results/${NAME}_1/events.jsonl" ]]; then RESUME=(--resume); fi

# --kill-on-bad-exit: when one process dies, Slurm ends the others too.
srun --kill-on-bad-exit=1 napari-ssl-pretrain run --config "$CONFIG" \
  --result_dir "$RESULTS" --name "$NAME" --run_id 1 "${RESUME[@]}"
