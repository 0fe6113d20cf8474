"""Pictures out of tables, as arrays."""

import io

import numpy as np
from PIL import Image


def decode(image, side=None):
    """The picture in `image` (a row's {bytes, path}), as uint8 [H, W, 3]; resized to `side` x `side` px if given."""
    picture = Image.open(io.BytesIO(image["bytes"])).convert("RGB")
    if side and picture.size != (side, side):
        picture = picture.resize((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(picture)
