import pytest

from conftest import painted_rows
from dermaflux.captions import CAPTIONERS, caption_shard
from dermaflux.config import BUILT_IN_CAPTIONERS
from dermaflux.errors import UserError
from dermaflux.tables import IMAGES, read_frame, write_table

PROMPT = "This is a {label} lesion."
TEMPLATE = "This photo depicts a {label} lesion. Here's a description of the mole: {description}"


def shard(path, count=6):
    rows = [*painted_rows(count, 1, split="train", scale=128), {"image_id": "d/dropped", "drop_reason": "too_small"}]
    write_table(path, rows, IMAGES)
    return path


def caption(folder, captioner="measured"):
    out = folder / "captions.parquet"
    caption_shard(
        shard(folder / "images.parquet"), out, captioner, {"backend": captioner}, None, PROMPT, TEMPLATE, 0, "shard"
    )
    return out


def test_every_kept_image_gets_a_caption_in_the_papers_form(tmp_path):
    frame = read_frame(caption(tmp_path))
    assert list(frame["image_id"]) == [f"d/{i}" for i in range(6)]
    assert frame["caption"][1].startswith(
        "This photo depicts a malignant lesion. Here's a description of the mole: The mole"
    )
    assert (frame["description"] == frame["asymmetry"] + " " + frame["border"] + " " + frame["color"]).all()
    assert frame["prompt_sha256"].nunique() == 2  # one a label


def test_the_words_differ_between_the_labels(tmp_path):
    write_table(tmp_path / "images.parquet", painted_rows(40, 5, split="train", scale=128), IMAGES)
    caption_shard(
        tmp_path / "images.parquet",
        tmp_path / "c.parquet",
        "measured",
        {"backend": "measured"},
        None,
        PROMPT,
        TEMPLATE,
        0,
        "shard",
    )
    frame = read_frame(tmp_path / "c.parquet")
    smooth = frame["border"].str.contains("smooth")
    malignant = frame["caption"].str.contains("a malignant lesion")
    assert smooth[~malignant].mean() > smooth[malignant].mean() + 0.3


def test_a_captioner_that_is_not_built_in_is_named_with_a_way_out(tmp_path):
    with pytest.raises(UserError, match="captioner 'vllm' is not built .* `caption.captioner: measured`"):
        caption(tmp_path, "vllm")
    assert not (tmp_path / "captions.parquet").exists()


def test_the_captioners_that_are_planned_with_are_those_there_are():
    assert tuple(CAPTIONERS) == BUILT_IN_CAPTIONERS
