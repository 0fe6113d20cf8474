#!/usr/bin/env bash
# cluster.sh start|stop FOLDER: a SLURM cluster of one node with two pretended GPUs on this machine, for the tests. As root, on
# Debian with the packages slurm-wlm and munge. Its state lies in FOLDER; `stop` ends what `start` began.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
what=${1:?usage: cluster.sh start|stop FOLDER} lab=${2:?usage: cluster.sh start|stop FOLDER}
export SLURM_CONF=$lab/etc/slurm.conf

# a process that has ended and that nobody has collected (state Z) is not alive
alive() { [ -s "$lab/run/$1.pid" ] && grep -q '^State:[[:space:]]*[^Z]' "/proc/$(cat "$lab/run/$1.pid")/status" 2>/dev/null; }
until_true() { for _ in $(seq 100); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done; echo "never came true: $*" >&2; return 1; }
pinged() { timeout 2 scontrol ping | grep -q UP; }
ready() { timeout 2 sinfo -h -p cpu -o %T | grep -qE 'idle|mixed|alloc'; }

start() {
    mkdir -p "$lab"/{etc,state,log,spool,run,dev} /run/munge /etc/slurm
    chmod 755 "$lab" "$lab/run" /run/munge
    # character devices as a GPU's; nothing opens them
    for gpu in 0 1; do [ -e "$lab/dev/gpu$gpu" ] || mknod "$lab/dev/gpu$gpu" c 1 3; done
    sed "s/@HOST@/$(hostname -s)/g; s#@LAB@#$lab#g" "$here/slurm.conf.in" >"$SLURM_CONF"
    echo "Name=gpu File=$lab/dev/gpu[0-1]" >"$lab/etc/gres.conf"
    # a job step loses SLURM_CONF: the files must be where SLURM looks by itself
    ln -sfn "$lab/etc/slurm.conf" /etc/slurm/slurm.conf
    ln -sfn "$lab/etc/gres.conf" /etc/slurm/gres.conf
    [ -s "$lab/etc/munge.key" ] || head -c 1024 /dev/urandom >"$lab/etc/munge.key"
    chmod 400 "$lab/etc/munge.key"
    alive munged || munged --force --key-file="$lab/etc/munge.key" --pid-file="$lab/run/munged.pid" \
        --log-file="$lab/log/munged.log" --seed-file="$lab/run/munged.seed"
    until_true munge -n
    alive slurmctld || slurmctld "${SLURMCTLD_OPTIONS:--i}"
    until_true pinged
    alive slurmd || slurmd
    until_true ready
}

stop() {
    pinged 2>/dev/null && scancel -u root 2>/dev/null && sleep 1
    for daemon in slurmd slurmctld munged; do
        alive $daemon || continue
        kill "$(cat "$lab/run/$daemon.pid")"
        for _ in $(seq 100); do alive $daemon || break; sleep 0.1; done
    done
    rm -f "$lab"/run/*.pid
}

"$what"
