"""The configuration's one definition. config.yaml is the paper's run and says what each key means."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from dermaflux.closed import Closed, validate
from dermaflux.descriptors import load_descriptor

Label = Literal["benign", "malignant"]
MEASURED = ("asymmetry", "border", "color")  # attributes that dermaflux.measure computes
RESERVED = ("image_id", "caption", "description", "captioner", "revision", "prompt_sha256", "seed", "n_tokens", "error")
Name = Field(pattern="^[a-z0-9_]+$")


class Labels(Closed):
    ambiguous: Literal["malignant", "benign", "exclude"]


class Prepare(Closed):
    shard_size: int = Field(gt=0)
    check_counts: bool
    min_side: int = Field(gt=0)
    scales: list[int] = Field(min_length=1)
    max_pixels: int = Field(gt=0)
    jpeg_quality: int = Field(ge=1, le=100)

    @field_validator("scales")
    @classmethod
    def _ascending(cls, scales):
        if scales != sorted(set(scales)) or any(scale % 16 for scale in scales):
            raise ValueError("scales must ascend and be multiples of 16 (8 for the VAE, 2 for FLUX's patches)")
        return scales

    @model_validator(mode="after")
    def _every_kept_image_has_a_scale(self):
        if self.min_side < self.scales[0]:
            raise ValueError("min_side is below the smallest scale: kept images would have no scale")
        return self


class Manifest(Closed):
    test_sets: list[str]
    groups: list[Literal["lesion", "patient"]]
    near_duplicate_bits: int = Field(ge=0, le=7)
    near_duplicate_rmse: float = Field(ge=0, le=1)


class _Chat(Closed):
    """What a captioner that is asked over HTTP has in common with others of its kind."""

    temperature: float = Field(ge=0)
    max_tokens: int = Field(gt=0)
    attempts: int = Field(gt=0)
    in_flight: int = Field(gt=0)
    reply_timeout: float = Field(gt=0)


class VllmCaptioner(_Chat):
    """A model of `models`, served by a `vllm serve` of the caption job's own."""

    backend: Literal["vllm"]
    model: str
    command: list[str] = Field(min_length=1)
    arguments: list[str]
    start_timeout: float = Field(gt=0)


class OpenAICaptioner(_Chat):
    """Any OpenAI-compatible endpoint: the images are sent to whoever runs it."""

    backend: Literal["openai"]
    url: str
    served_model: str
    key: str | None
    length_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    takes_seed: bool = True
    requests_per_minute: float | None = Field(gt=0)
    dollars_per_million_tokens: tuple[float, float]


class TransformersCaptioner(Closed):
    """A model of `models`, in the job's own process: the reference that others are held against."""

    backend: Literal["transformers"]
    model: str
    temperature: float = Field(ge=0)
    max_tokens: int = Field(gt=0)
    attempts: int = Field(gt=0)


class MeasuredCaptioner(Closed):
    """Computed from pixels (dermaflux.measure)."""

    backend: Literal["measured"]


class ImportedCaptioner(Closed):
    """Captions that somebody else wrote, in a table or zip."""

    backend: Literal["imported"]
    file: str
    sha256: str | None = Field(pattern="^[0-9a-f]{64}$")


Captioner = Annotated[
    VllmCaptioner | OpenAICaptioner | TransformersCaptioner | MeasuredCaptioner | ImportedCaptioner,
    Discriminator("backend"),
]


class Gate(Closed):
    """What a vLLM server must pass before it captions in bulk (dermaflux.caption_gate)."""

    reference: str
    images: int = Field(gt=0)
    tolerance: float = Field(ge=0, le=1)


class Caption(Closed):
    captioner: str
    prompt: str
    template: str
    seed: int
    attributes: list[Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]] = Field(min_length=1)
    reply: str
    retry_temperature: float = Field(ge=0)
    bad_share: float = Field(ge=0, le=1)
    gate: Gate | None

    @field_validator("attributes")
    @classmethod
    def _become_columns(cls, attributes):
        if len(set(attributes)) < len(attributes):
            raise ValueError("a name stands twice")
        for name in attributes:
            if name in RESERVED:
                raise ValueError(f"{name!r} is a column of the table of captions already")
        return attributes

    @field_validator("prompt", "template")
    @classmethod
    def _names_the_label(cls, text):
        if "{label}" not in text:
            raise ValueError("must contain {label}")
        return text

    def question(self):
        """What is asked about an image, whoever is asked: arguments of dermaflux.captions.caption_shard, as a dict."""
        return self.model_dump(
            mode="json", include={"prompt", "reply", "template", "attributes", "seed", "retry_temperature"}
        )


class CaptionAudit(Closed):
    words: str
    images: int = Field(gt=0)
    seed: int


