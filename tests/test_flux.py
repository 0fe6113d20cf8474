import pytest

from dermaflux import flux
from dermaflux.samples import initial_noise, sample_latents
from dermaflux.torch_setup import torch
from flux_corpus import PROMPT, SAMPLING, toy_flux

PROMPTS = [PROMPT.format(label="benign"), "A dark brown, jagged spot."]


@pytest.fixture(scope="module")
def pipeline():
    from diffusers import FluxPipeline

    pipe = FluxPipeline.from_pretrained(toy_flux(), dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_pack_is_undone_by_unpack():
    latents = torch.randn(2, 16, 8, 8)
    packed = flux.pack(latents)
    assert packed.shape == (2, 16, 64)
    assert torch.equal(flux.unpack(packed, 64), latents)


def test_text_is_encoded_as_the_pipeline_does(pipeline):
    states, pooled = flux.TextEncoders(toy_flux(), torch.float32, "cpu").encode(PROMPTS, 48)
    expected, expected_pooled, _ = pipeline.encode_prompt(PROMPTS, max_sequence_length=48)
    assert torch.allclose(states, expected, atol=1e-5) and torch.allclose(pooled, expected_pooled, atol=1e-5)


def test_the_tokenizers_know_the_captions_words():
    encoders = flux.TextEncoders(toy_flux(), torch.float32, "cpu")
    text = "This photo depicts a malignant lesion. Its border is irregular and jagged."
    assert encoders.count_tokens([text]) == [15]  # 12 words, 2 full stops, the end
    assert encoders.t5_tokenizer.unk_token_id not in encoders.t5_tokenizer(text).input_ids
    different = encoders.encode([PROMPT.format(label="benign"), PROMPT.format(label="malignant")], 32)
    assert all(not torch.allclose(part[0], part[1], atol=1e-3) for part in different)


@pytest.mark.parametrize("scale", [64, 128])
def test_sampling_equals_the_pipeline(pipeline, scale):
    noise = torch.stack([initial_noise("p", 0, i, scale) for i in range(2)])
    expected = pipeline(
        PROMPTS, height=scale, width=scale, num_inference_steps=5, guidance_scale=3.5, latents=flux.pack(noise),
        max_sequence_length=32, output_type="latent",
    ).images  # fmt: skip
    transformer = flux.load_module(toy_flux(), "transformer", torch.float32, "cpu")
    text = flux.TextEncoders(toy_flux(), torch.float32, "cpu").encode(PROMPTS, 32)
    ours = sample_latents(transformer, flux.load_scheduler(toy_flux()), noise, text, 5, SAMPLING["guidance"], scale)
    assert torch.allclose(flux.pack(ours), expected, atol=1e-5)


def test_normalize_is_undone_by_denormalize():
    vae = flux.load_module(toy_flux(), "vae", torch.float32, "cpu")
    latents = torch.randn(1, 16, 8, 8)
    assert torch.allclose(flux.denormalize(flux.normalize(latents, vae), vae), latents, atol=1e-6)
