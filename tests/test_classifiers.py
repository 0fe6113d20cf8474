import pytest

from conftest import painted_rows
from dermaflux.classifiers import augmented, take_arm, torch, train_classifier
from dermaflux.demo_models import build_resnext, build_vit
from dermaflux.draws import write_draw
from dermaflux.errors import UserError
from dermaflux.files import read_json
from dermaflux.tables import DRAWS, IMAGES, read_frame, read_table, write_table

SETTINGS = {
    "epochs": 12,
    "batch_size": 16,
    "image_size": 64,
    "learning_rate": 2e-3,
    "weight_decay": 0.05,
    "augment": True,
    "precision": "fp32",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Draws of 64 real and 16 synthetic painted lesions, and 40 test images."""
    folder = tmp_path_factory.mktemp("classifiers")
    for name, count in (("real", 64), ("synthetic", 16), ("test", 40)):
        rows = painted_rows(count, name, prefix=name)
        write_table(folder / f"{name}-images.parquet", rows, IMAGES)
        pairs = [(row["image_id"], row["label"]) for row in rows]
        write_draw(pairs, count, 0, [folder / f"{name}-images.parquet"], folder / f"{name}.parquet", name)
    return folder


def train(data, folder, build, seed=0, synthetic=16):
    build(folder / "model")
    outputs = {"predictions": folder / "predictions.parquet", "metrics": folder / "metrics.json"}
    arm = {"name": "arm", "real": 64, "generator": "g", "synthetic": synthetic}
    train_classifier(
        model_folder=folder / "model",
        real=data / "real.parquet",
        synthetic=data / "synthetic.parquet",
        test=data / "test.parquet",
        arm=arm,
        classifier="c",
        settings=SETTINGS,
        seed=seed,
        device="cpu",
        revision="r",
        **outputs,
    )
    return read_frame(outputs["predictions"]), read_json(outputs["metrics"])


@pytest.mark.parametrize("build", [build_resnext, build_vit])
def test_classifiers_learn_painted_lesions_and_keep_their_predictions(data, tmp_path, build):
    predictions, metrics = train(data, tmp_path, build)
    assert metrics["roc_auc"] > 0.75
    assert metrics["epoch_losses"][-1] < metrics["epoch_losses"][0]
    assert set(predictions["image_id"]) == {f"test/{i}" for i in range(40)}
    assert predictions["score"].between(0, 1).all()


def test_a_seed_gives_the_same_predictions_again_and_another_seed_others(data, tmp_path):
    first, again, other = (
        train(data, tmp_path / n, build_resnext, s)[0]["score"] for n, s in (("a", 0), ("b", 0), ("c", 1))
    )
    assert (first == again).all() and (first != other).any()


def test_a_draw_that_is_too_small_for_its_arm_stops_the_run(data, tmp_path):
    with pytest.raises(UserError, match="holds 16 images of the 18"):
        train(data, tmp_path, build_resnext, synthetic=18)


def test_arms_take_the_first_images_of_each_label(data):
    table = read_table(data / "real.parquet")
    small, large = take_arm(table, 16), take_arm(table, 32)
    assert sorted(small["label"].to_pylist()) == ["benign"] * 8 + ["malignant"] * 8
    assert set(small["image_id"].to_pylist()) < set(large["image_id"].to_pylist())
    assert table.schema.names == DRAWS.names


def test_augmentation_only_turns_and_flips():
    picture = torch.arange(27, dtype=torch.uint8).view(1, 3, 3, 3).repeat(200, 1, 1, 1)
    turned = augmented(picture, torch.Generator().manual_seed(0))
    assert (turned.flatten(1).sort(1).values == picture.flatten(1)).all()
    assert len({tuple(p.flatten().tolist()) for p in turned}) == 8
