"""Dataset descriptors: everything that the workflow knows about a dataset before it has a byte of it.

A descriptor is a YAML file in config/datasets/, named like the dataset. Adding a dataset is writing one.
"""

import math
import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from dermaflux.closed import Closed, ConfigError, load


class Archive(Closed):
    """One file that the source publishes (an archive or a table)."""

    name: str  # file name under raw/{dataset}/
    url: str | None = None  # None where access is manual
    bytes: int | None = Field(None, gt=0)  # exact, and checked; None: not published
    about_mb: float | None = Field(None, gt=0)  # roughly, for planning, where `bytes` is not known
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")  # None: nobody publishes it

    def megabytes(self):
        """Its size in MB (10^6 bytes) as far as it is known, else None."""
        return self.bytes / 1e6 if self.bytes else self.about_mb

    def size_in_words(self):
        """Its size for people: "3,300 MB", "about 25 MB", "size not published"."""
        megabytes = self.megabytes()
        if megabytes is None:
            return "size not published"
        return (
            f"{'' if self.bytes else 'about '}{megabytes:,.0f} MB" if megabytes >= 10 else f"about {megabytes:.1g} MB"
        )

    @field_validator("name")
    @classmethod
    def _plain(cls, name):
        if "/" in name or name.startswith("."):
            raise ValueError("an archive's name is a plain file name")
        return name


class Join(Closed):
    """Another table whose columns are added to a part's rows."""

    table: str  # as Part.table
    by: str  # the column that both tables have


class Part(Closed):
    """Images of one kind within a dataset, and where their rows are.

    `members` is a regular expression that must match the whole path of an image within its archive; a member inside
    an inner archive is written `inner.zip!path`. Its groups say what the path tells: `source_id` (required) and, where
    the path carries them, `label` (the folder's diagnosis), `split`, `lesion_id`, `patient_id`.
    """

    images: list[str]  # archives that hold the images
    members: str
    split: Literal["train", "test"] | None = None  # None: the path's group `split` says
    table: str | None = None  # an archive's name, or `archive.zip!path/in/it.csv`; None: folders are the labels
    join: list[Join] = []
    source_id: str | None = None  # the table's column that equals the path's group `source_id`
    diagnosis: str | list[str] | None = None  # a column; or one-hot columns; None: the path's group `label`
    columns: dict[Literal["patient_id", "lesion_id", "modality", "fitzpatrick", "licence"], str] = {}
    values: dict[str, dict[str, str]] = {}  # translations of those columns' values, e.g. modality: {...}

    @field_validator("members")
    @classmethod
    def _compiles(cls, members):
        try:
            groups = re.compile(members).groupindex
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if "source_id" not in groups:
            raise ValueError("the expression needs a group (?P<source_id>...)")
        return members

    @model_validator(mode="after")
    def _complete(self):
        groups = re.compile(self.members).groupindex
        if self.split is None and "split" not in groups:
            raise ValueError("give `split`, or a group (?P<split>...) in `members`")
        if self.table is None and "label" not in groups:
            raise ValueError("give `table`, or a group (?P<label>...) in `members`")
        if self.table is not None and (self.source_id is None or self.diagnosis is None):
            raise ValueError("a part with a `table` needs `source_id` and `diagnosis`")
        return self

    def splits(self):
        """The splits that this part can hold, as a tuple."""
        return (self.split,) if self.split else ("train", "test")


class Descriptor(Closed):
    """One dataset."""

    name: str = Field(pattern="^[a-z0-9_]+$")
    title: str
    citation: str
    url: str  # the page a person would visit
    licence: str
    redistribute: bool  # may its images be written to the published corpus?
    access: Literal["https", "dataverse", "kaggle", "isic", "huggingface", "manual"]
    instructions: str | None = None  # for manual access: the form to sign, what to do
    synthetic: bool = False  # released synthetic images: compared with, never part of the corpus
    modality: Literal["dermoscopic", "clinical", "tbp_tile", "mixed"]
    images: int = Field(gt=0)  # rows the index must have, both splits together; sets the number of shards
    archives: list[Archive] = Field(min_length=1)
    parts: list[Part] = Field(min_length=1)
    # every diagnosis that the source uses; quoted in YAML where it looks like something else (True, no, 1)
    labels: dict[str, Literal["benign", "malignant", "ambiguous", "unlabelled"]]
    # an official list of duplicates: a table with two columns of source ids, of which the first is kept
    duplicates: str | None = None

    @model_validator(mode="after")
    def _files_are_declared(self):
        declared = {archive.name for archive in self.archives}
        used = {name for part in self.parts for name in part.images}
        tables = [part.table for part in self.parts] + [join.table for part in self.parts for join in part.join]
        used |= {table.split("!")[0] for table in [*tables, self.duplicates] if table}
        if used - declared:
            raise ValueError(f"parts use files that are not in `archives`: {sorted(used - declared)}")
        if declared - used:
            raise ValueError(f"`archives` lists files that no part uses: {sorted(declared - used)}")
        return self

    def archive(self, name):
        """The archive called `name`."""
        return next(archive for archive in self.archives if archive.name == name)

    def source(self, name, pins, mirror=None, checked=True):
        """Where the archive called `name` comes from and what is known of it: arguments of download.download_archive.

        Args:
            pins: folder of the lock files of all datasets.
            mirror: a folder or URL that stands in for the published source, or None.
            checked: whether published sizes and checksums hold (a mirror may serve smaller archives).
        """
        archive = self.archive(name)
        known = {"bytes": archive.bytes, "sha256": archive.sha256} if checked else {}
        if mirror:
            return {"access": "mirror", "source": f"{mirror}/{name}", **known}
        # only somebody who must fetch the file by hand is shown the page: elsewhere its address determines nothing
        by_hand = {"page": self.url, "instructions": self.instructions} if self.access == "manual" else {}
        return {"access": self.access, "source": archive.url, "pins": f"{pins}/{self.name}", **by_hand, **known}

    def shards(self, shard_size):
        """Number of shards of `shard_size` images (int > 0) that the dataset is cut into."""
        return math.ceil(self.images / shard_size)

    def has_split(self, split):
        """Whether any part can hold rows of `split` (train | test)."""
        return any(split in part.splits() for part in self.parts)

    def index_facts(self):
        """What the index depends on, as a plain dict: nothing about sources, titles or citations."""
        keep = {"name", "licence", "modality", "images", "parts", "labels", "duplicates"}
        return self.model_dump(mode="json", include=keep)


def load_descriptor(folder, name):
    """The descriptor `folder/name.yaml`.

    Raises:
        ConfigError: no such file (listing those there are), wrong keys, or another name inside.
    """
    path = Path(folder) / f"{name}.yaml"
    if not path.exists():
        known = ", ".join(sorted(other.stem for other in Path(folder).glob("*.yaml")))
        raise ConfigError(f"dataset {name!r} has no descriptor {path}; there are: {known}")
    descriptor = load(Descriptor, path)
    if descriptor.name != name:
        raise ConfigError(f"{path}: `name` is {descriptor.name!r}, but the file is called {name}.yaml")
    return descriptor
