import pytest

from conftest import painted_jpeg, painted_rows
from dermaflux.captions import caption_shard
from dermaflux.tables import IMAGES, read_frame, write_table
from dermaflux.torch_setup import torch  # before transformers
from dermaflux.toy_vlm import build_vlm
from dermaflux.transformers_captioner import TransformersCaptioner
from tiny_mllama import build_mllama

PROMPT = "Describe this mole."


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    llava, mllama = tmp_path_factory.mktemp("llava"), tmp_path_factory.mktemp("mllama")
    build_vlm(llava)
    return {"llava": llava, "mllama": build_mllama(mllama)}


@pytest.fixture(scope="module", params=["llava", "mllama"])
def captioner(request, folders):
    return TransformersCaptioner(folders[request.param], "cpu", "fp32")


def ask(captioner, image=0, temperature=0.0, seed=0, max_tokens=40):
    return captioner.ask(painted_jpeg("benign", image), PROMPT, temperature, seed, max_tokens)


def test_texts_depend_on_the_image_and_are_the_same_each_time(captioner):
    assert ask(captioner) == ask(captioner)
    assert len({ask(captioner, image).text for image in range(4)}) > 1


def test_sampled_texts_depend_on_the_seed_alone(captioner):
    first = ask(captioner, temperature=1.0, seed=1)
    assert ask(captioner, temperature=1.0, seed=1) == first != ask(captioner, temperature=1.0, seed=2)


def test_a_text_that_is_cut_off_says_so(captioner):
    reply = ask(captioner, max_tokens=3)
    assert (reply.finish, reply.completion_tokens) == ("length", 3)


def test_llamas_prompt_has_one_first_token_one_image_token_and_its_headers(folders):
    captioner = TransformersCaptioner(folders["mllama"], "cpu", "fp32")
    inputs = captioner.inputs(painted_jpeg("benign", 1), PROMPT)
    ids, tokenizer = inputs["input_ids"][0].tolist(), captioner.processor.tokenizer
    assert [ids.count(tokenizer.convert_tokens_to_ids(token)) for token in ("<|begin_of_text|>", "<|image|>")] == [1, 1]
    text = tokenizer.decode(ids)
    assert text.startswith("<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n<|image|>" + PROMPT)
    assert text.endswith("<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n")
    assert inputs["pixel_values"].shape[1:4] == (1, 4, 3)  # one image, four tiles, RGB
    assert inputs["cross_attention_mask"].shape[1] == len(ids)
    # the text after the image token looks at the image
    assert torch.all(inputs["cross_attention_mask"][0, -1, 0, :1] == 1)


def test_a_shard_without_enforced_json_is_counted_as_malformed(folders, tmp_path):
    write_table(tmp_path / "images.parquet", painted_rows(2, 3), IMAGES)
    settings = {"backend": "transformers", "temperature": 0.0, "max_tokens": 30, "attempts": 2}
    caption_shard(
        tmp_path / "images.parquet", tmp_path / "c.parquet", "t", settings, "r", "shard", prompt="A {label} lesion.",
        template="{label}{description}", seed=0, reply="", attributes=["color"], retry_temperature=0.7, bad_share=1.0, state=tmp_path / "state",
        model=folders["llava"],
    )  # fmt: skip
    frame = read_frame(tmp_path / "c.parquet")
    assert frame["caption"].isna().all() and frame["error"].str.match("malformed|truncated|empty|repetitive").all()
