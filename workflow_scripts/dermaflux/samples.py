"""Sampling of synthetic lesions: the flow ODE in Euler steps, as FluxPipeline does it. Paper section 2.4.

A sample depends on (prompt, seed, index) and the model alone: its noise is drawn from those keys, and the batches are
cut at multiples of the batch size of the index, whatever the shard, and always computed whole. So the same sample has
the same place in the same batch in every run, and shards of any size agree bit for bit.
"""

import io
import shutil
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from dermaflux.torch_setup import DTYPES, seeded, torch, torch_device

# isort: split
from dermaflux import flux
from dermaflux.errors import UserError
from dermaflux.files import atomic_path, fingerprint, sha256_file
from dermaflux.job import progress
from dermaflux.lora import load_lora
from dermaflux.models import model_revision
from dermaflux.pictures import decode
from dermaflux.tables import ROW_GROUP, SAMPLES, read_table, table_writer, write_table


def initial_noise(prompt, seed, index, scale):
    """The noise that a sample starts from: float32 [16, scale / 8, scale / 8], by (prompt, seed, index) alone."""
    side = scale // flux.PIXELS_PER_LATENT
    return torch.randn(16, side, side, generator=seeded("sample", prompt, seed, index))


@torch.inference_mode()
def sample_latents(transformer, scheduler, noise, text, steps, guidance, scale):
    """Solve the flow ODE from noise to data with `steps` Euler steps and FLUX's resolution-dependent time shift.

    Args:
        noise: float32 [n, 16, scale / 8, scale / 8].
        text: (states, pooled) of n prompts.
        steps: int.
        guidance: float, for the guidance embedding; there is no classifier-free guidance.
        scale: px.

    Returns:
        float32 [n, 16, scale / 8, scale / 8], normalized latents (flux.denormalize before decoding).
    """
    packed, positions = flux.pack(noise), flux.image_ids(scale, noise.device)
    for t in flux.set_timesteps(scheduler, steps, packed.shape[1], noise.device):
        moved = flux.velocity(transformer, packed, (t / 1000).expand(len(packed)), guidance, *text, positions)
        packed = scheduler.step(moved, t, packed, return_dict=False)[0]
    return flux.unpack(packed, scale)


@torch.inference_mode()
def decode_latents(vae, latents):
    """Normalized latents as pictures: uint8 [n, H, W, 3] (FluxPipeline's decoding and VaeImageProcessor's rounding)."""
    pixels = vae.decode(flux.denormalize(latents, vae).to(vae.dtype)).sample.float()
    return ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


class Sampler:
    """FLUX, with a LoRA or without, ready to sample one prompt."""

    def __init__(self, model_folder, adapter, prompt, settings, device, precision):
        """Load the model; the text encoders are dropped again after the prompt is encoded.

        Args:
            adapter: path of LoRA weights (either layout), or None.
            settings: dict of batch_size, scale, steps, guidance, text_tokens, seed (config.Sampler).
            precision: bf16 | fp32, of the weights; the latents are float32 throughout.
        """
        self.prompt, self.settings, self.device = prompt, settings, torch_device(device)
        dtype = DTYPES[precision]
        encoded = flux.TextEncoders(model_folder, dtype, self.device).encode([prompt], settings["text_tokens"])
        self.text = [part.repeat(settings["batch_size"], *[1] * (part.dim() - 1)) for part in encoded]
        self.transformer = flux.load_module(model_folder, "transformer", dtype, self.device)
        if adapter is not None:
            load_lora(self.transformer, adapter)
        self.vae = flux.load_module(model_folder, "vae", dtype, self.device)
        self.scheduler = flux.load_scheduler(model_folder)

    def batch(self, number):
        """The samples of indices number * batch_size and following: uint8 [batch_size, scale, scale, 3]."""
        its = self.settings
        first = number * its["batch_size"]
        indices = range(first, first + its["batch_size"])
        noise = torch.stack([initial_noise(self.prompt, its["seed"], i, its["scale"]) for i in indices]).to(self.device)
        latents = sample_latents(
            self.transformer, self.scheduler, noise, self.text, its["steps"], its["guidance"], its["scale"]
        )
        return decode_latents(self.vae, latents)


