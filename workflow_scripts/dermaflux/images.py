"""From the published images to shards of prepared ones: decoded, upright, RGB, square, at one of the training scales.

Plain JPEGs take a fast way: libjpeg-turbo reduces them while decoding, to no less than twice the target, and OpenCV
does the rest. Everything else (PNG, CMYK, 16 bit, transparency) goes through Pillow.
"""

import hashlib
import io
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import numpy as np

from dermaflux.archives import read_members
from dermaflux.job import progress, say
from dermaflux.tables import IMAGES, read_table, table_writer

THUMBNAIL_SIDE = 32  # px
ROW_GROUP_ROWS, ROW_GROUP_BYTES = 256, 4 << 20  # small enough to read single rows quickly


class Unusable(Exception):
    """An image that is dropped. `reason` goes into its row; `size` is (width, height) where it is known."""

    def __init__(self, reason, size=(None, None)):
        super().__init__(reason)
        self.reason, self.size = reason, size


def choose_scale(width, height, min_side, scales):
    """The largest of `scales` (px, ascending) that fits the shorter side.

    Raises:
        Unusable: too_small, where the shorter side is less than `min_side` or than the smallest scale.
    """
    side = min(width, height)
    if side < min_side or side < scales[0]:
        raise Unusable("too_small", (width, height))
    return max(scale for scale in scales if scale <= side)


def _orientation(data):
    """The EXIF orientation of a JPEG (1 to 8); 1 where there is none or it cannot be read."""
    if b"Exif\0\0" not in data:
        return 1
    from PIL import Image

    try:
        return int(Image.open(io.BytesIO(data)).getexif().get(0x0112, 1))
    except Exception:  # EXIF is often broken; the image then counts as upright
        return 1


