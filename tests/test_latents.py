import pytest

from dermaflux import flux
from dermaflux.errors import UserError
from dermaflux.latents import Latents, _pixels, encode_shard
from dermaflux.tables import IMAGES, read_table, write_table
from dermaflux.torch_setup import torch
from flux_corpus import corpus, image_rows, toy_flux


def encode(folder, rows, model=None):
    write_table(folder / "images.parquet", rows, IMAGES)
    output = folder / "0.safetensors"
    encode_shard(folder / "images.parquet", model or toy_flux(), output, "cpu", torch.float32, "encode")
    return output


def test_rows_are_the_posterior_of_the_vae():
    stored = Latents([corpus()["latents"]])
    table = read_table(corpus()["images"]).to_pylist()
    assert len(stored.where) == len(table) == 16
    vae = flux.load_module(toy_flux(), "vae", torch.float32, "cpu")
    for scale, ids in ((64, ["small/7", "small/0"]), (128, ["large/5", "large/2"])):
        rows = {row["image_id"]: row["image"] for row in table}
        with torch.no_grad():
            posterior = vae.encode(_pixels([rows[i] for i in ids], scale)).latent_dist
        mean, std = stored.read(ids)
        assert mean.shape == (2, 16, scale // 8, scale // 8) and stored.scale(ids[0]) == scale
        assert torch.allclose(mean, posterior.mean, atol=1e-2, rtol=1e-3)
        assert torch.allclose(std, posterior.std, atol=1e-3, rtol=1e-2)


def test_only_kept_training_rows_are_encoded(tmp_path):
    rows = image_rows(4, 64)
    rows[1].update(split="test")
    rows[2].update(drop_reason="truncated", image=None)
    assert set(Latents([encode(tmp_path, rows)]).where) == {"painted/0", "painted/3"}


@pytest.mark.parametrize("rows", [[], image_rows(1, 64, split="test")], ids=["no rows", "no training rows"])
def test_an_empty_shard_is_a_valid_file(tmp_path, rows):
    both = Latents([encode(tmp_path, rows), corpus()["latents"]])
    assert len(both.where) == 16 and both.revision


def test_a_picture_of_the_wrong_size_is_refused(tmp_path):
    rows = image_rows(1, 64)
    rows[0]["scale"] = 128
    with pytest.raises(UserError, match="64 x 64 px, but its row says scale 128"):
        encode(tmp_path, rows)
    assert not (tmp_path / "0.safetensors").exists()


def test_latents_of_two_models_are_refused(tmp_path):
    from dermaflux.files import read_json, write_json

    record = read_json(toy_flux() / "revision.json")
    for path in toy_flux().iterdir():
        if path.name != "revision.json":
            (tmp_path / path.name).symlink_to(path)
    write_json(tmp_path / "revision.json", {**record, "revision": "other"})
    other = encode(tmp_path, image_rows(1, 64), tmp_path)
    with pytest.raises(UserError, match="different models"):
        Latents([other, corpus()["latents"]])


def test_identity_follows_the_images(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    rows = image_rows(1, 64)
    first = Latents([encode(tmp_path / "a", rows)]).identity
    rows[0]["pixel_sha256"] = "another"
    assert Latents([encode(tmp_path / "b", rows)]).identity != first
