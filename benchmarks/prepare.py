"""Preparing images: CPU time of our `prepare_shard` against the usual ways, alternating, in one run.

    make benchmark-prepare        (about five minutes)

Ours reads a zip and an index and writes a finished shard; of img2dataset only its Resizer is timed, with the same two
hashes by hashlib and imagehash, without reading or writing. All ways get the same JPEGs and one core.
"""

import argparse
import hashlib
import io
import multiprocessing
import os
import statistics
import tempfile
import time
import zipfile
from pathlib import Path

os.environ.update(NO_ALBUMENTATIONS_UPDATE="1", OMP_NUM_THREADS="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1")

import cv2
import imagehash
import numpy as np
import psutil
import simplejpeg
from common import painted_jpegs, table
from PIL import Image, ImageOps

from dermaflux.images import choose_scale, prepare_image, prepare_shard
from dermaflux.tables import INDEX, write_table

SCALES, MIN_SIDE, MAX_PIXELS, QUALITY = [128, 256, 512], 128, 200_000_000, 95
SETTINGS = {"min_side": MIN_SIDE, "scales": SCALES, "max_pixels": MAX_PIXELS, "jpeg_quality": QUALITY}
# width, height, images in a round, of which so many differ
SIZES = [(130, 130, 2000, 200), (600, 450, 400, 40), (1024, 1024, 120, 12), (4000, 3000, 16, 4)]


def write_dataset(folder, jpegs, count):
    """A zip of `count` images (the JPEGs in turn) and its index; returns their paths."""
    archive, index = folder / "images.zip", folder / "index.parquet"
    rows = []
    with zipfile.ZipFile(archive, "w") as file:
        for i in range(count):
            file.writestr(f"{i}.jpg", jpegs[i % len(jpegs)])
            rows.append({"image_id": f"d/{i}", "archive": archive.name, "member": f"{i}.jpg", "label": "benign",
                         "split": "train", "shard": 0})  # fmt: skip
    write_table(index, rows, INDEX)
    return archive, index


def ours(folder, jpegs, count):
    archive, index = folder / "images.zip", folder / "index.parquet"
    prepare_shard(index, [archive], folder / "shard.parquet", 0, **SETTINGS)


def img2dataset_way(folder, jpegs, count):
    from img2dataset.resizer import Resizer

    scale = choose_scale(*Image.open(io.BytesIO(jpegs[0])).size, MIN_SIDE, SCALES)
    resizer = Resizer(scale, "center_crop", resize_only_if_bigger=True, encode_quality=QUALITY)
    for i in range(count):
        data = jpegs[i % len(jpegs)]
        out, *_, error = resizer(io.BytesIO(data))
        assert error is None, error
        hashlib.sha256(data).hexdigest()
        imagehash.phash(Image.open(io.BytesIO(out)))  # of the small result: the cheapest place to compute it


def _with_pillow(example, hashes):
    data = example["image"]["bytes"]
    image = Image.open(io.BytesIO(data)).convert("RGB")
    scale = choose_scale(*image.size, MIN_SIDE, SCALES)
    image = ImageOps.fit(image, (scale, scale), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, subsampling=0)
    row = {"image": {"bytes": out.getvalue(), "path": None}}
    return row | ({"sha256": hashlib.sha256(data).hexdigest(), "phash": str(imagehash.phash(image))} if hashes else {})


def datasets_way(folder, jpegs, count, hashes=True):
    import datasets

    datasets.disable_progress_bars()
    rows = [{"bytes": jpegs[i % len(jpegs)], "path": None} for i in range(count)]
    source = datasets.Dataset.from_dict({"image": rows})
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        done = source.map(_with_pillow, fn_kwargs={"hashes": hashes}, cache_file_name=f"{cache}/cache.arrow")
        done.to_parquet(f"{cache}/shard.parquet")


def datasets_without_hashes(folder, jpegs, count):
    datasets_way(folder, jpegs, count, hashes=False)


