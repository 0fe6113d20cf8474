# Functions only: the configuration, and which files there will be. No rule stands here.
import os
import sys
from pathlib import Path

LIBRARY = Path(workflow.basedir, "workflow_scripts")
sys.path.insert(0, str(LIBRARY))

from dermaflux.arms import all_arms, needed
from dermaflux.before_start import check_before_start
from dermaflux.closed import ConfigError
from dermaflux.code_fingerprint import code_fingerprint
from dermaflux.config import parse_config
from dermaflux.cost import rules_of
from dermaflux.errors import UserError
from dermaflux.preflight import planned_partitions
from dermaflux.report_page import write_html_report

try:
    CONFIG = parse_config(config, "The configuration")
    DATASETS = CONFIG.load_descriptors()  # name -> descriptor: the corpus's in order, then released synthetic sets
except ConfigError as error:
    raise WorkflowError(str(error)) from None

ARMS = all_arms(CONFIG.classify)
ARMS_BY_NAME = {arm.name: arm for arm in ARMS}
CLASSIFIERS = {classifier.name: classifier for classifier in CONFIG.classify.classifiers}
GENERATORS = {generator.name: generator for generator in CONFIG.generators}
CAPTION_MODEL = CONFIG.caption_model(CONFIG.caption.captioner)
ZERO_SHOT = {model.name: model for model in CONFIG.zero_shot}


wildcard_constraints:
    dataset="[a-z0-9_]+",
    model="[a-z0-9_]+",
    adapter="[a-z0-9_]+",
    generator="[a-z0-9_]+",
    classifier="[a-z0-9_]+",
    arm="[a-z0-9_]+",
    label="benign|malignant",
    split="train|test",
    shard=r"\d+",
    seed=r"\d+",
    source="[a-z0-9_]+",


# Every job, wherever it runs: threads that wait without spinning, and libraries that do not phone home.
os.environ.update(OMP_WAIT_POLICY="passive", TOKENIZERS_PARALLELISM="false", HF_HUB_DISABLE_TELEMETRY="1")


def code(script):
    """Fingerprint of a script's meaning and of the library modules it uses: the param by which a rule tracks code."""
    return code_fingerprint(LIBRARY / f"{script}.py")


def growing(amount):
    """A resource that grows with each attempt: a job that was killed for its memory or time gets more of it."""
    return lambda wildcards, attempt: amount * attempt


def shard_numbers(dataset):
    """Numbers of the shards that a dataset is cut into: known before any data is."""
    return range(DATASETS[dataset].shards(CONFIG.prepare.shard_size))


def shards(pattern, datasets):
    """`pattern` for every shard of `datasets` (names)."""
    return [path for name in datasets for path in expand(pattern, dataset=name, shard=shard_numbers(name))]


def image_shards(datasets):
    return shards("<results>/images/{dataset}/{shard}.parquet", datasets)


def model_files(model):
    """The file that stands for a fetched model (its other files lie beside it); nothing where no model is used."""
    return [] if model is None else f"<results>/models/{model}/revision.json"


def adapter_files(adapter):
    return [] if adapter is None else f"<results>/lora/{adapter}/pytorch_lora_weights.safetensors"


# The corpus


def corpus_datasets():
    """The datasets that the corpus is made of, in their order."""
    return CONFIG.datasets


def decided_with(dataset):
    """The datasets that the manifest's slice of `dataset` looks at: those up to it, then the other test-bearing ones."""
    before = CONFIG.datasets[: CONFIG.datasets.index(dataset) + 1]
    return before + [name for name in CONFIG.manifest.test_sets if name not in before]


def manifest_slices():
    return expand("<results>/corpus/manifest/{dataset}.parquet", dataset=corpus_datasets())


def caption_files():
    return shards("<results>/captions/{dataset}/{shard}.parquet", corpus_datasets())


def corpus_files():
    """The published corpus: shards of the datasets that may be redistributed, and the card."""
    published = [name for name in corpus_datasets() if DATASETS[name].redistribute]
    rows = [
        path
        for split in ("train", "test")
        for path in shards(
            f"<results>/corpus/data/{split}/{{dataset}}-{{shard}}.parquet",
            [name for name in published if DATASETS[name].has_split(split)],
        )
    ]
    return [*rows, "<results>/corpus/README.md"]


# Generators


def sample_shards(generator):
    """Paths of all samples of a generator, both labels."""
    return expand(
        "<results>/samples/{generator}/{label}/{shard}.parquet",
        generator=generator.name,
        label=("benign", "malignant"),
        shard=range(generator.shards()),
    )


def sample_files():
    return [path for generator in CONFIG.samplers() for path in sample_shards(generator)]


# Classifiers


def source_shards(source):
    kind = CONFIG.source_kind(source)
    if kind == "sampled":
        return sample_shards(GENERATORS[source])
    return image_shards(corpus_datasets() if kind == "real" else [GENERATORS[source].dataset])


def arm_draws(wildcards):
    """The draws that an arm trains on, by name."""
    arm, draw = ARMS_BY_NAME[wildcards.arm], "<results>/classify/draws/{}/seed{}.parquet"
    real = {"real": draw.format("real", wildcards.seed)} if arm.real else {}
    return real | ({"synthetic": draw.format(arm.generator, wildcards.seed)} if arm.generator else {})


def prediction_files(name="predictions.parquet"):
    """`name` of every classifier run: classifiers x arms x seeds."""
    return expand(
        f"<results>/classify/{{arm}}/{{classifier}}/seed{{seed}}/{name}",
        arm=ARMS_BY_NAME,
        classifier=CLASSIFIERS,
        seed=CONFIG.classify.seeds,
    )


def zero_shot_files():
    return expand("<results>/classify/zero_shot/{model}/predictions.parquet", model=ZERO_SHOT)


# Archives


def archives_of(dataset):
    """All files that the dataset's source publishes."""
    return [f"<results>/raw/{dataset}/{archive.name}" for archive in DATASETS[dataset].archives]


def image_archives_of(dataset):
    """Those of them that hold its images."""
    names = dict.fromkeys(name for part in DATASETS[dataset].parts for name in part.images)
    return [f"<results>/raw/{dataset}/{name}" for name in names]


def archive_files():
    return [path for dataset in DATASETS for path in archives_of(dataset)]


def painted_folder(dataset):
    return f"<results>/mirror/{dataset}" if CONFIG.paint else []


def archive_source(dataset, archive):
    """Where a file comes from and what is known of it: the arguments of download_archive."""
    if CONFIG.paint:
        return {"access": "mirror", "source": None}
    mirror, checked = CONFIG.mirrors.get(dataset), CONFIG.prepare.check_counts
    return DATASETS[dataset].source(archive, CONFIG.pins, mirror, checked)
