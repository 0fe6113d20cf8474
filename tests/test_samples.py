import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from dermaflux.pictures import decode
from dermaflux.samples import Sampler, initial_noise, sample_shard
from dermaflux.tables import SAMPLES, read_table
from dermaflux.torch_setup import torch
from flux_corpus import PROMPT, SAMPLING, toy_flux, trained


def sample(folder, start=0, stop=6, label="benign", stop_after=None, **changes):
    """Sample into folder/{start}.parquet and return its rows."""
    adapter = trained() / "pytorch_lora_weights.safetensors"
    finished = sample_shard(
        toy_flux(), adapter, folder / f"{start}.parquet", folder / f"{start}.jpg", folder / "state", "toy", label, start,
        stop, PROMPT, {**SAMPLING, **changes}, 95, "cpu", "fp32", stop_after=stop_after,
    )  # fmt: skip
    return read_table(folder / f"{start}.parquet").to_pylist() if finished else None


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return sample(tmp_path_factory.mktemp("samples"))


def data(rows):
    return [row["image"]["bytes"] for row in rows]


def test_rows_say_how_they_were_made(rows):
    assert [row["sample_id"] for row in rows] == [f"toy/benign/{i}" for i in range(6)]
    first = rows[0]
    assert set(first) == set(SAMPLES.names)
    assert first["prompt"] == "This is an image containing a benign lesion."
    assert (first["seed"], first["steps"], first["guidance"], first["scale"]) == (42, 4, 3.5, 64)
    assert "+" in first["revision"] and decode(first["image"]).shape == (64, 64, 3)
    assert len(set(data(rows))) == 6


def test_a_sample_does_not_depend_on_its_shard(rows, tmp_path):
    parts = [sample(tmp_path, start, stop) for start, stop in ((0, 1), (1, 5), (5, 6))]
    assert data(sum(parts, [])) == data(rows)


@pytest.mark.parametrize("size", [1, 3])
def test_a_sample_does_not_depend_on_the_batch_size(rows, tmp_path, size):
    for ours, other in zip(rows, sample(tmp_path, stop=3, batch_size=size), strict=False):
        difference = np.abs(decode(ours["image"]).astype(int) - decode(other["image"]).astype(int))
        assert difference.max() <= 3 and difference.mean() < 0.1  # after JPEG, which turns 1 grey level into a few


def test_pixels_of_other_batch_sizes_agree_to_a_grey_level():
    adapter = trained() / "pytorch_lora_weights.safetensors"
    build = lambda size: Sampler(toy_flux(), adapter, "a lesion", {**SAMPLING, "batch_size": size}, "cpu", "fp32")  # noqa: E731
    four, two = build(4).batch(0), np.concatenate([build(2).batch(n) for n in range(2)])
    assert np.abs(four.astype(int) - two.astype(int)).max() <= 1


def test_a_stopped_shard_continues(rows, tmp_path):
    assert sample(tmp_path, stop_after=1) is None
    kept = list((tmp_path / "state").glob("*/*.parquet"))
    assert len(kept) == 1 and not (tmp_path / "0.parquet").exists()
    written = kept[0].stat().st_mtime_ns
    assert sample(tmp_path, stop_after=0) is None and kept[0].stat().st_mtime_ns == written
    assert data(sample(tmp_path)) == data(rows)
    assert not list((tmp_path / "state").glob("*")) and (tmp_path / "0.jpg").exists()


def test_other_settings_do_not_continue_a_state(rows, tmp_path):
    assert sample(tmp_path, stop_after=1) is None
    assert data(sample(tmp_path, seed=1)) != data(rows)


def test_the_prompt_the_seed_and_the_index_matter(rows, tmp_path):
    assert not set(data(sample(tmp_path, label="malignant"))) & set(data(rows))
    assert torch.equal(initial_noise("a", 1, 2, 64), initial_noise("a", 1, 2, 64))
    others = [initial_noise(*key, 64) for key in (("a", 1, 3), ("a", 2, 2), ("b", 1, 2))]
    assert all(not torch.allclose(initial_noise("a", 1, 2, 64), other) for other in others)


def test_the_contact_sheet_holds_all(tmp_path):
    sample(tmp_path)
    assert Image.open(tmp_path / "0.jpg").size == (6 * 128, 128)


def test_without_an_adapter_the_base_model_is_sampled(rows, tmp_path):
    finished = sample_shard(
        toy_flux(), None, tmp_path / "0.parquet", tmp_path / "0.jpg", tmp_path / "state", "base", "benign", 0, 2, PROMPT,
        SAMPLING, 95, "cpu", "fp32",
    )  # fmt: skip
    base = read_table(tmp_path / "0.parquet").to_pylist()
    assert finished and "+" not in base[0]["revision"] and not set(data(base)) & set(data(rows))


def test_bfloat16_trains_and_samples(tmp_path):
    """The paper's precision: frozen weights in bf16, LoRA and latents in float32."""
    from dermaflux.lora import train_lora
    from flux_corpus import SETTINGS, corpus

    files = [[corpus()[name]] for name in ("manifest", "captions", "latents")]
    settings = {**SETTINGS, "epochs": 0.4, "gradient_checkpointing": True}
    assert train_lora(*files, toy_flux(), tmp_path / "toy", tmp_path / "state", settings, "cpu", "bf16", 2)
    assert all(
        t.dtype == torch.float32 for t in load_file(tmp_path / "toy" / "pytorch_lora_weights.safetensors").values()
    )
    pixels = Sampler(toy_flux(), tmp_path / "toy" / "toy_kohya.safetensors", "a lesion", SAMPLING, "cpu", "bf16").batch(
        0
    )
    exact = Sampler(toy_flux(), tmp_path / "toy" / "toy_kohya.safetensors", "a lesion", SAMPLING, "cpu", "fp32").batch(
        0
    )
    assert np.abs(pixels.astype(int) - exact.astype(int)).mean() < 8
