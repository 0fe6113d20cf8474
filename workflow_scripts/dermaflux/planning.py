"""What a run will take, before it has a byte of data: images by scale, disk by stage, GPU memory by stage.

Estimates from the configuration, the descriptors, and the rates of config/rates.yaml. They are for people who plan.
"""

from collections import Counter
from typing import Annotated, Literal

from pydantic import Field

from dermaflux.arms import all_arms, needed
from dermaflux.closed import Closed
from dermaflux.errors import UserError

Positive = Annotated[float, Field(gt=0)]
LORA_PARAMETERS = {"attention": 1_634_304, "all_linear": 5_369_856}  # of FLUX.1-dev, per rank (dermaflux.lora.TARGETS)
FLUX_WIDTH, FLUX_BLOCKS = 3072, 57
GB = 1e9


class ModelRates(Closed):
    disk_gb: Positive
    gpu_gb: Positive


class FluxRates(Closed):
    forward_s: dict[int, Positive]
    text_s: Positive
    encode_s: dict[int, Positive]


class GpuMemory(Closed):
    text_encoders: Positive
    caption_cache: Positive
    classifier: Positive
    sample: Positive
    encode: Positive


class Gpu(Closed):
    speed: Positive
    watts: Positive
    memory_gb: Positive


class Rates(Closed):
    """config/rates.yaml, which says what each key means."""

    jpeg_kb: dict[int, Positive]
    caption_kb: Positive
    models: dict[str, ModelRates]
    other_model_gb: Positive
    gpu_memory_gb: GpuMemory
    flux: FluxRates
    caption_s: Positive
    classifier_s: Positive
    zero_shot_s: Positive
    prepare_core_s: dict[Literal["tbp_tile", "other"], Positive]
    gpus: dict[str, Gpu]

    def model(self, source):
        """ModelRates of a model's source (hf:REPO@REVISION, demo:KIND)."""
        repo = source.partition(":")[2].rsplit("@", 1)[0]
        small = ModelRates(disk_gb=self.other_model_gb, gpu_gb=self.other_model_gb)
        return self.models.get(repo, small)


def at_scale(rates, scale):
    """The rate (dict of px -> value) of images of `scale` px: that of the next larger scale known, or by area beyond."""
    known = [px for px in sorted(rates) if px >= scale]
    largest = max(rates)
    return rates[known[0]] if known else rates[largest] * (scale / largest) ** 2


def chosen_gpu(config, rates):
    """The Gpu that `planning.gpu` names.

    Raises:
        UserError: it is not in the rates.
    """
    if config.planning.gpu not in rates.gpus:
        raise UserError(
            f"planning.gpu: {config.planning.gpu!r} is not among the gpus of {config.planning.rates} "
            f"({', '.join(rates.gpus)})"
        )
    return rates.gpus[config.planning.gpu]


def images_by_scale(config, descriptors):
    """How many images of the corpus there are at most at each scale: Counter px -> images.

    Their sizes are not known before the data is: tiles of total body photographs (about 130 px) count as of the smallest
    scale, all others as of the largest.
    """
    images = Counter()
    for name in config.datasets:
        tile = descriptors[name].modality == "tbp_tile"
        images[config.prepare.scales[0 if tile else -1]] += descriptors[name].images
    return images


def lora_bytes(config):
    """Bytes of one copy of the LoRA's weights, in float32."""
    return 4 * config.lora.rank * LORA_PARAMETERS[config.lora.targets]


def disk_by_stage(config, descriptors, rates):
    """Bytes that each stage leaves, at most: dict of stage -> bytes. Archives of unpublished size are not in it."""
    scales = images_by_scale(config, descriptors)
    prepared = sum(n * 1000 * at_scale(rates.jpeg_kb, scale) for scale, n in scales.items())
    released = [descriptors[generator.dataset] for generator in config.released()]
    largest = 1000 * at_scale(rates.jpeg_kb, config.prepare.scales[-1])
    samples = {s.name: 2 * s.per_label * 1000 * at_scale(rates.jpeg_kb, s.scale) for s in config.samplers()}
    arms = all_arms(config.classify)
    drawn = sum(needed(arms, source) for source in ["real", *(g.name for g in config.generators)])
    archives = [archive for descriptor in descriptors.values() for archive in descriptor.archives]
    return {
        "models": sum(GB * rates.model(config.models[name]).disk_gb for name in config.used_models()),
        "download": 0.0 if config.paint else sum(1e6 * (archive.megabytes() or 0) for archive in archives),
        "prepare": prepared + sum(d.images * largest for d in released),
        "caption": 1000 * rates.caption_kb * sum(scales.values()),
        "corpus": prepared,  # the pairs once more, for those who publish them
        "train: latents": float(sum(n * scale**2 for scale, n in scales.items())),  # mean and deviation, 2 bytes each
        "train: LoRA": 2.0 * lora_bytes(config) + 2 * 3 * lora_bytes(config),  # two formats; the state and the next one
        "sample": sum(samples.values()),
        "classify": len(config.classify.seeds) * drawn * largest,
    }


def activation_bytes(config):
    """Bytes of activations while the LoRA is trained, at the largest scale, on each GPU.

    With gradient checkpointing each block's input is kept (2 bytes a value) and one block's inside at a time, about 34
    values for each of its input; without it the inside of all blocks.
    """
    rows = -(-config.lora.batch_size // config.lora.gpus)
    tokens = config.lora.text_tokens + (config.prepare.scales[-1] // 16) ** 2
    block_input = 2.0 * rows * tokens * FLUX_WIDTH
    inside = 34 * block_input
    return FLUX_BLOCKS * block_input + inside if config.lora.gradient_checkpointing else FLUX_BLOCKS * inside


def gpu_memory_by_stage(config, rates):
    """GB that each stage needs on one GPU: dict of stage -> GB."""
    beside, weights = rates.gpu_memory_gb, {n: rates.model(config.models[n]).gpu_gb for n in config.used_models()}
    captioner = config.caption_model(config.caption.captioner)
    training = (4 * lora_bytes(config) + activation_bytes(config)) / GB  # weights, gradients, Adam's two moments
    half = 1 if config.precision == "bf16" else 2
    stages = {
        "caption": weights[captioner] + beside.caption_cache if captioner else 0.0,
        "encode": beside.encode,
        "train": half * (weights[config.lora.model] + beside.text_encoders) + training,
        **{f"sample {s.name}": half * weights[s.model] + beside.sample for s in config.samplers()},
        "classify": beside.classifier,
    }
    return {stage: gb for stage, gb in stages.items() if gb}
