"""Make the demo's FLUX (config/demo/flux): train its VAE, then its transformer and text encoders, on generic blobs.

    PYTHONPATH=workflow_scripts python workflow_scripts/pretrain_demo_flux.py FOLDER

takes about 30 minutes on one core with bfloat16 instructions (AVX-512 BF16 or AMX), several hours without. All draws are
seeded; the same versions on the same kind of machine give the same weights. The folder has diffusers' layout
(`FluxPipeline.from_pretrained` reads it), safetensors in float16. No job of the workflow runs this: its result is
shipped, and config/demo/flux/README.md says which commands made it.
"""

import argparse
import itertools
import math
import time
from pathlib import Path

import numpy as np

from dermaflux.torch_setup import torch

# isort: split
import torch.nn.functional as F
from diffusers import FluxPipeline

from dermaflux.toy_flux import WORDS, draw_blobs, new_flux, tell_labels_apart

AUTOCAST = {"device_type": "cpu", "dtype": torch.bfloat16}


def _schedule(optimizer, steps, warmup=100):
    """Linear warmup, then a cosine to 2 % of the rate."""
    at = lambda k: min(1, (k + 1) / warmup) * (0.02 + 0.98 * (1 + math.cos(math.pi * k / max(1, steps))) / 2)  # noqa: E731
    return torch.optim.lr_scheduler.LambdaLR(optimizer, at)


def _say(what, step, steps, loss, started):
    if step % 50 == 0 or step == steps - 1:
        rate = (step + 1) / (time.monotonic() - started)
        print(f"{what}: step {step} of {steps}, loss {loss:.4f}, {rate:.2f} steps/s", flush=True)


def draw_set(count, size, *seed):
    """As `draw_blobs` in pieces of 100, images as uint8 to save memory."""
    pieces = [draw_blobs(100, size, *seed, i) for i in range(count // 100)]
    images = torch.cat([((image + 1) * 127.5).round().byte() for image, _ in pieces])
    return images, [caption for _, captions in pieces for caption in captions]


def train_vae(vae, images, steps, seed, batch=16, crop=64):
    """Train on crops: absolute error of pixels and of their differences (edges), and a small KL term."""
    generator = torch.Generator().manual_seed(seed)
    vae.train()
    optimizer = torch.optim.AdamW(vae.parameters(), 2e-3, betas=(0.9, 0.98), weight_decay=1e-4)
    schedule, started = _schedule(optimizer, steps), time.monotonic()
    for step in range(steps):
        rows = torch.randint(len(images), (batch,), generator=generator)
        top, left = torch.randint(images.shape[-1] - crop + 1, (2,), generator=generator)
        pixels = images[rows, :, top : top + crop, left : left + crop].float() / 127.5 - 1
        with torch.autocast(**AUTOCAST):
            posterior = vae.encode(pixels).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=generator)
            decoded = vae.decode(posterior.mean + posterior.std * noise).sample.float()
        error = decoded - pixels
        edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
        # colour: the error of 8x8 means is what turns brown into red
        color = F.avg_pool2d(error, 8).abs().mean()
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).float().mean()
        loss = error.abs().mean() + 0.5 * edges + color + 2e-4 * kl
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step(), schedule.step()
        _say("vae", step, steps, error.abs().mean().item(), started)
    vae.eval().requires_grad_(False)


