"""The manifest of the whole corpus: time and memory of every slice over 511,565 generated rows.

    make benchmark-corpus        (about three minutes)

The pictures are random smooth ones, one in fifty a copy of another, in eleven datasets of the published sizes, each slice
decided in a process of its own, as in a run.
"""

import math
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
from common import ROOT, peak_gigabytes, table

from dermaflux.config import parse_config
from dermaflux.duplicates import Pictures, near_duplicates, near_pairs
from dermaflux.images import DCT
from dermaflux.manifest import write_slice
from dermaflux.tables import IMAGES, INDEX, write_table

COPIES = 0.02
CHUNK = 4096
SQUARE = ("isic_2024", "kaggle_1", "kaggle_2")
TESTED = ("isic_2019", "kaggle_1", "kaggle_2")


def smooth_pictures(rng, count):
    """(thumbnails uint8 [count, 32, 32], hashes uint64 [count]): random low frequencies, as in a photograph."""
    frequencies = np.add.outer(np.arange(8), np.arange(8)) + 1.0
    low = rng.normal(0, 1, (count, 8, 8)).astype(np.float32) / frequencies
    pictures = DCT.T @ low @ DCT * 12 + 128
    thumbnails = np.clip(pictures, 0, 255).astype(np.uint8)
    seen = (DCT @ thumbnails.astype(np.float32) @ DCT.T).reshape(count, 64)
    bits = seen > np.median(seen, axis=1, keepdims=True)
    return thumbnails, np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)


def write_dataset(folder, name, descriptor, rng):
    """The index and the images tables (without images) of a dataset of its published size; every 50th is a copy."""
    side = {"source_width": 300, "source_height": 300 if name in SQUARE else 225}
    tests = 0.15 if name in TESTED else 0
    rows = []
    for first in range(0, descriptor.images, CHUNK):
        count = min(CHUNK, descriptor.images - first)
        thumbnails, hashes = smooth_pictures(rng, count)
        copies = math.ceil(count * COPIES)
        thumbnails[:copies], hashes[:copies] = thumbnails[-copies:], hashes[-copies:]
        images = [
            {
                "image_id": f"{name}/{first + i:07d}", "sha256": f"{name}{first + i:060d}", "scale": 128, **side,
                "pixel_sha256": f"p{name}{first + i:060d}", "phash": int(hashes[i]), "label": "benign",
                "thumbnail": thumbnails[i].tobytes(), "split": "test" if rng.random() < tests else "train",
            }
            for i in range(count)
        ]  # fmt: skip
        write_table(folder / f"{name}-{first}.images", images, IMAGES)
        rows += [{"image_id": image["image_id"], "shard": 0, "dataset": name} for image in images]
    write_table(folder / f"{name}.index", rows, INDEX)


def _slice(folder, name, datasets, manifest, results):
    start = time.perf_counter()
    facts = [(other, folder / f"{other}.index", sorted(folder.glob(f"{other}-*.images"))) for other in datasets]
    write_slice(
        name, facts, folder / f"{name}.manifest", manifest.test_sets, manifest.groups, manifest.near_duplicate_bits,
        manifest.near_duplicate_rmse,
    )  # fmt: skip
    results.put((time.perf_counter() - start, peak_gigabytes()))


def decide_all(folder, config, descriptors):
    """Decide every slice in turn; returns [(dataset, rows, seconds, GB)]."""
    results, found = multiprocessing.get_context("spawn").Queue(), []
    for position, name in enumerate(config.datasets):
        needed = config.datasets[: position + 1]
        needed += [other for other in config.manifest.test_sets if other not in needed]
        process = multiprocessing.get_context("spawn").Process(
            target=_slice, args=(folder, name, needed, config.manifest, results)
        )
        process.start()
        seconds, gigabytes = results.get()
        process.join()
        found.append((name, descriptors[name].images, seconds, gigabytes))
    return found


def search_times(config, total):
    """Seconds of the search for near hashes alone, and of whole near-duplicate search, over `total` pictures at once."""
    rng = np.random.default_rng(1)
    parts = [smooth_pictures(rng, min(CHUNK, total - first)) for first in range(0, total, CHUNK)]
    thumbnails, hashes = (np.concatenate(arrays) for arrays in zip(*parts))
    aspect = np.where(np.arange(total) % 5 == 0, 4 / 3, 1.0)  # about a fifth is not square, as in the corpus
    pictures, manifest = Pictures(hashes, aspect, thumbnails, np.arange(total)), config.manifest
    start = time.perf_counter()
    near_pairs(hashes, hashes, manifest.near_duplicate_bits)
    middle = time.perf_counter()
    near_duplicates(pictures, pictures, manifest.near_duplicate_bits, manifest.near_duplicate_rmse, crops=False)
    return middle - start, time.perf_counter() - middle


def main():
    config = parse_config(yaml.safe_load((ROOT / "config.yaml").read_text()))
    descriptors = config.load_descriptors()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for dataset in config.datasets:
            write_dataset(folder, dataset, descriptors[dataset], rng)
        found = decide_all(folder, config, descriptors)
    rows = [[name, f"{count:,}", f"{seconds:.1f}", f"{gb:.2f}"] for name, count, seconds, gb in found]
    total = sum(count for _, count, _, _ in found)
    rows.append(["all", f"{total:,}", f"{sum(f[2] for f in found):.1f}", f"{max(f[3] for f in found):.2f}"])
    table(["slice", "rows", "s", "peak GB"], rows)
    near, whole = search_times(config, total)
    table(["search", "s"], [[f"hashes within {config.manifest.near_duplicate_bits} bits, {total:,} against all", f"{near:.1f}"],
                            ["with central squares, confirmed on pixels", f"{whole:.1f}"]])  # fmt: skip


if __name__ == "__main__":
    main()
