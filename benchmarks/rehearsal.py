"""A full-size rehearsal of the largest dataset: ISIC 2024's 401,059 tiles, generated, through index and prepare.

    make benchmark-rehearsal     (about ten minutes on two cores, 7 GB of disk)

The archive is in the published layout; the run is the workflow's own, by its command. What takes how long comes from
Snakemake's benchmark files.
"""

import argparse
import csv
import io
import math
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pandas as pd
import yaml
from common import ROOT, painted_jpegs, table

from dermaflux.demo_archives import ISIC_2024_METADATA

DISTINCT = 1000  # tiles that are painted; the others repeat them


def csv_text(header, rows):
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def write_archives(folder, images):
    """ISIC 2024's three files with `images` tiles of 130 px, one in a thousand malignant, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = [f"ISIC_{i:07d}" for i in range(images)]
    malignant = [i % 1000 == 0 for i in range(images)]
    names = ("isic_id", "patient_id", "image_type", "attribution", "copyright_license")
    places = [ISIC_2024_METADATA.index(name) for name in names]
    rows = []
    for i, id in enumerate(ids):
        row = ["0.123456"] * len(ISIC_2024_METADATA)  # as wide as the published table
        for place, value in zip(places, (id, f"IP_{i % 1042:07d}", "TBP tile: close-up", "generated", "CC-BY")):
            row[place] = value
        rows.append(row)
    tiles = painted_jpegs(DISTINCT, 130, 130)
    with zipfile.ZipFile(folder / "ISIC_2024_Training_Input.zip", "w") as archive:
        archive.writestr("ISIC_2024_Training_Input/metadata.csv", csv_text(ISIC_2024_METADATA, rows))
        for i, id in enumerate(ids):
            archive.writestr(f"ISIC_2024_Training_Input/{id}.jpg", tiles[i % DISTINCT])
    truth = csv_text(["isic_id", "malignant"], zip(ids, map(int, malignant)))
    (folder / "ISIC_2024_Training_GroundTruth.csv").write_text(truth)
    diagnoses = csv_text(["isic_id", "lesion_id", "iddx_1"], [
        (id, f"IL_{i}" if malignant[i] else "", "Malignant" if malignant[i] else "Benign") for i, id in enumerate(ids)
    ])  # fmt: skip
    (folder / "ISIC_2024_Training_Supplement.csv").write_text(diagnoses)


def write_config(folder, images):
    """A configuration with that one dataset, and a descriptor with the number of images asked for."""
    descriptors = folder / "datasets"
    descriptors.mkdir()
    for path in (ROOT / "config" / "datasets").glob("*.yaml"):
        descriptor = yaml.safe_load(path.read_text())
        if descriptor["name"] == "isic_2024":
            descriptor["images"] = images
        (descriptors / path.name).write_text(yaml.safe_dump(descriptor, sort_keys=False))
    places = {"results": "results", "logs": "results/logs", "benchmarks": "results/benchmarks"}
    overlay = {
        "pathvars": {key: str(folder / place) for key, place in places.items()},
        "datasets": ["isic_2024"],
        "descriptors": str(descriptors),
        "manifest": {"test_sets": []},
        "mirrors": {"isic_2024": str(folder / "archives")},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(overlay))


def measured(folder, rule):
    """Jobs, summed seconds and peak memory (MB) of a rule, from its benchmark files."""
    frames = [pd.read_csv(path, sep="\t", na_values="-") for path in (folder / rule).rglob("*.tsv")]
    frame = pd.concat(frames)
    return len(frame), frame["s"].sum(), frame["max_rss"].max()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=401_059)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("folder", type=Path, help="an empty or new folder for 7 GB")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    write_archives(folder / "archives", arguments.images)
    write_config(folder, arguments.images)
    shard_size = yaml.safe_load((ROOT / "config.yaml").read_text())["prepare"]["shard_size"]
    shards = [folder / f"results/images/isic_2024/{n}.parquet" for n in range(math.ceil(arguments.images / shard_size))]
    command = [sys.executable, "-m", "snakemake", "--cores", arguments.cores, "--configfile", folder / "config.yaml",
               "--", *shards]  # fmt: skip
    start = time.perf_counter()
    subprocess.run(list(map(str, command)), cwd=ROOT, check=True)
    wall = time.perf_counter() - start
    rows = []
    for rule in ("download_archive", "index_dataset", "prepare_shard"):
        jobs, seconds, megabytes = measured(folder / "results" / "benchmarks", rule)
        rows.append([rule, jobs, f"{seconds:.0f}", f"{arguments.images / seconds:,.0f}", f"{megabytes:,.0f}"])
    table(["rule", "jobs", "s, summed", "images/s of one job", "peak MB of a job"], rows)
    print(f"wall time on {arguments.cores} cores: {wall:.0f} s, {arguments.images / wall:,.0f} images/s")


if __name__ == "__main__":
    main()
