from conftest import painted_rows
from dermaflux.demo_models import build_clip
from dermaflux.tables import DRAWS, read_frame, write_table
from dermaflux.zero_shot import score_zero_shot

PROMPTS = {"benign": ["a benign lesion", "harmless"], "malignant": ["a malignant lesion"]}


def scores(folder, prompts, batch_size):
    write_table(folder / "test.parquet", painted_rows(10, 3), DRAWS)
    build_clip(folder / "model")
    score_zero_shot(folder / "model", folder / "test.parquet", folder / "p.parquet", prompts, batch_size, "cpu", "clip")
    return read_frame(folder / "p.parquet")["score"]


def test_scores_are_probabilities_and_do_not_depend_on_the_batch(tmp_path):
    one, many = scores(tmp_path / "a", PROMPTS, 1), scores(tmp_path / "b", PROMPTS, 10)
    assert one.between(0, 1).all() and one.std() > 0
    assert (one - many).abs().max() < 1e-5


def test_exchanged_prompts_exchange_the_scores(tmp_path):
    exchanged = {"benign": PROMPTS["malignant"], "malignant": PROMPTS["benign"]}
    assert (scores(tmp_path / "a", PROMPTS, 4) + scores(tmp_path / "b", exchanged, 4) - 1).abs().max() < 1e-5
