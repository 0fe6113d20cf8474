"""Prepared images: every kind of file that sources publish, and those that are dropped with a reason."""

import hashlib
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from dermaflux.images import choose_scale, phash, prepare_image, prepare_shard, small_grey, square
from dermaflux.painter import lesion_parameters, paint
from dermaflux.tables import IMAGES, INDEX, read_table, write_table

SETTINGS = {"min_side": 128, "scales": [128, 256, 512], "max_pixels": 4_000_000, "jpeg_quality": 95}


def lesion(width=200, height=160, index=0):
    return paint(lesion_parameters("malignant", "images", index), width, height)


def encode(pixels, kind="JPEG", **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 95, "subsampling": 0} | options if kind == "JPEG" else options))
    return file.getvalue()


def prepare(data, **changes):
    return prepare_image(data, **(SETTINGS | changes))


def pixels_of(row):
    return np.asarray(Image.open(io.BytesIO(row["image"])))


def psnr(left, right):
    return 10 * np.log10(255**2 / max(1e-9, np.mean((left.astype(float) - right) ** 2)))


def bits(left, right):
    return (left ^ right).bit_count()


def test_an_image_is_cropped_to_its_middle_and_scaled():
    pixels = lesion(300, 150)
    row = prepare(encode(pixels, "PNG"))
    assert (row["source_width"], row["source_height"], row["scale"], row["drop_reason"]) == (300, 150, 128, None)
    expected = Image.fromarray(pixels[:, 75:225]).resize((128, 128), Image.Resampling.LANCZOS)
    assert psnr(pixels_of(row), np.asarray(expected)) > 35


@pytest.mark.parametrize("size", [(600, 450), (1024, 1024), (2000, 1500)])
def test_the_fast_way_is_close_to_full_decoding_and_lanczos(size):
    data = encode(lesion(*size))
    row = prepare(data, jpeg_quality=100)
    full = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    crop = Image.fromarray(full[top : top + side, left : left + side])
    expected = np.asarray(crop.resize((row["scale"],) * 2, Image.Resampling.LANCZOS))
    assert psnr(pixels_of(row), expected) > 36  # painted lesions carry noise, which hardly any photograph does


@pytest.mark.parametrize(("side", "scale"), [(128, 128), (255, 128), (256, 256), (511, 256), (512, 512), (4000, 512)])
def test_the_scale_is_the_largest_that_fits(side, scale):
    assert choose_scale(side, side + 1000, 128, [128, 256, 512]) == scale


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation):
    upright = lesion(180, 140)
    undo = {1: [], 2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}[orientation]  # Pillow's transpose codes
    stored = Image.fromarray(upright)
    for code in undo:
        stored = stored.transpose(code)
    exif = Image.Exif()
    exif[0x0112] = orientation
    row, plain = prepare(encode(stored, exif=exif)), prepare(encode(upright))
    assert (row["source_width"], row["source_height"]) == (180, 140)
    assert psnr(pixels_of(row), pixels_of(plain)) > 32
    assert bits(row["phash"], plain["phash"]) <= 4


def test_the_filter_looks_at_the_upright_size_without_decoding():
    row = prepare(encode(lesion(127, 300)))
    assert (row["drop_reason"], row["source_width"], row["image"]) == ("too_small", 127, None)


def odd_images():
    pixels = lesion()
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    alpha = np.full(grey.shape, 255, np.uint8)
    palette = Image.fromarray(pixels).quantize(64)
    yield "grey", encode(grey), grey
    yield "16 bit", encode((grey.astype(np.uint16) * 257), "PNG"), grey
    yield "CMYK", encode(Image.fromarray(pixels).convert("CMYK")), pixels
    yield "RGBA", encode(np.dstack([pixels, alpha]), "PNG"), pixels
    yield "palette", encode(palette, "PNG"), np.asarray(palette.convert("RGB"))
    yield "progressive", encode(pixels, progressive=True), pixels
    yield "BMP", encode(pixels, "BMP"), pixels