class CaptionComparison(Closed):
    captioners: list[str] = Field(min_length=1)
    images: int = Field(gt=0, multiple_of=2)
    seed: int
    reviews: str | None

    @field_validator("captioners")
    @classmethod
    def _no_captioner_twice(cls, captioners):
        if len(set(captioners)) < len(captioners):
            raise ValueError("a captioner stands twice")
        return captioners

    def filled_in_reviews(self):
        """Paths of the review sheets that experts have sent back."""
        return sorted(map(str, Path(self.reviews).glob("*.csv"))) if self.reviews else []


class Lora(Closed):
    name: str = Name
    model: str
    targets: Literal["all_linear", "attention"]
    rank: int = Field(gt=0)
    alpha: float = Field(gt=0)
    epochs: float = Field(gt=0)
    batch_size: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    weight_decay: float = Field(ge=0)
    max_grad_norm: float = Field(gt=0)
    label_only: float = Field(ge=0, le=1)
    label_prompt: str
    timesteps: Literal["uniform", "logit_normal"]
    guidance: float = Field(ge=0)
    text_tokens: int = Field(gt=0)
    gradient_checkpointing: bool
    checkpoint_every: int = Field(gt=0)
    gpus: int = Field(gt=0)
    seed: int

    def training_settings(self):
        """What determines the trained LoRA beside model and data, as a dict."""
        return self.model_dump(exclude={"name", "model", "checkpoint_every", "gpus"})