@torch.no_grad()
def encode(vae, images, batch=20):
    """(mean, std) of the VAE's posterior, float32 [n, 16, h / 8, w / 8]."""
    parts = []
    for rows in images.split(batch):
        with torch.autocast(**AUTOCAST):
            posterior = vae.encode(rows.float() / 127.5 - 1).latent_dist
        parts.append((posterior.mean.float(), posterior.std.float()))
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def embed(flux, captions, tokens):
    """The captions' T5 states [n, tokens, 64] and CLIP vectors [n, 64]."""

    def ids(tokenizer, length):
        return tokenizer(
            captions, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids

    states = flux["text_encoder_2"](ids(flux["tokenizer_2"], tokens))[0]
    return states, flux["text_encoder"](ids(flux["tokenizer"], 77)).pooler_output


class WordsTold(torch.nn.Module):
    """A loss by which CLIP's vector must tell which words a text has, also words that no blob is described with.

    A real CLIP tells all words apart; without this, texts that differ in an unseen word would get equal vectors, and a
    LoRA could not tell them apart either.
    """

    FRAMES = (
        "This is an image containing a {} {}.", "This photo depicts a {} {}. Here's a description", "A {} {} with a {} border.",
        "The color is {}, primarily {} and {}.", "{} {}",
    )  # fmt: skip

    def __init__(self, flux):
        super().__init__()
        self.flux, size = flux, len(flux["tokenizer"])
        self.head = torch.nn.Linear(flux["text_encoder"].config.hidden_size, size)

    def forward(self, rng, count=16):
        texts = [rng.choice(self.FRAMES).format(*rng.choice(WORDS, 3)) for _ in range(count)]
        ids = self.flux["tokenizer"](
            texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
        ).input_ids
        present = torch.zeros(count, self.head.out_features).scatter_(1, ids, 1.0)
        guess = self.head(self.flux["text_encoder"](ids).pooler_output).float()
        return F.binary_cross_entropy_with_logits(guess, present, reduction="none").sum(1).mean() / 10


def train_flux(flux, sets, steps, seed, batch=24):
    """Rectified flow on packed latents; text encoders learn too. An average of the last weights is kept.

    Args:
        sets: list of (mean, std, captions), one per size; the first is used in 7 of 8 steps.
    """
    generator = torch.Generator().manual_seed(seed)
    modules = [flux[name] for name in ("transformer", "text_encoder", "text_encoder_2")]
    parameters = list(itertools.chain(*[module.train().parameters() for module in modules]))
    average = [p.detach().clone() for p in parameters]
    words, rng = WordsTold(flux), np.random.default_rng(seed)
    optimizer = torch.optim.AdamW([*parameters, *words.head.parameters()], 1.5e-3, betas=(0.9, 0.98), weight_decay=1e-3)
    schedule, started, config = _schedule(optimizer, steps, 200), time.monotonic(), flux["vae"].config
    smooth = 1.0
    for step in range(steps):
        which = 0 if step % 8 or len(sets) == 1 else 1 + (step // 8) % (len(sets) - 1)
        mean, std, captions = sets[which]
        n = batch if which == 0 else batch // 3
        rows = torch.randint(len(mean), (n,), generator=generator)
        latents = mean[rows] + std[rows] * torch.randn(mean[rows].shape, generator=generator)
        latents = (latents - config.shift_factor) * config.scaling_factor
        height, width = latents.shape[2:]
        x0 = FluxPipeline._pack_latents(latents, n, 16, height, width)
        noise = torch.randn(x0.shape, generator=generator)
        # text says most where the noise hides all: half of the draws lie above 0.75
        u = torch.rand(n, generator=generator)
        t = torch.where(torch.arange(n) % 2 == 0, u, 1 - 0.25 * u)
        guidance = 1 + 3.5 * torch.rand(n, generator=generator)
        image_ids = FluxPipeline._prepare_latent_image_ids(n, height // 2, width // 2, "cpu", torch.float32)
        tokens = (48, 32, 64, 48)[step % 4]
        with torch.autocast(**AUTOCAST):
            states, pooled = embed(flux, [captions[row] for row in rows], tokens)
            velocity = flux["transformer"](
                hidden_states=(1 - t[:, None, None]) * x0 + t[:, None, None] * noise, timestep=t, guidance=guidance,
                encoder_hidden_states=states, pooled_projections=pooled, txt_ids=torch.zeros(tokens, 3),
                img_ids=image_ids, return_dict=False,
            )[0]  # fmt: skip
        loss = F.mse_loss(velocity.float(), noise - x0)
        told = words(rng)
        optimizer.zero_grad()
        (loss + 0.3 * told).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step(), schedule.step()
        keep = min(0.999, (step + 1) / (step + 10))
        torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - keep)
        smooth += 0.02 * (loss.item() - smooth)
        _say(f"flux (words {told.item():.3f})", step, steps, smooth, started)
    for parameter, mean in zip(parameters, average, strict=True):
        parameter.data.copy_(mean)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=6000, help="at 128 px; a tenth as many at 192 and 256 px each")
    parser.add_argument("--vae-steps", type=int, default=2800)
    parser.add_argument("--flux-steps", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--start", type=Path, help="folder of an earlier run whose transformer and encoders go on learning"
    )
    parser.add_argument("--labels", type=Path, help="take this folder as it is, and only tell the labels' words apart")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--vae", type=Path, help="folder of an earlier run whose VAE is taken instead of training one")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.labels:
        flux = FluxPipeline.from_pretrained(args.labels, torch_dtype=torch.float32).components
        flux = {name: part for name, part in flux.items() if part is not None}
        tell_labels_apart(flux, args.seed)
        save(flux, args.folder)
        return
    flux = new_flux(args.seed)
    sets = [draw_set(n, size, args.seed, size) for n, size in
            ((args.images, 128), (args.images // 10, 192), (args.images // 10, 256))]  # fmt: skip
    print(f"drew {sum(len(images) for images, _ in sets)} images", flush=True)
    if args.vae:
        flux["vae"] = type(flux["vae"]).from_pretrained(args.vae, subfolder="vae").eval().requires_grad_(False)
    else:
        train_vae(flux["vae"], sets[0][0], args.vae_steps, args.seed)
    sets = [(*encode(flux["vae"], images), captions) for images, captions in sets]
    # as the FLUX authors': one shift and one scale for all channels, so that latents have mean 0 and deviation 1
    mean, std = sets[0][:2]
    flux["vae"].register_to_config(
        shift_factor=mean.mean().item(), scaling_factor=1 / (mean.var() + (std**2).mean()).sqrt().item()
    )
    print(f"latents: mean {mean.mean():.3f}, deviation {mean.std():.3f}, noise {std.mean():.3f}", flush=True)
    save(flux, args.folder)
    if args.start:
        for name in ("transformer", "text_encoder", "text_encoder_2"):
            flux[name] = type(flux[name]).from_pretrained(args.start, subfolder=name, dtype=torch.float32)
    train_flux(flux, sets, args.flux_steps, args.seed, args.batch)
    save(flux, args.folder)


def save(flux, folder):
    pipeline = FluxPipeline(**flux)
    pipeline.to(torch.float16).save_pretrained(folder)
    pipeline.to(torch.float32)


if __name__ == "__main__":
    main()
