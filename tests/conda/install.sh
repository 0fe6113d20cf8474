#!/usr/bin/env bash
# install.sh FOLDER: a real conda (FOLDER/base/bin/conda) whose channel conda-forge is a local one with this machine's Python and
# pip, all from PyPI. `make test-conda` runs it. It shows that conda makes our environments and that rules run inside them; not
# that other packages of conda-forge exist, of which envs/*.yaml use none.
set -euo pipefail
folder=$(mkdir -p "${1:?usage: install.sh FOLDER}" && cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
base=$folder/base
python=$base/bin/python
pip() { "$python" -m pip --quiet --disable-pip-version-check "$@"; }

"${PYTHON:-python3}" -m venv "$base"
pip install -r "$here/requirements.txt"
"$python" "$here/make_channel.py" "$folder/channels"

# conda itself is not on PyPI, but the wheel of conda-lock carries it whole; undo the renaming of its imports
pip download --no-deps --dest "$folder/wheel" conda-lock==4.0.3
"$python" - "$folder/wheel" <<'PYTHON'
import sys, sysconfig, zipfile
from pathlib import Path

(wheel,) = Path(sys.argv[1]).glob("conda_lock-*.whl")
site, inside = Path(sysconfig.get_path("purelib")), "conda_lock/_vendor/conda/"
with zipfile.ZipFile(wheel) as archive:
    for name in archive.namelist():
        if name.startswith(inside) and not name.endswith("/"):
            target = site / "conda" / name.removeprefix(inside)
            target.parent.mkdir(parents=True, exist_ok=True)
            data = archive.read(name)
            if name.endswith(".py"):
                data = data.replace(b"conda_lock._vendor.conda", b"conda").replace(b"conda_lock._vendor.", b"")
            target.write_bytes(data)
PYTHON

cat >"$base/bin/conda" <<CONDA
#!$python
import sys

if len(sys.argv) > 1 and sys.argv[1].startswith("shell.") and sys.path and sys.path[0] == "":
    del sys.path[0]
if __name__ == "__main__":  # conda's own processes import this file anew
    from conda.cli import main

    sys.exit(main())
CONDA
# the wheel leaves out conda's shell scripts; Snakemake sources this one
echo "eval \"\$(\"$base/bin/conda\" shell.posix activate \"\$@\")\"" >"$base/bin/activate"
chmod +x "$base/bin/conda"
cat >"$base/.condarc" <<CONDARC
channel_alias: file://$folder/channels
channels: [conda-forge]
default_channels: []
channel_priority: strict
solver: classic
notify_outdated_conda: false
report_errors: false
number_channel_notices: 0
CONDARC
mkdir -p "$base/conda-meta" "$base/condabin"
touch "$base/conda-meta/history"
ln -sf ../bin/conda "$base/condabin/conda"
"$base/bin/conda" --version
