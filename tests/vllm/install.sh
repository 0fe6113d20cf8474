#!/usr/bin/env bash
# install.sh VENV: vLLM for CPUs in the virtual environment VENV, made by PYTHON (default: python3). `make test-vllm` runs it.
set -euo pipefail
venv=${1:?usage: install.sh VENV}
here=$(cd "$(dirname "$0")" && pwd)

if ! "${PYTHON:-python3}" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null; then
    echo "vLLM for CPUs needs libnuma: sudo apt-get install libnuma1" >&2
    exit 1
fi

# uv, because pip cannot override what a package asks for (overrides.txt)
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv
# uv reads none of pip's settings: hand over the two that say where packages come from
export UV_FIND_LINKS=${UV_FIND_LINKS-$(echo "${PIP_FIND_LINKS-}" | tr ' ' ',')}
if [ -n "${PIP_INDEX_URL-}" ]; then export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}; fi
"$venv/bin/python" -m uv pip install --compile-bytecode --python "$venv/bin/python" \
    --overrides "$here/overrides.txt" -r "$here/requirements.txt"
"$venv/bin/python" "$here/repair.py"
"$venv/bin/vllm" --version
