#!/usr/bin/env bash
# The SLURM that `make test-slurm` tests against: Debian's packages, installed where they are missing and we may.
set -euo pipefail
missing=
for program in slurmctld slurmd sbatch munged; do command -v $program >/dev/null || missing=1; done
[ "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "the tests on SLURM need a cluster of their own: as root, apt-get install --no-install-recommends slurm-wlm munge" >&2
    exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
