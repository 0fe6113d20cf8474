"""The library is used without installing it, by the tests as by the jobs."""

import sys
from pathlib import Path

pytest_plugins = ["fake_hub"]

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "workflow_scripts"))


def load_paper_config():
    """The paper's configuration, parsed."""
    import yaml

    from dermaflux.config import parse_config

    return parse_config(yaml.safe_load((ROOT / "config.yaml").read_text()))


def painted_jpeg(label, *key, side=128):
    """A painted lesion as the bytes of a JPEG."""
    import io

    from PIL import Image

    from dermaflux.painter import lesion_parameters, paint

    out = io.BytesIO()
    Image.fromarray(paint(lesion_parameters(label, *key), side, side)).save(out, "JPEG", quality=95, subsampling=0)
    return out.getvalue()


def painted_rows(count, *key, prefix="d", **columns):
    """`count` rows with image_id, image and label, labels in turn; further columns are the same in each."""
    labels = [("benign", "malignant")[i % 2] for i in range(count)]
    return [
        {
            "image_id": f"{prefix}/{i}",
            "image": {"bytes": painted_jpeg(label, *key, i), "path": f"{i}.jpg"},
            "label": label,
            **columns,
        }
        for i, label in enumerate(labels)
    ]


def caption_measured(images, output):
    """The measured captions of a shard (paths)."""
    from dermaflux.captions import caption_shard

    caption_shard(
        images, output, "measured", {"backend": "measured"}, None, "shard", prompt="{label}", reply="", seed=0,
        template="A {label} lesion. {description}", attributes=["asymmetry", "border", "color"], retry_temperature=0.7,
        bad_share=0.0, state=output.parent / "state",
    )  # fmt: skip
