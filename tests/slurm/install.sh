#!/usr/bin/env bash
# The SLURM that `make test-slurm` tests against: Debian's packages, installed where they are missing and we may.
set -euo pipefail
command -v slurmctld slurmd sbatch munged >/dev/null && exit 0
if [ "$(id -u)" != 0 ]; then
    echo "the tests on SLURM need a cluster of their own: as root, apt-get install --no-install-recommends slurm-wlm munge" >&2
    exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