@pytest.mark.parametrize(
    ("kind", "data", "expected"), list(odd_images()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_odd_formats_become_rgb(kind, data, expected):
    row = prepare(data)
    expected = expected if expected.ndim == 3 else np.dstack([expected] * 3)
    assert row["drop_reason"] is None
    assert psnr(pixels_of(row), square(np.ascontiguousarray(expected), 128)) > 28


def test_transparent_parts_become_white():
    pixels = np.dstack([lesion(), np.zeros((160, 200), np.uint8)])
    assert pixels_of(prepare(encode(pixels, "PNG"))).min() > 250


DROPPED = {
    "truncated JPEG": (encode(lesion())[:3000], "truncated"),
    "truncated PNG": (encode(lesion(), "PNG")[:30000], "truncated"),
    "a web page": (b"<html>503</html>", "undecodable"),
    "nothing": (b"", "undecodable"),
    "only a JPEG's start": (b"\xff\xd8\xff\xe0", "undecodable"),
    "too many pixels": (encode(np.zeros((2100, 2000, 3), np.uint8)), "too_large"),
    "a PNG bomb": (encode(Image.new("1", (30_000, 30_000)), "PNG"), "too_large"),
}


@pytest.mark.parametrize(("data", "reason"), DROPPED.values(), ids=DROPPED)
def test_an_unusable_image_is_dropped_with_a_reason(data, reason):
    row = prepare(data)
    assert (row["drop_reason"], row["image"]) == (reason, None)
    assert row["sha256"] == hashlib.sha256(data).hexdigest()


def test_a_jpeg_with_harmless_warnings_is_kept():
    data = encode(lesion())
    assert prepare(data[:-2] + b"\0\0\0" + data[-2:])["drop_reason"] is None


def test_the_same_pixels_with_other_metadata_have_the_same_pixel_hash():
    data = encode(lesion(1400, 1200))  # large enough to be reduced while decoding
    commented = data[:2] + b"\xff\xfe\x00\x06hey!" + data[2:]
    left, right = prepare(data), prepare(commented)
    assert left["sha256"] != right["sha256"]
    assert left["pixel_sha256"] == right["pixel_sha256"]
    assert left["pixel_sha256"] != prepare(encode(lesion(1400, 1200, index=1)))["pixel_sha256"]


def test_the_perceptual_hash_follows_imagehash():
    import imagehash

    distances = []
    for index in range(30):
        pixels = lesion(240, 180, index)
        theirs = int(str(imagehash.phash(Image.fromarray(pixels))), 16)
        distances.append(bits(phash(small_grey(pixels)), theirs))
    assert np.mean(distances) < 2
    assert max(distances) <= 6


@pytest.mark.parametrize("side", [300, 224])
def test_a_squashed_and_saved_again_copy_is_near_its_original(side):
    for index in range(10):
        pixels = lesion(600, 450, index)
        copy = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))
        original, squashed = prepare(encode(pixels)), prepare(encode(copy, quality=80))
        assert bits(original["phash"], squashed["phash"]) <= 4
        thumbnails = [np.frombuffer(row["thumbnail"], np.uint8) / 255 for row in (original, squashed)]
        assert np.sqrt(np.mean((thumbnails[0] - thumbnails[1]) ** 2)) < 0.02


# Shards


@pytest.fixture
def dataset(tmp_path):
    """A zip with usable and unusable images and its index: (index, archive)."""
    files = {f"{i}.jpg": encode(lesion(index=i)) for i in range(6)} | {"small.jpg": encode(lesion(100, 100))}
    files |= {"cut.jpg": encode(lesion())[:3000], "bad.jpg": b"damage me, please" * 20}
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    raw = bytearray((tmp_path / "images.zip").read_bytes())
    raw[raw.index(b"damage me, please")] ^= 1
    (tmp_path / "images.zip").write_bytes(raw)
    rows = [
        {"image_id": f"d/{name}", "archive": "images.zip", "member": name, "label": "benign", "split": "train",
         "shard": 0 if name != "5.jpg" else 1}
        for name in files
    ]  # fmt: skip
    rows.append({"image_id": "d/gone", "shard": 0, "split": "test", "drop_reason": "no_image"})
    write_table(tmp_path / "index.parquet", rows, INDEX)
    return tmp_path / "index.parquet", tmp_path / "images.zip"


def run_shard(dataset, tmp_path, shard=0):
    output = tmp_path / "d" / f"{shard}.parquet"
    prepare_shard(dataset[0], [dataset[1]], output, shard, **SETTINGS)
    return read_table(output)


def test_a_shard_holds_a_row_for_each_of_its_rows_in_the_index(dataset, tmp_path):
    table = run_shard(dataset, tmp_path)
    assert table.schema == IMAGES
    rows = {row["image_id"]: row for row in table.to_pylist()}
    assert len(rows) == 9
    reasons = {id: row["drop_reason"] for id, row in rows.items() if row["drop_reason"]}
    assert reasons == {
        "d/small.jpg": "too_small", "d/cut.jpg": "truncated", "d/bad.jpg": "damaged_member", "d/gone": "no_image",
    }  # fmt: skip
    assert all((row["image"] is None) == (id in reasons) for id, row in rows.items())
    assert rows["d/0.jpg"]["image"]["path"] == "d/0.jpg.jpg"
    assert len(run_shard(dataset, tmp_path, 1)) == 1


def test_a_shard_is_the_same_whenever_it_is_made(dataset, tmp_path):
    assert run_shard(dataset, tmp_path).equals(run_shard(dataset, tmp_path))


def test_row_groups_are_small_and_images_uncompressed(dataset, tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    monkeypatch.setattr("dermaflux.images.ROW_GROUP_ROWS", 2)
    run_shard(dataset, tmp_path)
    metadata = pq.ParquetFile(tmp_path / "d" / "0.parquet").metadata
    assert metadata.num_row_groups == 5
    column = next(c for c in (metadata.row_group(0).column(i) for i in range(9)) if c.path_in_schema == "image.bytes")
    assert column.compression == "UNCOMPRESSED"


def test_a_shard_without_rows_is_an_empty_table(dataset, tmp_path):
    assert len(run_shard(dataset, tmp_path, 7)) == 0
