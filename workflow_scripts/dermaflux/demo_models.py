"""The demo's models: a shipped toy FLUX, and tiny untrained classifiers built on the spot in the layout that hubs use.

They are real classes of diffusers, timm and open_clip at toy widths, so that the demo and the paper's run share their code.
"""

import json
import shutil
from pathlib import Path

from dermaflux.torch_setup import torch

# isort: split
import open_clip
import timm
from safetensors.torch import save_file

FLUX = Path(__file__).parents[2] / "config" / "demo" / "flux"  # made by workflow_scripts/pretrain_demo_flux.py
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def _write_timm(folder, architecture, seed, **model_args):
    """An untrained timm model in `folder`: config.json and model.safetensors, as on the Hugging Face hub."""
    torch.manual_seed(seed)
    model = timm.create_model(architecture, pretrained=False, num_classes=0, **model_args)
    size = model_args.get("img_size", 64)
    config = {
        "architecture": architecture,
        "num_classes": 0,
        "num_features": model.num_features,
        "model_args": model_args,
        "pretrained_cfg": {
            "input_size": [3, size, size], "fixed_input_size": "img_size" in model_args, "interpolation": "bicubic",
            "crop_pct": 1.0, "mean": list(MEAN), "std": list(STD), "num_classes": 0, "pool_size": None,
            "first_conv": model.pretrained_cfg["first_conv"], "classifier": model.pretrained_cfg["classifier"],
        },
    }  # fmt: skip
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def build_resnext(folder):
    """A tiny ResNeXt (one block a stage, 4 groups), untrained, for 64 px; `timm.create_model("local-dir:FOLDER")` loads it."""
    widths = {"channels": [8, 16, 32, 48], "cardinality": 4, "base_width": 32, "stem_type": "deep", "stem_width": 8}
    _write_timm(folder, "resnext50_32x4d", 1, layers=[1, 1, 1, 1], **widths)


def build_vit(folder):
    """A tiny ViT (width 48, 3 blocks, patches of 8 px), untrained, for 64 px; `timm.create_model("local-dir:FOLDER")` loads it."""
    _write_timm(folder, "vit_base_patch16_224", 2, img_size=64, patch_size=8, embed_dim=48, depth=3, num_heads=3)


def build_clip(folder):
    """A tiny CLIP, untrained, for 64 px; `open_clip.create_model_from_pretrained("local-dir:FOLDER")` loads it."""
    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    torch.manual_seed(3)
    model = open_clip.CLIP(**config)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    text = {"model_cfg": config, "preprocess_cfg": {"mean": list(MEAN), "std": list(STD)}}
    (folder / "open_clip_config.json").write_text(json.dumps(text, indent=2) + "\n")


def copy_flux(folder):
    """The shipped toy FLUX, in diffusers' layout."""
    shutil.copytree(FLUX, folder, dirs_exist_ok=True)


def build_vlm(folder):
    """A tiny vision-language model, untrained, for the tests of the captioners."""
    from dermaflux.toy_vlm import build_vlm  # imports transformers, which the others do without

    build_vlm(folder)


BUILDERS = {"flux": copy_flux, "resnext": build_resnext, "vit": build_vit, "clip": build_clip, "vlm": build_vlm}
