"""A small painted corpus and the shipped toy FLUX, made once for all tests of the generator."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from conftest import painted_jpeg
from dermaflux.tables import CAPTIONS, IMAGES, LABELS, MANIFEST, write_table

SETTINGS = {
    "targets": "all_linear", "rank": 4, "alpha": 8.0, "epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "warmup_steps": 2,
    "weight_decay": 0.01, "max_grad_norm": 1.0, "timesteps": "logit_normal", "label_only": 0.0,
    "label_prompt": "This is an image containing a {label} lesion.", "guidance": 1.0, "text_tokens": 48,
    "gradient_checkpointing": False, "seed": 0,
}  # fmt: skip
SAMPLING = {"batch_size": 4, "scale": 64, "steps": 4, "guidance": 3.5, "text_tokens": 32, "seed": 42}
PROMPT = "This is an image containing a {label} lesion."


@functools.cache
def _scratch():
    folder = Path(tempfile.mkdtemp(prefix="dermaflux-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def toy_flux():
    """Folder of the toy FLUX, fetched as a run does."""
    from dermaflux.models import fetch_model

    fetch_model("demo:flux", _scratch() / "flux")
    return _scratch() / "flux"


def image_rows(count, side, name="painted", **changes):
    """Rows of tables.IMAGES: `count` painted lesions of `side` px, labels in turn, for training."""
    return [
        {
            "image_id": f"{name}/{i}", "image": {"bytes": painted_jpeg(LABELS[i % 2], name, i, side=side), "path": f"{i}.jpg"},
            "source_width": side, "source_height": side, "scale": side, "sha256": f"{name}{i}", "pixel_sha256": f"{name}{i}",
            "label": LABELS[i % 2], "split": "train", **changes,
        }
        for i in range(count)
    ]  # fmt: skip


def caption(label):
    border = {"benign": "smooth", "malignant": "irregular and jagged"}[label]
    return f"This photo depicts a {label} lesion. Here's a description of the mole: Its border is {border}."


@functools.cache
def corpus():
    """Paths of a corpus of 10 images at 64 px and 6 at 128 px: dict of images, captions, manifest, latents."""
    from dermaflux.latents import encode_shard
    from dermaflux.torch_setup import torch

    rows = image_rows(10, 64, "small") + image_rows(6, 128, "large")
    folder = _scratch() / "corpus"
    paths = {name: folder / f"{name}.parquet" for name in ("images", "captions", "manifest")}
    paths["latents"] = folder / "latents.safetensors"
    write_table(paths["images"], rows, IMAGES)
    captions = [{"image_id": row["image_id"], "caption": caption(row["label"])} for row in rows]
    write_table(paths["captions"], captions, CAPTIONS)
    keys = ("image_id", "label", "split", "scale")
    write_table(
        paths["manifest"],
        [{**{k: row[k] for k in keys}, "dataset": "painted", "use": "train"} for row in rows],
        MANIFEST,
    )
    encode_shard(paths["images"], toy_flux(), paths["latents"], "cpu", torch.float32, "encode")
    return paths


def training(folder, **changes):
    """Arguments of `train_lora`, as JSON knows them, to train on `corpus` into folder/toy; `changes` are settings."""
    paths = {name: str(path) for name, path in corpus().items()}
    return {
        "manifest": [paths["manifest"]], "captions": [paths["captions"]], "latents": [paths["latents"]],
        "model_folder": str(toy_flux()), "output": str(Path(folder, "toy")), "state": str(Path(folder, "state")),
        "settings": {**SETTINGS, **changes}, "device": "cpu", "precision": "fp32", "checkpoint_every": 2,
    }  # fmt: skip


def train(folder, stop_at=None, **changes):
    """Train on `corpus` into folder/toy; `changes` are settings."""
    from dermaflux.lora import train_lora

    return train_lora(**training(folder, **changes), stop_at=stop_at)


@functools.cache
def trained():
    """Folder of an adapter, trained for a few steps."""
    train(_scratch() / "trained", epochs=4, learning_rate=3e-3)
    return _scratch() / "trained" / "toy"