def floor(folder, jpegs, count):
    """Decoding at the reduced size and encoding the result: nothing that our way leaves to do can go below."""
    scale = choose_scale(*Image.open(io.BytesIO(jpegs[0])).size, MIN_SIDE, SCALES)
    for i in range(count):
        pixels = simplejpeg.decode_jpeg(jpegs[i % len(jpegs)], "RGB", min_height=2 * scale, min_width=2 * scale)
        simplejpeg.encode_jpeg(np.ascontiguousarray(pixels[:scale, :scale]), QUALITY, "RGB", "444")


WAYS = {
    "dermaflux prepare_shard": ours,
    "img2dataset Resizer + hashes": img2dataset_way,
    "datasets.map + to_parquet, hashes": datasets_way,
    "datasets.map + to_parquet": datasets_without_hashes,
    "floor: decode and encode alone": floor,
}


def cpu_times(size, rounds):
    """CPU ms an image of each way, a list by round: the ways take turns, so that a noisy machine disturbs all alike."""
    width, height, count, distinct = size
    jpegs = painted_jpegs(distinct, width, height)
    times = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder, jpegs, count)
        for round in range(rounds + 1):
            for name, way in WAYS.items():
                start = time.process_time()
                way(folder, jpegs, count)
                if round:  # the first warms up
                    times[name].append((time.process_time() - start) / count * 1e3)
    return times


def psnr(size):
    """Lowest PSNR (dB) of our pixels, before they are encoded, against full decoding and Lanczos by Pillow."""
    from dermaflux.images import decode, square

    worst = np.inf
    for data in painted_jpegs(4, *size[:2]):
        pixels, _, scale = decode(data, MIN_SIDE, SCALES, MAX_PIXELS)
        mine = square(pixels, scale).astype(float)
        theirs = ImageOps.fit(Image.open(io.BytesIO(data)).convert("RGB"), (scale, scale), Image.Resampling.LANCZOS)
        error = ((mine - np.asarray(theirs, float)) ** 2).mean()
        worst = min(worst, 10 * np.log10(255**2 / error) if error else np.inf)
    return worst


def compare_ways(rounds):
    rows = []
    for size in SIZES:
        times = cpu_times(size, rounds)
        mine = times["dermaflux prepare_shard"]
        for name, its in times.items():
            ratio = statistics.median(a / b for a, b in zip(its, mine))
            rows.append([f"{size[0]}x{size[1]}", name, f"{statistics.median(its):.3f}", f"{ratio:.2f}"])
        rows.append([f"{size[0]}x{size[1]}", "PSNR against full decode + Lanczos", f"{psnr(size):.1f} dB", ""])
    table(["size", "way", "CPU ms an image", "times ours"], rows)


def _prepare_in_process(folder):
    ours(Path(folder), None, None)


def compare_processes(rounds):
    """Wall time of two shards one after another, over that of both at once."""
    width, height, count, distinct = SIZES[1]
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        for name in (one, two):
            write_dataset(Path(name), painted_jpegs(distinct, width, height), count * 4)
        gains = []
        for _ in range(rounds):
            start = time.perf_counter()
            for name in (one, two):
                _run([name])
            alone = time.perf_counter() - start
            start = time.perf_counter()
            _run([one, two])
            gains.append(alone / (time.perf_counter() - start))
    table(["two processes against one", "times"], [["600x450", f"{statistics.median(gains):.2f}"]])


def _run(folders):
    processes = [multiprocessing.Process(target=_prepare_in_process, args=(name,)) for name in folders]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0


def memory_drift(count=20_000):
    """Resident memory (MB) after each tenth of `count` images of several sizes."""
    jpegs = [data for size in SIZES[:3] for data in painted_jpegs(8, *size[:2])]
    rss, me = [], psutil.Process()
    for i in range(count):
        prepare_image(jpegs[i % len(jpegs)], **SETTINGS)
        if (i + 1) % (count // 10) == 0:
            rss.append(me.memory_info().rss / 1e6)
    drift = (rss[-1] - rss[0]) / rss[0] * 100
    table(["images", "resident memory, MB"], [[f"{(n + 1) * count // 10:,}", f"{mb:.0f}"] for n, mb in enumerate(rss)])
    print(f"drift from the first tenth to the last: {drift:+.1f} %")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    cv2.setNumThreads(1)
    compare_ways(rounds)
    compare_processes(rounds)
    memory_drift()


if __name__ == "__main__":
    main()
