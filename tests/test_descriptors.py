"""The dataset descriptors: all are valid, and the original metadata comes out as it was counted."""

import csv
import io
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import yaml

from dermaflux.closed import ConfigError
from dermaflux.config import parse_config
from dermaflux.demo_archives import PAINTERS
from dermaflux.descriptors import load_descriptor
from dermaflux.index import index_dataset
from dermaflux.tables import read_frame

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "config" / "datasets"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
REAL = ROOT.parent / "shared" / "data" / "real"
needs_real_tables = pytest.mark.skipif(not REAL.exists(), reason="the original tables are not beside the repository")


@pytest.mark.parametrize("name", NAMES)
def test_every_descriptor_loads_and_says_what_a_reader_needs(name):
    descriptor = load_descriptor(FOLDER, name)
    assert descriptor.citation
    assert descriptor.licence
    assert {"benign", "malignant"} <= set(descriptor.labels.values())
    if descriptor.access == "manual":
        assert descriptor.instructions
    else:
        assert all(archive.url.startswith(("https://", "hf://datasets/")) for archive in descriptor.archives)


def test_the_papers_corpus_has_511565_images_and_8238_for_testing():
    config = parse_config(yaml.safe_load((ROOT / "config.yaml").read_text()))
    images = {name: load_descriptor(FOLDER, name).images for name in config.datasets}
    assert len(images) == 11
    assert sum(images.values()) == 511_565 + 8_238


def test_every_dataset_can_be_painted():
    assert set(PAINTERS) == set(NAMES)


def test_only_known_licences_are_redistributed():
    for name in ("ddi", "kaggle_2", "derm_t2im"):
        assert not load_descriptor(FOLDER, name).redistribute


def test_derm12345_maps_its_40_codes():
    meanings = Counter(load_descriptor(FOLDER, "derm12345").labels.values())
    assert meanings == {"benign": 27, "malignant": 12, "ambiguous": 1}


def test_a_misspelt_key_is_named_with_the_right_one(tmp_path):
    text = (FOLDER / "med_node.yaml").read_text().replace("modality:", "modalty:")
    (tmp_path / "med_node.yaml").write_text(text)
    with pytest.raises(ConfigError, match="modalty: unknown key; did you mean `modality`"):
        load_descriptor(tmp_path, "med_node")


def test_an_unknown_dataset_lists_the_known_ones():
    with pytest.raises(ConfigError, match="no descriptor .*there are: .*isic_2019"):
        load_descriptor(FOLDER, "isic_2091")


def test_a_file_that_no_part_uses_is_refused(tmp_path):
    text = (FOLDER / "med_node.yaml").read_text().replace("archives:\n", "archives:\n  - name: more.zip\n")
    (tmp_path / "med_node.yaml").write_text(text)
    with pytest.raises(ConfigError, match="no part uses.*more.zip"):
        load_descriptor(tmp_path, "med_node")


# The original tables. Images are empty members: the index reads names only.


