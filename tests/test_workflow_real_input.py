"""The chain on real images in the archives they were published in, to the report.

The images lie beside the checkout and are not part of it: without them there is nothing to run.
"""

import json
import subprocess
import sys

import pandas as pd
import pytest

from conftest import ROOT
from dermaflux.tables import read_frame
from workflow import fresh_clone, planned, snakemake

MAKER = ROOT.parent / "shared/data/make_real_archives.py"
CONFIG = ("--profile", "profiles/demo", "--configfile", "config/demo.yaml", "tests/real_input.yaml")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MAKER.exists(), reason="the real images are not beside this checkout"),
]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    clone = fresh_clone(tmp_path_factory.mktemp("real"))
    subprocess.run([sys.executable, MAKER, clone / "real_archives"], check=True, capture_output=True)
    snakemake(clone, *CONFIG)
    return clone


def test_real_archives_go_through_to_the_report(clone):
    summary = json.loads((clone / "results/real_input/report/summary.json").read_text())
    assert summary["corpus"]["rows"] == 36 + 13 + 16
    assert summary["corpus"]["test"] == 13
    assert summary["samples"] == {"dermaflux": 12}
    assert planned(clone, *CONFIG) == {}


def test_labels_are_those_of_the_published_tables(clone):
    index = read_frame(clone / "results/real_input/index/isic_2019.parquet")
    truth = pd.read_csv(ROOT.parent / "shared/data/real/isic2019/ISIC_2019_Training_GroundTruth.csv").set_index("image")
    for row in index.itertuples():
        assert truth.loc[row.source_id, row.diagnosis] == 1
        assert (row.label == "malignant") == (row.diagnosis in ("MEL", "BCC", "SCC"))


def test_actinic_keratoses_are_left_out_with_their_reason(clone):
    manifest = read_frame(clone / "results/real_input/corpus/manifest/pad_ufes_20.parquet")
    index = read_frame(clone / "results/real_input/index/pad_ufes_20.parquet")
    keratoses = set(index.loc[index["diagnosis"] == "ACK", "image_id"])
    left_out = manifest[manifest["exclude_reason"] == "ambiguous_label"]
    assert set(left_out["image_id"]) == keratoses and len(keratoses) > 0