class Sampler(Closed):
    """A generator whose images we sample: FLUX with the LoRA `adapter`, or FLUX alone where it is null."""

    name: str = Name
    model: str
    adapter: str | None
    prompt: str
    per_label: int = Field(gt=0)
    shard_size: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    scale: int = Field(gt=0)
    steps: int = Field(gt=0)
    guidance: float = Field(ge=0)
    text_tokens: int = Field(gt=0)
    seed: int

    def shards(self):
        """Number of shards of each label's samples."""
        return -(-self.per_label // self.shard_size)

    def indices(self, shard):
        """(start, stop) of the samples in a shard (int or str of digits)."""
        start = int(shard) * self.shard_size
        return start, min(start + self.shard_size, self.per_label)

    def settings(self):
        """What determines a sample beside its prompt and index, as a dict."""
        return self.model_dump(include={"batch_size", "guidance", "scale", "seed", "steps", "text_tokens"})


class Released(Closed):
    """A generator whose images somebody released: a descriptor with `synthetic: true`."""

    name: str = Name
    dataset: str


def _kind(generator):
    """Which of the two a generator is: only a released one names a dataset."""
    released = "dataset" in generator if isinstance(generator, dict) else isinstance(generator, Released)
    return "released" if released else "sampler"


Generator = Annotated[
    Annotated[Sampler, Tag("sampler")] | Annotated[Released, Tag("released")],
    Discriminator(_kind),
]


class Classifier(Closed):
    name: str = Name
    model: str
    learning_rate: float = Field(gt=0)


class Sweep(Closed):
    generator: str
    real_images: list[int]
    synthetic_per_real: list[float]


class SyntheticOnly(Closed):
    generator: str
    images: list[int]


class Classify(Closed):
    classifiers: list[Classifier]
    sweep: Sweep
    synthetic_only: list[SyntheticOnly]
    comparison: list[Sweep]
    epochs: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    image_size: int = Field(gt=0)
    weight_decay: float = Field(ge=0)
    augment: bool
    seeds: list[int] = Field(min_length=1)
    runs_per_gpu: int = Field(ge=1, le=10)

    def gpu_percent(self):
        """How much of a GPU a run takes: dermaflux.gpu_lease lends by the percent."""
        return 100 // self.runs_per_gpu


class ZeroShot(Closed):
    name: str = Name
    model: str
    prompts: dict[Label, list[str]]
    batch_size: int = Field(gt=0)


class Report(Closed):
    bootstrap: int = Field(gt=0)
    seed: int
    claims: str
    toy: bool


class Planning(Closed):
    gpu: str
    rates: str


class Paint(Closed):
    images: int = Field(gt=0)
    seed: int


# How fast captions are asked for, not what they say: left out of the params, so that another pace repeats nothing.
PACE = {"in_flight", "reply_timeout", "start_timeout", "requests_per_minute", "dollars_per_million_tokens"}


class Config(Closed):
    pathvars: dict[Literal["results", "logs", "benchmarks"], str]
    datasets: list[str] = Field(min_length=1)
    descriptors: str
    pins: str
    mirrors: dict[str, str]
    paint: Paint | None
    models: dict[str, str]
    device: Literal["cuda", "cpu"]
    precision: Literal["bf16", "fp32"]
    labels: Labels
    prepare: Prepare
    manifest: Manifest
    captioners: dict[str, Captioner]
    caption: Caption
    caption_audit: CaptionAudit
    caption_comparison: CaptionComparison
    lora: Lora
    generators: list[Generator]
    classify: Classify
    zero_shot: list[ZeroShot]
    report: Report
    planning: Planning

    @model_validator(mode="after")
    def _names_are_known(self):
        for key, name in self._used_captioners():
            if name not in self.captioners:
                raise ValueError(f"{key}: {name!r} is not in `captioners` ({', '.join(self.captioners)})")
        used = {self.captioners[name].backend for _, name in self._used_captioners()}
        if "measured" in used and (unknown := set(self.caption.attributes) - set(MEASURED)):
            raise ValueError(f"caption.attributes: measured captions know {', '.join(MEASURED)}, not {min(unknown)!r}")
        if gate := self.gate(self.caption.captioner):
            reference, model = self.captioners.get(gate.reference), self.caption_model(self.caption.captioner)
            if getattr(reference, "backend", None) != "transformers" or reference.model != model:
                raise ValueError(
                    f"caption.gate.reference: {gate.reference!r} is no captioner of backend transformers with model {model}"
                )
        models = [("lora.model", self.lora.model)]
        models += [(f"captioners.{name}.model", self.caption_model(name)) for name in self.captioners]
        models += [(f"generators.{g.name}.model", g.model) for g in self.samplers()]
        models += [(f"classify.classifiers.{c.name}.model", c.model) for c in self.classify.classifiers]
        models += [(f"zero_shot.{z.name}.model", z.model) for z in self.zero_shot]
        for key, model in models:
            if model is not None and model not in self.models:
                raise ValueError(f"{key}: {model!r} is not in `models` ({', '.join(self.models)})")
        for sampler in self.samplers():
            if sampler.adapter not in (None, self.lora.name):
                raise ValueError(f"generators.{sampler.name}.adapter: {sampler.adapter!r} is not `lora.name`")
        names = [generator.name for generator in self.generators]
        arms = [self.classify.sweep, *self.classify.synthetic_only, *self.classify.comparison]
        for generator in [arm.generator for arm in arms]:
            if generator not in names:
                raise ValueError(f"classify: generator {generator!r} is not in `generators` ({', '.join(names)})")
        known = [*self.datasets, *(generator.dataset for generator in self.released())]
        for name in self.mirrors:
            if name not in known:
                raise ValueError(f"mirrors: {name!r} is not a dataset of this run ({', '.join(known)})")
        for name in self.manifest.test_sets:
            if name not in self.datasets:
                raise ValueError(f"manifest.test_sets: {name!r} is not in `datasets`")
        if len(set(self.datasets)) < len(self.datasets):
            raise ValueError("datasets: a name stands twice")
        return self

    def _used_captioners(self):
        yield "caption.captioner", self.caption.captioner
        for name in self.caption_comparison.captioners:
            yield "caption_comparison.captioners", name

    def caption_model(self, captioner):
        """Which of `models` the captioner (its name) runs on this machine, or None."""
        return getattr(self.captioners[captioner], "model", None)

    def caption_settings(self, captioner):
        """What of the captioner's (its name) settings determines its captions, as a dict."""
        return self.captioners[captioner].model_dump(mode="json", exclude=PACE)

    def caption_placement(self, captioner):
        """Where the captioner's (its name) model runs, if in the job's own process: dict of device and precision, or {}."""
        in_process = self.captioners[captioner].backend == "transformers"
        return {"device": self.device, "precision": self.precision} if in_process else {}

    def gate(self, captioner):
        """The Gate that the captioner (its name) must pass before it captions in bulk, or None."""
        return self.caption.gate if self.captioners[captioner].backend == "vllm" else None

    def used_models(self):
        """Names of the models that the run loads."""
        users = [self.lora, *self.samplers(), *self.classify.classifiers, *self.zero_shot]
        names = [self.caption_model(self.caption.captioner), *(user.model for user in users)]
        return list(dict.fromkeys(name for name in names if name is not None))

    def samplers(self):
        """The generators that are sampled here."""
        return [generator for generator in self.generators if isinstance(generator, Sampler)]

    def released(self):
        """The generators that are released image sets."""
        return [generator for generator in self.generators if isinstance(generator, Released)]

    def generator(self, name):
        """The generator called `name`."""
        return next(generator for generator in self.generators if generator.name == name)

    def source_kind(self, source):
        """What images a classifier draws from `source`: real, sampled (made here) or released (made by others)."""
        if source == "real":
            return "real"
        return "sampled" if self.generator(source) in self.samplers() else "released"

    def classifier_settings(self, name):
        """What determines a run of the classifier called `name` beside arm and seed, as a dict."""
        shared = self.classify.model_dump(include={"augment", "batch_size", "epochs", "image_size", "weight_decay"})
        rate = next(its.learning_rate for its in self.classify.classifiers if its.name == name)
        return {**shared, "learning_rate": rate, "precision": self.precision}

    def load_descriptors(self):
        """All descriptors that the run needs, by name: the corpus's in their order, then the released synthetic sets."""
        names = [*self.datasets, *(generator.dataset for generator in self.released())]
        return {name: load_descriptor(self.descriptors, name) for name in names}


def parse_config(values, source="config.yaml"):
    """The dict `values` as a `Config`; see `dermaflux.closed.validate` for errors."""
    return validate(Config, values, source)
