import numpy as np
import pandas as pd
import pytest

from conftest import ROOT, load_paper_config
from dermaflux.compare import compare_arms, compare_claims, compare_datasets, compare_models
from dermaflux.errors import UserError
from dermaflux.files import write_json
from dermaflux.tables import IMAGES, INDEX, MANIFEST, PREDICTIONS, write_table

CLAIMS, FIGURE = ROOT / "config/claims.yaml", ROOT / "config/paper_figure5.csv"
LABELS = ["benign", "malignant"] * 100
RNG = np.random.default_rng(0)


def predictions(path, skill, ids=range(200)):
    """Scores of 200 test images that tell the labels apart the better the higher `skill` (0 to 1)."""
    noise = RNG.random(200)
    truth = np.array([label == "malignant" for label in LABELS])
    score = skill * truth + (1 - skill) * noise
    rows = [{"image_id": f"t/{i}", "label": l, "score": s} for i, l, s in zip(ids, LABELS, score, strict=True)]
    write_table(path, rows, PREDICTIONS)
    return str(path)


@pytest.fixture
def study(tmp_path):
    """Predictions and metrics of ViT runs: real images alone, with synthetic images, synthetic alone; a zero-shot model."""
    arms = {"real2500": (2500, None, 0, 0.3), "real2500_dermaflux2500": (2500, "dermaflux", 2500, 0.6)}
    arms |= {"dermaflux2500": (0, "dermaflux", 2500, 0.1)}
    files = {"predictions": [], "metrics": []}
    for name, (real, generator, synthetic, skill) in arms.items():
        for seed in (0, 1):
            folder = tmp_path / name / str(seed)
            arm = {"name": name, "real": real, "generator": generator, "synthetic": synthetic}
            files["predictions"].append(predictions(folder / "p.parquet", skill))
            write_json(folder / "m.json", {"classifier": "vit", "seed": seed, "arm": arm})
            files["metrics"].append(str(folder / "m.json"))
    return files, {"make": predictions(tmp_path / "zero.parquet", 0.2)}


def test_each_arm_stands_beside_the_papers_figure(study, tmp_path):
    compare_arms(**study[0], figure=FIGURE, output=tmp_path / "a.csv", resamples=200, seed=0)
    table = pd.read_csv(tmp_path / "a.csv").set_index("arm")
    assert table.loc["real2500", "paper_accuracy"] == 0.721
    assert table.loc["real2500_dermaflux2500", "paper_accuracy"] == 0.764
    assert np.isnan(table.loc["dermaflux2500", "paper_accuracy"])
    assert table.loc["real2500_dermaflux2500", "accuracy"] > table.loc["real2500", "accuracy"]
    assert (table["seeds"] == "0 1").all() and (table["test_images"] == 200).all()


def test_claims_get_the_verdict_that_the_interval_gives(study, tmp_path):
    compare_claims(*study[0].values(), study[1], CLAIMS, tmp_path / "c.csv", 300, 0)
    table = pd.read_csv(tmp_path / "c.csv").set_index("id")
    assert table.loc["augmentation", "verdict"] == "reproduced" and table.loc["augmentation", "low"] > 0
    assert table.loc["synthetic_only", "verdict"] == "contradicted" and table.loc["synthetic_only", "high"] < 0
    assert table.loc["against_diffusion_mixed", "verdict"] == "not tested"
    assert table.loc["state_of_the_art", ["better", "than"]].tolist() == ["real2500_dermaflux2500", "make"]


def test_the_best_arm_stands_beside_the_zero_shot_models(study, tmp_path):
    compare_models(*study[0].values(), study[1], CLAIMS, tmp_path / "m.csv", 100, 0)
    table = pd.read_csv(tmp_path / "m.csv").set_index("model")
    assert table.loc["vit", "trained_on"] == "real2500_dermaflux2500"
    assert table["paper_roc_auc"].to_dict() == {"vit": 0.859, "make": 0.786}


def test_predictions_over_other_test_images_are_refused(study, tmp_path):
    study[0]["predictions"][0] = predictions(tmp_path / "other.parquet", 0.5, ids=range(1, 201))
    with pytest.raises(UserError, match="different test images"):
        compare_arms(**study[0], figure=FIGURE, output=tmp_path / "a.csv", resamples=10, seed=0)


def test_the_datasets_table_accounts_for_every_row(tmp_path):
    ids = [f"d/{i}" for i in range(4)]
    index = [{"image_id": i, "label": "benign", "diagnosis": "nevus", "patient_id": "P"} for i in ids[:3]]
    index.append({"image_id": ids[3], "diagnosis": "keratosis", "drop_reason": "ambiguous_label"})
    write_table(tmp_path / "index.parquet", index, INDEX)
    sizes = [(600, 450), (130, 140), (100, 100), (None, None)]
    images = [{"image_id": i, "source_width": w, "source_height": h} for i, (w, h) in zip(ids, sizes, strict=True)]
    write_table(tmp_path / "images.parquet", images, IMAGES)
    uses = [("train", 256, None), ("test", 128, None), ("excluded", None, "too_small"), ("excluded", None, "no_image")]
    rows = [{"image_id": i, "use": u, "scale": s, "exclude_reason": r} for i, (u, s, r) in zip(ids, uses, strict=True)]
    write_table(tmp_path / "manifest.parquet", rows, MANIFEST)
    facts = {"name": "ddi", "title": "D", "modality": "clinical", "licence": "CC0-1.0", "images": 4}
    facts["labels"] = {"nevus": "benign", "keratosis": "ambiguous"}
    paths = {
        "index": tmp_path / "index.parquet",
        "shards": [tmp_path / "images.parquet"],
        "manifest": tmp_path / "manifest.parquet",
    }
    outputs = [tmp_path / name for name in ("table.csv", "labels.csv", "thresholds.csv")]
    compare_datasets([{**facts, **paths}], ROOT / "config/paper_table1.csv", *outputs)
    table, labels, thresholds = map(pd.read_csv, outputs)
    row = table.iloc[0]
    assert row[["rows", "train", "test", "excluded", "median_side", "patients"]].tolist() == [4, 1, 1, 2, 130, 1]
    assert row[["scale_128", "scale_256", "excluded_no_image", "excluded_too_small"]].tolist() == [1, 1, 1, 1]
    assert row[["paper_images", "paper_malignant"]].tolist() == [656, 171]
    columns = ["ambiguous_as", "benign", "malignant", "excluded_as_ambiguous"]
    expected = [["exclude", 3, 0, 1], ["benign", 4, 0, 0], ["malignant", 3, 1, 0]]
    assert labels[columns].values.tolist() == 2 * expected and list(labels["dataset"]) == 3 * ["ddi"] + 3 * ["all"]
    assert thresholds.iloc[-1][["dataset", "from_0_px", "from_128_px", "from_512_px"]].tolist() == ["all", 3, 2, 0]


def test_the_papers_table_names_the_datasets_of_its_run():
    paper = pd.read_csv(ROOT / "config/paper_table1.csv")
    assert list(paper["dataset"]) == load_paper_config().datasets
    assert paper["images"].sum() == 511_565


def test_the_sweep_is_drawn_with_the_papers_lines(study, tmp_path):
    from dermaflux.plots import plot_sweep

    compare_arms(**study[0], figure=FIGURE, output=tmp_path / "a.csv", resamples=50, seed=0)
    plot_sweep(tmp_path / "a.csv", FIGURE, tmp_path / "sweep.svg", "dermaflux")
    drawing = (tmp_path / "sweep.svg").read_text()
    assert "2,500 real" in drawing and drawing.count("stroke-dasharray") >= 4
