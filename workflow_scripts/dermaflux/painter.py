"""Painted skin lesions for the demo and the tests: pictures that nobody has to ask permission for.

A lesion is drawn from a few parameters: asymmetry, irregularity of the border, number and spread of colours, size, skin
tone, hairs, vignette. They depend on the label through one hidden number, the severity, whose distributions overlap, so
that telling the labels apart is neither trivial nor impossible. The pictures resemble lesions; they teach nothing about
skin.
"""

import math
from dataclasses import dataclass

import numpy as np

from dermaflux.files import fraction

# sRGB, 0 to 255
SKIN_TONES = ((246, 216, 198), (238, 196, 170), (222, 172, 140), (190, 138, 104), (146, 98, 70), (98, 64, 46))
BROWNS = ((176, 122, 84), (150, 98, 64), (128, 80, 52), (164, 104, 82))
ALARMING = ((58, 36, 30), (34, 26, 28), (108, 104, 116), (158, 78, 72), (204, 172, 158), (88, 52, 38))


@dataclass(frozen=True)
class LesionParameters:
    """What a painted lesion looks like. Lengths are fractions of the picture's shorter side, angles radians."""

    detail_seed: int  # of the fine structure: noise, hairs
    skin: tuple  # sRGB, 0 to 255
    radius: float  # 0.14 to 0.42
    centre: tuple  # (x, y), fractions of width and height
    elongation: float  # long axis / short axis, 1 to 1.7
    rotation: float
    asymmetry: float  # 0 (two-fold symmetric) to 1
    border: float  # 0 (smooth) to 1 (jagged)
    colours: tuple  # of sRGB, 1 to 5
    colour_spread: float  # 0 (one even colour) to 1 (patches of all)
    contrast: float  # opacity of the lesion over the skin, 0.55 to 1
    hairs: int
    vignette: float  # darkening of the corners, 0 to 1


class _Draws:
    """Numbers that depend on their name and the key alone, so that adding one changes no other."""

    def __init__(self, key):
        self.key = key

    def uniform(self, name, low=0.0, high=1.0):
        return low + (high - low) * fraction("painter", *self.key, name)

    def normal(self, name):
        u, v = self.uniform(f"{name}/u"), self.uniform(f"{name}/v")
        return math.sqrt(-2 * math.log(1 - u)) * math.cos(2 * math.pi * v)

    def choose(self, name, options):
        return options[int(self.uniform(name) * len(options))]


def lesion_parameters(label, *key, separation=2.4):
    """Parameters of the lesion that `key` names.

    Args:
        label: "benign" or "malignant".
        key: anything with a str, e.g. (seed, dataset, index); equal keys give equal parameters.
        separation: distance of the labels' mean severities in standard deviations. No classifier can have an AUC above
            Phi(separation / sqrt(2)): 0.955 at 2.4, 0.5 at 0.
    """
    draw = _Draws((label, *key))
    severity = draw.normal("severity") + separation * (0.5 if label == "malignant" else -0.5)
    alarm = 1 / (1 + math.exp(-1.6 * severity))  # 0 to 1

    def near_alarm(name, noise=0.13):
        return min(1.0, max(0.0, alarm + noise * draw.normal(name)))

    count = 1 + round(3.4 * near_alarm("colours"))
    pool = sorted(ALARMING, key=lambda colour: draw.uniform(f"alarming{colour}"))
    # brown first: every lesion has some; the other colours come with the severity
    colours = (draw.choose("brown", BROWNS), *pool[: count - 1])
    skin = draw.choose("skin", SKIN_TONES[:5] if draw.uniform("dark skin") < 0.25 else SKIN_TONES[:3])
    if sum(skin) < 350:  # on dark skin a lesion is darker than the skin, or it could not be seen
        colours = tuple(tuple(int(0.55 * channel) for channel in colour) for colour in colours)
    return LesionParameters(
        detail_seed=int(draw.uniform("detail", 0, 2**31)),
        skin=tuple(int(channel + draw.uniform(f"skin{i}", -6, 6)) for i, channel in enumerate(skin)),
        radius=0.18 + 0.15 * near_alarm("radius", 0.25) + draw.uniform("radius/any", -0.02, 0.06),
        centre=(draw.uniform("x", 0.46, 0.54), draw.uniform("y", 0.46, 0.54)),
        elongation=1 + 0.45 * draw.uniform("elongation"),
        rotation=draw.uniform("rotation", 0, 2 * math.pi),
        asymmetry=near_alarm("asymmetry"),
        border=near_alarm("border"),
        colours=colours,
        colour_spread=near_alarm("spread"),
        contrast=0.72 + 0.28 * near_alarm("contrast", 0.3),
        hairs=int(draw.uniform("hairs", 3, 14)) if draw.uniform("hairy") < 0.25 else 0,
        vignette=draw.uniform("vignette", 0.15, 0.6) if draw.uniform("dermoscope") < 0.4 else 0.0,
    )


