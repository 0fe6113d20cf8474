from conftest import painted_rows
from dermaflux.files import read_json
from dermaflux.separability import audit_separability
from dermaflux.tables import IMAGES, MANIFEST, SAMPLES, write_table


def test_samples_of_two_kinds_are_told_apart_and_mislabelled_ones_are_not(tmp_path):
    train, test = (painted_rows(n, n, prefix=f"d{n}", split="train") for n in (60, 30))
    write_table(tmp_path / "images.parquet", train + test, IMAGES)
    uses = [
        {"image_id": r["image_id"], "label": r["label"], "use": "train" if r in train else "test"} for r in train + test
    ]
    write_table(tmp_path / "manifest.parquet", uses, MANIFEST)
    samples = [
        {"sample_id": r["image_id"], "image": r["image"], "label": r["label"]} for r in painted_rows(30, 9, prefix="s")
    ]
    exchanged = [{**s, "label": {"benign": "malignant", "malignant": "benign"}[s["label"]]} for s in samples]
    generators = {}
    for name, rows in (("good", samples), ("bad", exchanged)):
        write_table(tmp_path / f"{name}.parquet", rows, SAMPLES)
        generators[name] = ([tmp_path / f"{name}.parquet"], [(r["sample_id"], r["label"]) for r in rows])
    audit_separability(
        [tmp_path / "manifest.parquet"], [tmp_path / "images.parquet"], generators, tmp_path / "s.json", 100, 0
    )
    result = read_json(tmp_path / "s.json")
    assert result["good"]["roc_auc"] > 0.8 and result["bad"]["roc_auc"] < 0.2 and result["real_test"]["roc_auc"] > 0.65
    assert result["real_test"]["images"] == 30
