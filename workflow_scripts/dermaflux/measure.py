"""Asymmetry, border and colour of a lesion, computed from its pixels with scikit-image.

The ABC of the ABCDE criteria that the paper's captions follow (section 2.1), as numbers. They word the `measured`
captions and audit those of a language model.
"""

from dataclasses import dataclass

import numpy as np
from skimage import color, filters, measure, morphology, transform

# The six colours of dermoscopy's rules, as CIELAB (D65) of typical lesions.
COLORS = {
    "white": (88, 0, 6),
    "red": (45, 45, 25),
    "light brown": (58, 18, 30),
    "dark brown": (32, 15, 20),
    "blue-gray": (45, -3, -12),
    "black": (12, 2, 3),
}
SIDE = 128  # px; lesions are measured at this size


@dataclass(frozen=True)
class Attributes:
    """Measured attributes of one lesion.

    asymmetry: 0 (mirror-symmetric about both principal axes) to 1.
    border: 0 (smooth) upwards; perimeter over that of the convex hull, minus 1.
    colors: names of COLORS that cover at least 5 % of the lesion, largest first.
    spread: standard deviation of the lesion's CIELAB colours (root of summed variances).
    area: share of the image that the lesion covers, 0 to 1.
    """

    asymmetry: float
    border: float
    colors: tuple[str, ...]
    spread: float
    area: float


def segment(rgb):
    """The lesion's mask: what differs most from the skin at the image's edge.

    Args:
        rgb: uint8 [H, W, 3].

    Returns:
        bool [H, W] with one connected region, or all True where nothing stands out.
    """
    lab = filters.gaussian(color.rgb2lab(rgb), sigma=1.5, channel_axis=2)
    edge = np.concatenate(
        [lab[:6].reshape(-1, 3), lab[-6:].reshape(-1, 3), lab[:, :6].reshape(-1, 3), lab[:, -6:].reshape(-1, 3)]
    )
    distance = np.linalg.norm(lab - np.median(edge, axis=0), axis=2)
    mask = morphology.closing(distance > filters.threshold_otsu(distance), morphology.disk(2))
    regions = measure.regionprops(measure.label(mask))
    if not regions:
        return np.ones(rgb.shape[:2], bool)
    center = (np.array(rgb.shape[:2]) - 1) / 2
    # the largest region, the central one where sizes are alike
    best = max(regions, key=lambda r: r.area / (1 + np.linalg.norm(np.array(r.centroid) - center) / center.min()))
    return measure.label(mask) == best.label


def _mirror_difference(mask):
    """Share of the mask's union that is not covered when it is mirrored about its principal axes: mean of both."""
    region = measure.regionprops(mask.astype(np.uint8))[0]
    shift = np.array(region.centroid)[::-1] - (np.array(mask.shape)[::-1] - 1) / 2
    centered = transform.warp(mask.astype(float), transform.EuclideanTransform(translation=shift), order=0)
    # skimage measures orientation from the row axis; this turns the major axis upright
    upright = transform.rotate(centered, -np.rad2deg(region.orientation), order=0) > 0.5
    differences = []
    for mirrored in (upright[::-1], upright[:, ::-1]):
        union = (upright | mirrored).sum()
        differences.append((upright ^ mirrored).sum() / union if union else 0.0)
    return float(np.mean(differences))


def measure_lesion(rgb):
    """Attributes of the lesion in `rgb` (uint8 [H, W, 3], any size)."""
    small = transform.resize(rgb, (SIDE, SIDE), anti_aliasing=True, preserve_range=True).astype(np.uint8)
    mask = segment(small)
    hull = morphology.convex_hull_image(mask)
    border = measure.perimeter_crofton(mask) / measure.perimeter_crofton(hull) - 1
    pixels = color.rgb2lab(small)[mask]
    names = np.argmin(np.linalg.norm(pixels[:, None] - np.array(list(COLORS.values())), axis=2), axis=1)
    share = np.bincount(names, minlength=len(COLORS)) / len(names)
    colors = tuple(list(COLORS)[i] for i in np.argsort(-share, kind="stable") if share[i] >= 0.05)
    return Attributes(
        asymmetry=_mirror_difference(mask),
        border=float(max(border, 0)),
        colors=colors,
        spread=float(np.sqrt(pixels.var(axis=0).sum())),
        area=float(mask.mean()),
    )
