import hashlib
from pathlib import Path

import pytest

from dermaflux.errors import UserError
from dermaflux.files import read_json
from dermaflux.models import fetch_model, model_revision, wanted_files
from dermaflux.torch_setup import torch  # before timm and open_clip
from fake_hub import SHA
from flux_corpus import toy_flux


def test_only_what_is_needed_is_downloaded_and_recorded(hub, tmp_path):
    fetch_model("hf:owner/good@main", tmp_path, hub.url)
    record = read_json(tmp_path / "revision.json")
    assert record["revision"] == model_revision(tmp_path) == SHA and record["source"] == "hf:owner/good@main"
    assert set(record["files"]) == {"model.safetensors", "config.json", "a/b.json"}
    assert (tmp_path / "model.safetensors").read_bytes() == b"weights" and not (tmp_path / "pytorch_model.bin").exists()
    assert record["files"]["model.safetensors"] == {"size": 7, "sha256": hashlib.sha256(b"weights").hexdigest()}


@pytest.mark.parametrize("repo", ["owner/gated", "owner/private"])
def test_a_closed_repository_says_where_to_ask_and_never_shows_the_token(hub, tmp_path, monkeypatch, repo):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(UserError, match=f"https://huggingface.co/{repo}, make a read token .* HF_TOKEN") as error:
        fetch_model(f"hf:{repo}@main", tmp_path, hub.url)
    assert "hf_secret" not in str(error.value) and not (tmp_path / "revision.json").exists()


def test_an_unknown_revision_is_named(hub, tmp_path):
    with pytest.raises(UserError, match="owner/good has no revision 'nowhere'"):
        fetch_model("hf:owner/good@nowhere", tmp_path, hub.url)


def test_pickles_are_refused_by_name(hub, tmp_path):
    with pytest.raises(UserError, match="no safetensors weights, only open_clip_pytorch_model.bin"):
        fetch_model("hf:owner/pickled@main", tmp_path, hub.url)


def test_a_file_with_another_hash_is_removed(hub, tmp_path):
    with pytest.raises(UserError, match="does not have the published SHA-256"):
        fetch_model("hf:owner/broken@main", tmp_path, hub.url)
    assert not (tmp_path / "model.safetensors").exists() and not (tmp_path / "revision.json").exists()


def test_no_network_is_said(hub, tmp_path):
    hub.shutdown(), hub.server_close()
    with pytest.raises(UserError, match="cannot be reached"):
        fetch_model("hf:owner/good@main", tmp_path, hub.url)


@pytest.mark.parametrize("source", ["owner/good", "hf:owner/good", "demo:none", "s3:x@y"])
def test_sources_that_are_none(tmp_path, source):
    with pytest.raises(UserError, match="models"):
        fetch_model(source, tmp_path)


def test_a_pipeline_s_single_file_duplicates_are_left_out():
    names = [
        "model_index.json", "flux1-dev.safetensors", "ae.safetensors", "LICENSE.md", "transformer/config.json", "vae/x.png",
        "transformer/diffusion_pytorch_model-00001-of-00003.safetensors", "tokenizer/merges.txt", "tokenizer_2/spiece.model",
        "original/consolidated.00.pth", "original/params.json", "text_encoder/pytorch_model.bin.index.json", ".gitattributes",
    ]  # fmt: skip
    assert wanted_files(names) == sorted([
        "model_index.json", "LICENSE.md", "transformer/config.json", "tokenizer/merges.txt", "tokenizer_2/spiece.model",
        "transformer/diffusion_pytorch_model-00001-of-00003.safetensors",
    ])  # fmt: skip


@pytest.mark.parametrize("kind", ["resnext", "vit"])
def test_tiny_classifiers_load_in_timm_and_are_always_the_same(kind, tmp_path):
    import timm

    for name in ("a", "b"):
        fetch_model(f"demo:{kind}", tmp_path / name)
    assert model_revision(tmp_path / "a") == model_revision(tmp_path / "b")
    model = timm.create_model(f"local-dir:{tmp_path / 'a'}", pretrained=True, num_classes=2)
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 2)
    assert type(model).__name__ == {"resnext": "ResNet", "vit": "VisionTransformer"}[kind]
    if kind == "resnext":
        assert model.layer1[0].conv2.groups == 4


def test_the_tiny_clip_loads_in_open_clip(tmp_path):
    import open_clip

    fetch_model("demo:clip", tmp_path)
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path}")
    tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(["benign", "malignant"])
    assert model.encode_text(tokens).shape == model.encode_image(torch.zeros(2, 3, 64, 64)).shape == (2, 32)


def test_the_toy_flux_has_the_structure_of_the_real_one():
    from diffusers import FluxPipeline

    pipeline = FluxPipeline.from_pretrained(toy_flux(), dtype=torch.float32)
    assert pipeline.transformer.config.guidance_embeds and pipeline.transformer.config.in_channels == 64
    assert pipeline.vae.config.latent_channels == 16 and pipeline.vae_scale_factor == 8
    assert pipeline.scheduler.config.use_dynamic_shifting and pipeline.scheduler.config.max_shift == 1.15
    assert pipeline.tokenizer_max_length == 77


def test_the_shipped_toy_is_small_and_has_no_pickles():
    folder = Path(__file__).parent.parent / "config" / "demo" / "flux"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 6.5e6
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pkl", ".ckpt")]