def sample_shard(
    model_folder, adapter, output, sheet, state, generator, label, start, stop, prompt, settings, jpeg_quality, device,
    precision, code=None, stop_after=None,
):  # fmt: skip
    """Sample the images `start` to `stop` of a generator and label; a shard that was stopped continues.

    Args:
        model_folder: FLUX in diffusers' layout, with revision.json.
        adapter: path of LoRA weights, or None.
        output: path of the samples (tables.SAMPLES), ids "{generator}/{label}/{index}".
        sheet: path of a contact sheet (JPEG) of the first 64.
        state: folder for the batches of unfinished shards; removed at the end.
        prompt: str with {label}.
        settings: dict of batch_size, scale, steps, guidance, text_tokens, seed (config.Sampler).
        jpeg_quality: as of the real images.
        code: fingerprint of the code, so that a changed code does not continue an old state.
        stop_after: stop after so many new batches, as a killed job would.

    Returns:
        True where it is finished, False where it was stopped.
    """
    if start >= stop:
        raise UserError(f"{output}: a shard of samples {start} to {stop} is empty")
    prompt = prompt.format(label=label)
    revision = model_revision(model_folder) + (f"+{sha256_file(adapter)[:16]}" if adapter else "")
    row = {
        "label": label, "prompt": prompt, "seed": settings["seed"], "generator": generator, "revision": revision,
        "steps": settings["steps"], "guidance": settings["guidance"], "scale": settings["scale"],
    }  # fmt: skip
    identity = fingerprint(
        {
            "row": row,
            "settings": settings,
            "range": [start, stop],
            "jpeg": jpeg_quality,
            "precision": precision,
            "code": code,
        }
    )
    state, size = Path(state, identity[:32]), settings["batch_size"]
    numbers = range(start // size, (stop - 1) // size + 1)
    paths = {number: state / f"{number}.parquet" for number in numbers}
    missing = [number for number, path in paths.items() if not path.exists()]
    sampler = Sampler(model_folder, adapter, prompt, settings, device, precision) if missing else None
    what, done = f"sample {generator} {label}", len(numbers) - len(missing)
    for count, number in enumerate(progress(missing, what, len(numbers), done, unit=f"batches of {size}")):
        if count == stop_after:
            return False
        images = enumerate(sampler.batch(number), number * size)
        rows = [
            {
                "sample_id": f"{generator}/{label}/{i}",
                "image": {"bytes": _jpeg(image, jpeg_quality), "path": f"{i}.jpg"},
                **row,
            }
            for i, image in images
            if start <= i < stop
        ]
        write_table(paths[number], rows, SAMPLES)
    contact_sheet(read_table(list(paths.values())[: -(-64 // size)], ["image"])["image"].to_pylist()[:64], sheet)
    with table_writer(output, SAMPLES, ROW_GROUP.get(settings["scale"], 64)) as write:
        write(read_table(list(paths.values())))
    shutil.rmtree(state)
    return True


def _jpeg(pixels, quality):
    # with the coder of the real images (dermaflux.images), so that the coding does not tell real from synthetic
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, "RGB", "444")


def contact_sheet(images, path, side=128, columns=8):
    """Write pictures ({bytes, path} each) as a grid of `columns` tiles of `side` px, as JPEG."""
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (min(columns, len(images)) * side, rows * side), "white")
    for i, image in enumerate(images):
        sheet.paste(Image.fromarray(decode(image, side)), (i % columns * side, i // columns * side))
    data = io.BytesIO()
    sheet.save(data, "JPEG", quality=90)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.getvalue())