def column(path, name):
    with open(path, newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def write_zip(path, names, **more):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
        for name, data in more.items():
            archive.writestr(name, data)


def index(folder, name, ambiguous="exclude", archives=None, **changes):
    descriptor = load_descriptor(FOLDER, name)
    facts = descriptor.index_facts() | changes
    names = archives or [archive.name for archive in descriptor.archives]
    index_dataset([folder / n for n in names], folder / "index.parquet", facts, ambiguous, 4096, True)
    return read_frame(folder / "index.parquet")


def copy(table, folder):
    (folder / table.name).write_bytes(table.read_bytes())
    return folder / table.name


@needs_real_tables
def test_isic_2019_train_comes_out_as_published(tmp_path):
    truth = copy(REAL / "isic2019" / "ISIC_2019_Training_GroundTruth.csv", tmp_path)
    copy(REAL / "isic2019" / "ISIC_2019_Training_Metadata.csv", tmp_path)
    ids = column(truth, "image")
    write_zip(tmp_path / "ISIC_2019_Training_Input.zip", [f"ISIC_2019_Training_Input/{id}.jpg" for id in ids])
    parts = load_descriptor(FOLDER, "isic_2019").index_facts()["parts"][:1]
    files = [f"ISIC_2019_Training_{kind}" for kind in ("Input.zip", "GroundTruth.csv", "Metadata.csv")]
    rows = index(tmp_path, "isic_2019", archives=files, images=25_331, parts=parts)
    assert rows["diagnosis"].value_counts().to_dict() == {
        "NV": 12_875, "MEL": 4_522, "BCC": 3_323, "BKL": 2_624, "AK": 867, "SCC": 628, "VASC": 253, "DF": 239,
    }  # fmt: skip
    assert rows["label"].value_counts().to_dict() == {"benign": 15_991, "malignant": 8_473}
    assert rows["drop_reason"].value_counts().to_dict() == {"ambiguous_label": 867}
    assert rows["lesion_id"].isna().sum() == 2_084
    assert rows["lesion_id"].nunique() == 11_847
    assert set(rows["shard"]) == set(range(7))


@needs_real_tables
def test_isic_2020_comes_out_as_published_and_honours_its_list_of_duplicates(tmp_path):
    truth = copy(REAL / "isic2020" / "ISIC_2020_Training_GroundTruth_v2.csv", tmp_path)
    copy(REAL / "isic2020" / "ISIC_2020_Training_Duplicates.csv", tmp_path)
    write_zip(tmp_path / "ISIC_2020_Training_JPEG.zip", [f"train/{id}.jpg" for id in column(truth, "image_name")])
    rows = index(tmp_path, "isic_2020")
    assert len(rows) == 33_126
    assert rows["label"].value_counts().to_dict() == {"benign": 32_542, "malignant": 584}
    assert list(rows["label"] == "malignant") == [target == "1" for target in column(truth, "target")]
    assert rows["drop_reason"].value_counts().to_dict() == {"listed_duplicate": 425}
    assert rows["drop_reason"].isna().sum() == 32_701
    assert (rows["patient_id"].nunique(), rows["lesion_id"].nunique()) == (2_056, 32_701)


@needs_real_tables
def test_milk10k_comes_out_as_published(tmp_path):
    metadata = copy(REAL / "milk10k" / "MILK10k_Training_Metadata.csv", tmp_path)
    copy(REAL / "milk10k" / "MILK10k_Training_GroundTruth.csv", tmp_path)
    pairs = zip(column(metadata, "lesion_id"), column(metadata, "isic_id"), strict=True)
    write_zip(tmp_path / "MILK10k_Training_Input.zip", [f"MILK10k_Training_Input/{a}/{b}.jpg" for a, b in pairs])
    rows = index(tmp_path, "milk10k")
    assert (len(rows), rows["lesion_id"].nunique()) == (10_480, 5_240)
    assert rows["label"].value_counts().to_dict() == {"benign": 2_966, "malignant": 6_908}
    assert rows["drop_reason"].value_counts().to_dict() == {"ambiguous_label": 606}
    assert rows["modality"].value_counts().to_dict() == {"clinical": 5_240, "dermoscopic": 5_240}


@needs_real_tables
@pytest.mark.parametrize(
    ("ambiguous", "labels"),
    [
        ("exclude", {"benign": 479, "malignant": 1_089}),
        ("benign", {"benign": 1_209, "malignant": 1_089}),
        ("malignant", {"benign": 479, "malignant": 1_819}),
    ],
)
def test_pad_ufes_20_comes_out_as_published_whatever_actinic_keratosis_counts_as(tmp_path, ambiguous, labels):
    table = REAL / "pad_ufes_20" / "metadata.csv"
    inner = {}
    for part in (1, 2, 3):
        file = io.BytesIO()
        write_zip(file, [f"imgs_part_{part}/{id}" for id in column(table, "img_id")[part - 1 :: 3]])
        inner[f"zr7vgbcyr2-1/images/imgs_part_{part}.zip"] = file.getvalue()
    write_zip(tmp_path / "zr7vgbcyr2-1.zip", [], **inner, **{"zr7vgbcyr2-1/metadata.csv": table.read_bytes()})
    rows = index(tmp_path, "pad_ufes_20", ambiguous)
    assert rows["diagnosis"].value_counts().to_dict() == {
        "BCC": 845, "ACK": 730, "NEV": 244, "SEK": 235, "SCC": 192, "MEL": 52,
    }  # fmt: skip
    assert rows["label"].value_counts().to_dict() == labels
    assert (rows["patient_id"].nunique(), rows["lesion_id"].nunique()) == (1_373, 1_641)
    assert set(rows["fitzpatrick"].dropna()) == set("123456")
