"""VAE latents of the training images, computed once: the posterior's mean and deviation, so that training still samples.

One safetensors file a shard, with tensors `mean_{scale}` and `std_{scale}` (float16 [n, 16, scale / 8, scale / 8]) for
each scale that occurs. The metadata carries the image ids of each scale (JSON {scale: [id, ...]}, in the order of the
rows), the revision of the model whose VAE it was, and a hash of the images.
"""

import json
import struct
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from dermaflux.torch_setup import torch, torch_device

# isort: split
from safetensors import safe_open

from dermaflux.errors import UserError
from dermaflux.files import atomic_path, fingerprint
from dermaflux.flux import PIXELS_PER_LATENT, load_module
from dermaflux.job import progress, say
from dermaflux.models import model_revision
from dermaflux.pictures import decode
from dermaflux.tables import read_table

PIXELS_PER_BATCH = (
    8 * 512 * 512
)  # so that batches of small images are larger; a 512 px image takes about 1 GB in the VAE


def latent_shape(count, scale):
    """The shape of the latents of `count` images of `scale` px."""
    return count, 16, scale // PIXELS_PER_LATENT, scale // PIXELS_PER_LATENT


def _create(path, shapes, metadata):
    """A safetensors file of float16 tensors whose values are still to be written: dict of name -> array on the disk.

    The format is a length (8 bytes), a JSON header, and the values: written by hand, so that memory does not grow with
    the shard, as it would with safetensors.torch.save_file.
    """
    header, end = {"__metadata__": metadata}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    at = {name: 8 + len(text) + header[name]["data_offsets"][0] for name in shapes}
    return {name: np.memmap(path, np.float16, "r+", at[name], tuple(shapes[name])) for name in shapes}


def _pixels(images, scale):
    """Pictures as the VAE takes them: float32 [n, 3, scale, scale] in [-1, 1].

    Raises:
        UserError: a picture has another size than its row says.
    """
    arrays = [decode(image) for image in images]
    wrong = next((array.shape for array in arrays if array.shape != (scale, scale, 3)), None)
    if wrong:
        raise UserError(
            f"a prepared image is {wrong[1]} x {wrong[0]} px, but its row says scale {scale}: prepare it again"
        )
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.inference_mode()
def encode_shard(images, model_folder, output, device, precision_dtype, what):
    """Encode the training images of a shard: the rows that are kept (no drop_reason) and have split train.

    Args:
        images: path of a shard (tables.IMAGES).
        model_folder: of FLUX, in diffusers' layout, with revision.json.
        output: path of the safetensors file; a shard without training images gives one without tensors.
        device: cuda | cpu.
        precision_dtype: torch dtype of the VAE's weights.
        what: name for the progress lines.

    Raises:
        UserError: a picture has another size than its row says.
    """
    table = read_table(images, ["image_id", "scale", "split", "drop_reason", "sha256", "pixel_sha256"]).to_pylist()
    ids = defaultdict(list)
    wanted = [row for row in table if row["drop_reason"] is None and row["split"] == "train"]
    for row in wanted:
        ids[row["scale"]].append(row["image_id"])
    shapes = {
        f"{kind}_{scale}": latent_shape(len(ids[scale]), scale) for scale in sorted(ids) for kind in ("mean", "std")
    }
    metadata = {
        "ids": json.dumps({str(scale): ids[scale] for scale in sorted(ids)}),
        "revision": model_revision(model_folder),
        "images": fingerprint([(row["image_id"], row["scale"], row["sha256"], row["pixel_sha256"]) for row in wanted]),
    }
    device = torch_device(device)
    vae = load_module(model_folder, "vae", precision_dtype, device) if wanted else None
    with atomic_path(output) as temporary:
        arrays = _create(temporary, shapes, metadata)
        written = dict.fromkeys(ids, 0)
        for scale, batch in progress(_batches(images), what, total=len(wanted), unit="batches"):
            posterior = vae.encode(_pixels(batch, scale).to(device, precision_dtype)).latent_dist
            rows = slice(written[scale], written[scale] + len(batch))
            arrays[f"mean_{scale}"][rows] = posterior.mean.float().cpu().numpy()
            arrays[f"std_{scale}"][rows] = posterior.std.float().cpu().numpy()
            written[scale] = rows.stop
        for array in arrays.values():
            array.flush()
    say(f"{what}: {len(wanted)} training images of {len(table)} rows")


def _batches(images):
    """(scale, list of pictures) of one scale each, in the order of the rows within a scale; one row group at a time."""
    waiting = defaultdict(list)
    file = pq.ParquetFile(images)
    for piece in file.iter_batches(batch_size=64, columns=["image", "scale", "split", "drop_reason"]):
        for row in piece.to_pylist():
            if row["drop_reason"] is None and row["split"] == "train":
                scale, batch = row["scale"], waiting[row["scale"]]
                batch.append(row["image"])
                if len(batch) >= max(1, min(64, PIXELS_PER_BATCH // scale**2)):
                    yield scale, waiting.pop(scale)
    yield from ((scale, batch) for scale, batch in sorted(waiting.items()) if batch)


class Latents:
    """Rows of many latents files, by image id. Files stay memory-mapped; only the rows asked for are read."""

    def __init__(self, paths):
        """Open `paths`.

        Raises:
            UserError: files were encoded by different VAEs.
        """
        self.files = [safe_open(str(path), "pt") for path in paths]
        metadata = [file.metadata() for file in self.files]
        self.where = {
            image_id: (number, int(scale), row)
            for number, its in enumerate(metadata)
            for scale, ids in json.loads(its["ids"]).items()
            for row, image_id in enumerate(ids)
        }
        revisions = {its["revision"] for its in metadata}
        if len(revisions) > 1:
            raise UserError(
                f"latents were encoded by different models ({', '.join(sorted(revisions))}): encode them again"
            )
        self.revision = next(iter(revisions), None)
        self.identity = fingerprint([sorted(its.items()) for its in metadata])
        self.names = [Path(path).name for path in paths]

    def __contains__(self, image_id):
        return image_id in self.where

    def scale(self, image_id):
        """px of the image."""
        return self.where[image_id][1]

    def read(self, image_ids):
        """(mean, std) of images of one scale: float32 [n, 16, scale / 8, scale / 8] each."""
        return tuple(torch.stack([self._row(image_id, kind) for image_id in image_ids]) for kind in ("mean", "std"))

    def _row(self, image_id, kind):
        number, scale, row = self.where[image_id]
        return self.files[number].get_slice(f"{kind}_{scale}")[row].float()