def _noise(rng, cells, width, height):
    """Smooth noise [height, width], float32, roughly in -1 to 1, with `cells` bumps along the shorter side."""
    import cv2

    grid = rng.standard_normal((cells + 2, cells + 2)).astype(np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 0.6


def _outline(parameters, rng, angle):
    """Relative radius of the lesion's border at `angle` (any shape, radians): lobes from asymmetry, jags from border."""
    lobes = parameters.asymmetry * 0.20 * np.cos(angle - rng.uniform(0, 2 * math.pi))
    lobes += parameters.asymmetry * 0.14 * np.cos(3 * angle - rng.uniform(0, 2 * math.pi))
    lobes += 0.04 * np.cos(2 * angle - rng.uniform(0, 2 * math.pi))
    for frequency in (5, 7, 9, 13, 17):
        lobes += parameters.border * 0.22 / frequency**0.75 * np.cos(frequency * angle - rng.uniform(0, 2 * math.pi))
    return 1 + lobes


def _lesion_mask(parameters, rng, width, height):
    """(opacity, relative distance from the centre), both [height, width] float32; opacity 0 to 1, distance 1 at the border."""
    side = min(width, height)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = (x + 0.5 - parameters.centre[0] * width) / side, (y + 0.5 - parameters.centre[1] * height) / side
    cos, sin = math.cos(parameters.rotation), math.sin(parameters.rotation)
    stretch = math.sqrt(parameters.elongation)
    along, across = (x * cos + y * sin) / stretch, (y * cos - x * sin) * stretch
    angle = np.arctan2(across, along)
    distance = np.hypot(along, across) / (parameters.radius * _outline(parameters, rng, angle))
    distance += 0.05 * _noise(rng, 14, width, height)
    distance += parameters.border * 0.22 * _noise(rng, 9, width, height)  # no two jags alike
    softness = 0.16 - 0.10 * parameters.border  # an irregular border also ends abruptly
    return np.clip((1 - distance) / softness + 0.5, 0, 1), distance


def _lesion_colour(parameters, rng, distance):
    """sRGB of the lesion where it is opaque: [height, width, 3] float32."""
    height, width = distance.shape
    colours = np.array(parameters.colours, np.float32)
    base = colours[0] * (0.82 + 0.25 * np.clip(distance, 0, 1.2))[..., None]  # darker in the middle
    patches = base
    for colour in colours[1:]:
        weight = np.clip(1.6 * _noise(rng, 5, width, height) + 0.2, 0, 1)[..., None]
        patches = patches * (1 - weight) + colour * weight
    spread = 0.25 + 0.75 * parameters.colour_spread
    network = 1 + 0.10 * _noise(rng, 26, width, height)[..., None]  # the pigment network, faintly
    return (base * (1 - spread) + patches * spread) * network


def _draw_hairs(picture, parameters, rng):
    """Dark curved strokes across the whole picture, in place."""
    import cv2

    height, width = picture.shape[:2]
    for _ in range(parameters.hairs):
        start, direction = rng.uniform(-0.1, 1.1, 2), rng.uniform(0, 2 * math.pi)
        bend, t = rng.uniform(-0.5, 0.5), np.linspace(0, rng.uniform(0.3, 0.9), 24)
        points = np.stack([start[0] + t * np.cos(direction + bend * t), start[1] + t * np.sin(direction + bend * t)], 1)
        pixels = np.round(points * (width, height) * 8).astype(np.int32)
        shade = tuple(int(channel) for channel in np.array((58, 42, 34)) + rng.integers(-18, 18))
        thickness = max(1, round(min(width, height) / 200))
        cv2.polylines(picture, [pixels], False, shade, thickness, cv2.LINE_AA, shift=3)


def paint(parameters, width, height):
    """The lesion as a picture.

    Args:
        parameters: LesionParameters.
        width, height: px, > 0. The same parameters at another size of the same shape show the same lesion.

    Returns:
        uint8 [height, width, 3], sRGB.
    """
    rng = np.random.default_rng(parameters.detail_seed)
    opacity, distance = _lesion_mask(parameters, rng, width, height)
    opacity = (opacity * parameters.contrast)[..., None]
    tone = 1 + 0.035 * _noise(rng, 3, width, height) + 0.025 * _noise(rng, 40, width, height)
    skin = np.array(parameters.skin, np.float32) * tone[..., None]
    halo = np.clip(1.5 - distance, 0, 0.6)[..., None] * (12, 30, 26)  # skin reddens around a lesion
    picture = (skin - 0.6 * halo) * (1 - opacity) + _lesion_colour(parameters, rng, distance) * opacity
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    _draw_hairs(picture, parameters, rng)
    picture = picture.astype(np.float32)
    if parameters.vignette:
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        corner = np.clip((np.hypot(x, y) - 0.85) / 0.5, 0, 1)
        picture *= (1 - parameters.vignette * corner**1.5)[..., None]
    picture += rng.normal(0, 2.0, picture.shape[:2])[..., None]  # sensor noise
    return np.clip(picture, 0, 255).astype(np.uint8)
