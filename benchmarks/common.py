"""What the benchmarks share: the library on the path, painted images, and tables."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "workflow_scripts"))

import numpy as np  # noqa: E402
import simplejpeg  # noqa: E402


def painted_jpegs(count, width, height, grain=4.0):
    """`count` painted lesions with the grain of a photograph (standard deviation in grey values), as JPEG q90 4:2:0."""
    from dermaflux.painter import lesion_parameters, paint

    rng = np.random.default_rng(0)
    jpegs = []
    for i in range(count):
        pixels = paint(lesion_parameters(("benign", "malignant")[i % 2], "benchmark", i), width, height)
        noisy = np.clip(pixels + rng.normal(0, grain, pixels.shape), 0, 255).astype(np.uint8)
        jpegs.append(simplejpeg.encode_jpeg(noisy, 90, "RGB", "420"))
    return jpegs


def table(header, rows):
    """Print a Markdown table."""
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print(flush=True)


def peak_gigabytes():
    """The most memory that this process has held so far."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e6