def _upright(pixels, orientation):
    """`pixels` [H, W, 3] turned and flipped as the EXIF `orientation` says."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    flips = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ())
    return np.ascontiguousarray(np.flip(pixels, flips)) if flips or orientation == 5 else pixels


def _to_rgb(image):
    """A Pillow image of any mode as uint8 [H, W, 3]: 16 bit scaled, transparency over white."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":  # 16-bit grey; I and F hold 16-bit values too
        grey = np.asarray(image, np.float32)
        if grey.max(initial=0) > 255:
            grey = grey / 257
        return np.repeat(np.clip(grey + 0.5, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.asarray(image.convert("RGB"))


def _decode_with_pillow(data, check):
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = None  # our own limit is checked before any pixel is decoded
    try:
        image = Image.open(io.BytesIO(data))
        width, height = image.size
    except Exception:
        raise Unusable("undecodable") from None
    orientation = 1
    with suppress(Exception):  # broken EXIF: counts as upright
        orientation = image.getexif().get(0x0112, 1)
    size = (height, width) if orientation in (5, 6, 7, 8) else (width, height)
    check(*size)
    try:
        image.load()
        with suppress(Exception):
            image = ImageOps.exif_transpose(image)
        return _to_rgb(image), size
    except Exception as error:
        cut = "truncated" in str(error).lower() or "premature" in str(error).lower()
        raise Unusable("truncated" if cut else "undecodable", size) from None


def decode(data, min_side, scales, max_pixels):
    """Decode an image file.

    Args:
        data: bytes of the file.
        min_side, scales, max_pixels: as in `prepare_shard`.

    Returns:
        (pixels, (width, height), scale): pixels uint8 [H, W, 3], sRGB, upright, at full resolution or reduced to no
        less than twice the scale; width and height of the upright full resolution, px; scale in px.

    Raises:
        Unusable: too_small, too_large, truncated or undecodable.
    """
    import simplejpeg

    def check(width, height):
        if width * height > max_pixels:
            raise Unusable("too_large", (width, height))
        return choose_scale(width, height, min_side, scales)

    if data[:3] == b"\xff\xd8\xff":
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
            if colours not in ("CMYK", "YCCK"):
                orientation = _orientation(data)
                size = (height, width) if orientation in (5, 6, 7, 8) else (width, height)
                scale = check(*size)
                # both sides at least twice the target: the rest of the reduction then hides the crude DCT scaling
                pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=2 * scale, min_width=2 * scale)
                return _upright(pixels, orientation), size, scale
        except ValueError:
            pass  # strict: even a warning ends here; Pillow tells what is harmless from what is not
    pixels, size = _decode_with_pillow(data, check)
    return pixels, size, choose_scale(*size, min_side, scales)


def _dct_rows():
    """The first 8 rows of the 32-point DCT-II matrix, float32 [8, 32] (without normalisation, as scipy's default)."""
    k, n = np.arange(8)[:, None], np.arange(32)[None]
    return (2 * np.cos(np.pi * k * (2 * n + 1) / 64)).astype(np.float32)


DCT = _dct_rows()


def small_grey(pixels):
    """The whole picture (uint8 [H, W, 3]) squashed to 32 x 32 grey values: uint8 [32, 32].

    Squashed and not cropped, so that a copy that was squashed to a square looks the same. By way of 128 x 128, which
    takes a quarter of the time of averaging at once and moves the hash by no more than saving the image again does.
    """
    import cv2

    grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (128, 128), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(grey, (THUMBNAIL_SIDE,) * 2, interpolation=cv2.INTER_AREA)


def phash(grey):
    """64-bit perceptual hash in imagehash's convention (first bit highest).

    Differs from imagehash in a bit or two at most, because `small_grey` averages where imagehash filters with Lanczos.

    Args:
        grey: uint8 [32, 32], from `small_grey`.

    Returns:
        int, 0 to 2**64 - 1.
    """
    low = (DCT @ grey.astype(np.float32) @ DCT.T).ravel()
    middle = np.partition(low, (31, 32))[31:33]  # np.median, in a third of its time
    return int.from_bytes(np.packbits(low > middle.mean()).tobytes(), "big")


def square(pixels, scale):
    """The central square of `pixels` (uint8 [H, W, 3], both sides >= scale), reduced to uint8 [scale, scale, 3].

    The paper does not say how images become square; a lesion lies in the middle of nearly every image, and squashing
    would change its shape, which the captions speak about. Reduced by cubic interpolation where little is to be
    done, else to exactly twice the target by cubic interpolation and then by averaging: at least 47 dB from Lanczos, and
    less work than averaging at once (benchmarks/prepare.py).
    """
    import cv2

    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    pixels = pixels[top : top + side, left : left + side]
    if side != scale:
        if 1.25 * scale < side <= 4 * scale:  # above, cubic interpolation would leave pixels out
            pixels = cv2.resize(pixels, (2 * scale, 2 * scale), interpolation=cv2.INTER_CUBIC)
        last = cv2.INTER_CUBIC if side <= 1.25 * scale else cv2.INTER_AREA
        pixels = cv2.resize(pixels, (scale, scale), interpolation=last)
    return np.ascontiguousarray(pixels)


def prepare_image(data, min_side, scales, max_pixels, jpeg_quality):
    """One image file as a row of the images table, without its id, label and split.

    Returns:
        dict: image (JPEG 4:4:4 bytes, None where dropped), source_width, source_height (upright), scale, sha256 (of
        `data`), pixel_sha256, phash, thumbnail, drop_reason.

        pixel_sha256 is of the prepared RGB pixels, before they are encoded: equal for files that hold the same pixels
        in the same coding (say, with other metadata) or the same central square, and for lossless copies.
    """
    import simplejpeg

    row = {"sha256": hashlib.sha256(data).hexdigest(), "drop_reason": None, "image": None}
    try:
        pixels, size, scale = decode(data, min_side, scales, max_pixels)
    except Unusable as why:
        return {**row, "source_width": why.size[0], "source_height": why.size[1], "drop_reason": why.reason}
    grey = small_grey(pixels)
    row.update(source_width=size[0], source_height=size[1], scale=scale, phash=phash(grey), thumbnail=grey.tobytes())
    prepared = square(pixels, scale)
    row["pixel_sha256"] = hashlib.sha256(prepared).hexdigest()
    row["image"] = simplejpeg.encode_jpeg(prepared, jpeg_quality, "RGB", "444")
    return row


def _wanted(index, shard):
    """(rows of the shard that have a usable image by archive and member, rows that were dropped before)."""
    columns = ["image_id", "archive", "member", "label", "split", "shard", "drop_reason"]
    table = read_table(index, columns)
    rows = table.filter(table["shard"].to_numpy() == shard).to_pylist()
    wanted = defaultdict(dict)
    for row in rows:
        if row["drop_reason"] is None:
            wanted[row["archive"]][row["member"]] = row
    return wanted, [row for row in rows if row["drop_reason"] is not None]


def prepare_shard(index, archives, output, shard, min_side, scales, max_pixels, jpeg_quality):
    """Write a shard of prepared images: a table of the schema tables.IMAGES, one row for each of its rows in the index.

    An image that cannot be used is a row with a drop_reason and no image: too_small, too_large, truncated, undecodable,
    damaged_member (of the archive), or the reason for which the index dropped it. Memory does not grow with the shard.

    Args:
        index: path of the dataset's index.
        archives: paths of the archives that hold its images.
        output: path of the Parquet file.
        shard: int.
        min_side: px; upright images whose shorter side is less are dropped.
        scales: px, ascending; an image goes to the largest that fits its shorter side.
        max_pixels: images that would decode to more are dropped unread.
        jpeg_quality: 1 to 100.
    """
    import cv2

    cv2.setNumThreads(1)  # one job, one core: shards run side by side
    paths = {Path(path).name: path for path in ([archives] if isinstance(archives, str) else archives)}
    wanted, dropped = _wanted(index, shard)
    rows, size, reasons = [], 0, defaultdict(int)

    def members():
        for archive, its_rows in wanted.items():
            for member, data in read_members(paths[archive], its_rows):
                yield its_rows[member], data

    with table_writer(output, IMAGES) as write:
        total = sum(map(len, wanted.values()))
        for row, data in progress(members(), f"prepare {Path(output).parent.name}-{shard}", total=total):
            if data is None:
                done = {"drop_reason": "damaged_member", "image": None}
            else:
                done = prepare_image(data, min_side, scales, max_pixels, jpeg_quality)
            jpeg = done.pop("image")
            done["image"] = jpeg and {"bytes": jpeg, "path": f"{row['image_id']}.jpg"}
            rows.append({"image_id": row["image_id"], "label": row["label"], "split": row["split"], **done})
            reasons[done["drop_reason"]] += 1
            size += len(jpeg or b"")
            if len(rows) >= ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES:
                write(rows)
                rows, size = [], 0
        keep = ("image_id", "label", "split", "drop_reason")
        write(rows + [{name: row[name] for name in keep} for row in dropped])
    kept = reasons.pop(None, 0)
    lost = "".join(f", {count:,} {reason}" for reason, count in sorted(reasons.items()))
    say(f"prepare {Path(output).parent.name}-{shard}: {kept:,} images{lost}, {len(dropped):,} left out by the index")
