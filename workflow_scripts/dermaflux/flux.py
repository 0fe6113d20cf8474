"""FLUX.1 in pieces: loading, text, packed latents, and its velocity. Everything as diffusers' FluxPipeline does it.

The pieces are loaded one by one, because no job needs all at once: at the real size the transformer takes 24 GB and the
T5 encoder 9.5 GB.
"""

from dermaflux.torch_setup import torch  # before diffusers

# isort: split
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from diffusers.utils import logging as diffusers_logging
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast
from transformers.utils import logging as transformers_logging

diffusers_logging.disable_progress_bar()
transformers_logging.disable_progress_bar()

PIXELS_PER_LATENT = 8  # the VAE halves the size three times
CLIP_TOKENS = 77
MODULES = {
    "transformer": FluxTransformer2DModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": T5EncoderModel,
}


def load_module(folder, name, dtype, device):
    """One network of the model in `folder` (diffusers' layout), frozen and in evaluation mode.

    Args:
        name: transformer | vae | text_encoder | text_encoder_2.
        dtype: torch dtype of its weights.
    """
    module = MODULES[name].from_pretrained(folder, subfolder=name, dtype=dtype, use_safetensors=True)
    return module.to(device).eval().requires_grad_(False)


def load_scheduler(folder):
    """The model's FlowMatchEulerDiscreteScheduler."""
    return FlowMatchEulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler")


class TextEncoders:
    """Both frozen text encoders of FLUX with their tokenizers."""

    def __init__(self, folder, dtype, device):
        self.device = device
        # from_pretrained on the folders: transformers 5 ignores vocab_file= and gives a near-empty vocabulary
        self.clip_tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
        self.t5_tokenizer = T5TokenizerFast.from_pretrained(folder, subfolder="tokenizer_2")
        self.clip = load_module(folder, "text_encoder", dtype, device)
        self.t5 = load_module(folder, "text_encoder_2", dtype, device)

    def _ids(self, tokenizer, prompts, length):
        # padded to the full length and attended to everywhere, padding included: so FLUX was trained
        tokens = tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return tokens.input_ids.to(self.device)

    @torch.no_grad()
    def encode(self, prompts, tokens):
        """The prompts as FLUX takes them; as FluxPipeline.encode_prompt.

        Args:
            prompts: list of n str.
            tokens: int, T5 tokens per prompt; longer ones are cut, shorter ones padded.

        Returns:
            (states, pooled): T5 states [n, tokens, d5] and CLIP's pooled vectors [n, dc], in the encoders' dtype.
        """
        states = self.t5(self._ids(self.t5_tokenizer, prompts, tokens))[0]
        pooled = self.clip(self._ids(self.clip_tokenizer, prompts, CLIP_TOKENS)).pooler_output
        return states, pooled.to(self.clip.dtype)

    def count_tokens(self, prompts):
        """T5 tokens of each prompt (list of int), uncut, with the end mark."""
        return [len(ids) for ids in self.t5_tokenizer(prompts).input_ids]


def pack(latents):
    """VAE latents [n, 16, h, w] as a sequence of 2 x 2 patches [n, h w / 4, 64] (FluxPipeline._pack_latents)."""
    return FluxPipeline._pack_latents(latents, *latents.shape)


def unpack(packed, side):
    """The inverse of `pack` for square images of `side` px: [n, 16, side / 8, side / 8]."""
    return FluxPipeline._unpack_latents(packed, side, side, PIXELS_PER_LATENT)


def image_ids(side, device):
    """Positions of the patches of a square image of `side` px: float32 [(side / 16)^2, 3]."""
    patches = side // (2 * PIXELS_PER_LATENT)
    return FluxPipeline._prepare_latent_image_ids(1, patches, patches, device, torch.float32)


def normalize(latents, vae):
    """Posterior samples of the VAE, shifted and scaled to about mean 0 and deviation 1, as FLUX sees them."""
    return (latents - vae.config.shift_factor) * vae.config.scaling_factor


def denormalize(latents, vae):
    """The inverse of `normalize`."""
    return latents / vae.config.scaling_factor + vae.config.shift_factor


def velocity(transformer, packed, t, guidance, states, pooled, positions):
    """The transformer's velocity: d x_t / dt, from data (t = 0) to noise (t = 1).

    Args:
        packed: x_t, [n, tokens, 64].
        t: float tensor [n], 0 to 1.
        guidance: float, the value for the guidance embedding (not used by models without one).
        states, pooled: from TextEncoders.encode, n rows each.
        positions: from image_ids.

    Returns:
        float32 [n, tokens, 64].
    """
    dtype = transformer.dtype
    strength = torch.full_like(t, guidance, dtype=torch.float32) if transformer.config.guidance_embeds else None
    return transformer(
        hidden_states=packed.to(dtype),
        timestep=t.to(dtype),
        guidance=strength,
        encoder_hidden_states=states.to(dtype),
        pooled_projections=pooled.to(dtype),
        txt_ids=torch.zeros(states.shape[1], 3, device=packed.device),  # text has no positions in FLUX
        img_ids=positions,
        return_dict=False,
    )[0].float()


def set_timesteps(scheduler, steps, tokens, device):
    """Prepare the Euler steps of the flow ODE, with the time shift for `tokens` image tokens, as FluxPipeline does.

    Returns:
        float32 [steps]: 1000 t, descending.
    """
    config = scheduler.config
    shift = calculate_shift(
        tokens, config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift
    )
    sigmas = torch.linspace(1.0, 1 / steps, steps).tolist()
    scheduler.set_timesteps(sigmas=sigmas, mu=shift, device=device)
    scheduler.set_begin_index(0)
    return scheduler.timesteps
