"""torch as every job needs it. Import this before timm, open_clip, diffusers or transformers."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # several torch jobs share the cores: spinning threads starve them

import torch  # noqa: E402

from dermaflux.errors import UserError  # noqa: E402

if torch.version.cuda is None:
    # PyPI's torchvision is built for CUDA; beside a CPU torch its import fails because these operators are missing.
    # Declaring their schemas is enough: nothing here calls them.
    _library = torch.library.Library("torchvision", "FRAGMENT")
    _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def torch_device(name):
    """The torch device called `name` (cuda | cpu).

    Raises:
        UserError: a GPU was promised and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "`device: cuda` is set, but torch sees no GPU on this machine. On a cluster: check that the job asked for one "
            "and that the driver works (nvidia-smi). To compute on the CPU, set `device: cpu`."
        )
    return torch.device(name)


def seeded(*keys):
    """A CPU torch.Generator whose stream depends on `keys` alone (any values with a str)."""
    from dermaflux.files import fraction

    return torch.Generator().manual_seed(int(fraction(*keys) * 2**53))
