"""Captions that somebody else wrote: a table, or a zip of tables and texts, keyed by image id. The file is not trusted."""

import csv
import io
import json
from pathlib import Path, PurePosixPath

from dermaflux.archives import is_archive, list_members, read_members
from dermaflux.errors import UserError
from dermaflux.files import sha256_file

ID_COLUMNS = ("image_id", "image", "image_name", "isic_id", "file_name", "filename", "file", "id", "name")
TEXT_COLUMNS = ("caption", "text", "description", "prompt")
TABLES, TEXTS = (".csv", ".tsv", ".json", ".jsonl"), (".txt", ".caption")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
TEXT_BYTES = 1 << 20  # a caption is not that long
csv.field_size_limit(TEXT_BYTES)


class ImportedCaptions:
    """The captions in `path`: `find(image_id)`.

    Read are CSV and TSV with a header, JSON (a list of objects, or an object of id -> text or object), JSONL, and one text
    file per image, named like it; alone or, any number of them, in a zip or tar. An id is that of this workflow
    (dataset/id), or the source's id or file name, with or without folder and extension.

    Raises:
        UserError: no such file, another hash than `sha256` (None: any), nothing in it that can be read, or two different
            captions for one id.
    """

    def __init__(self, path, sha256=None):
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(
                f"imported captions: {path} does not exist; put the file there or set `file` of the captioner"
            )
        if sha256 and (found := sha256_file(path)) != sha256:
            raise UserError(f"imported captions: {path} has the SHA-256 {found}, not {sha256} as configured")
        self._by_full, self._by_bare = {}, {}
        for name, data in self._files():
            self._read(name, data)
        if not self._by_full:
            raise UserError(
                f"imported captions: {path} has no captions that can be read. Known are {', '.join(TABLES)} with a column of "
                f"{', '.join(ID_COLUMNS)} and one of {', '.join(TEXT_COLUMNS)}, and {' or '.join(TEXTS)} files named like images."
            )

    def _files(self):
        """(name, bytes) of all files that may hold captions."""
        if not is_archive(self.path):
            yield self.path.name, self.path.read_bytes()
            return
        wanted = [
            name for name in list_members(self.path)
            if name.lower().endswith(TABLES + TEXTS) and "__MACOSX" not in name and not PurePosixPath(name).name.startswith(".")
        ]  # fmt: skip
        yield from read_members(self.path, wanted) if wanted else ()

    def _read(self, name, data):
        where = f"{self.path}" + ("" if name == self.path.name else f"!{name}")
        if data is None:
            raise UserError(f"imported captions: {where} is damaged; fetch the file again")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"imported captions: {where} is not UTF-8 ({error}); convert it") from None
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in TEXTS:
            return self._add(where, name.rsplit("!", 1)[-1].rsplit(".", 1)[0], {"caption": text})
        try:
            rows = list(_rows(text, suffix))
        except (ValueError, TypeError, csv.Error, RecursionError) as error:
            raise UserError(
                f"imported captions: {where} is not the {suffix[1:].upper()} of a table ({error})"
            ) from None
        for row in rows:
            row = {str(key).strip().lower(): value for key, value in row.items() if key is not None}
            id = next((row[column] for column in ID_COLUMNS if row.get(column)), None)
            if id is not None:
                self._add(where, str(id), row)
        return None

    def _add(self, where, id, row):
        texts = {name: " ".join(text.split()) for name, text in row.items() if isinstance(text, str) and text.strip()}
        if text_of(texts) is None:
            return
        full, bare = _plain(id)
        known = self._by_full.setdefault(full, texts)
        if text_of(known) != text_of(texts):
            raise UserError(
                f"imported captions: {where} has another caption for {id!r} than what was read before; leave one"
            )
        other = self._by_bare.setdefault(bare, texts)
        if other is not None and text_of(other) != text_of(texts):
            self._by_bare[bare] = None  # two folders have different images of that name

    def find(self, image_id):
        """The texts for an image (dict of column -> text, at least one of TEXT_COLUMNS), or None.

        What is listed under the same folder or dataset is preferred; a bare name counts only where it is one image's.
        """
        full, bare = _plain(image_id)
        return self._by_full.get(full) or self._by_full.get(bare) or self._by_bare.get(bare)


def imported_file(path):
    """`path` as a Path.

    Raises:
        UserError: there is no such file.
    """
    if not Path(path).is_file():
        raise UserError(f"imported captions: {path} does not exist; put the file there or set `file` of the captioner")
    return Path(path)


def _rows(text, suffix):
    """The rows (dicts) of a table."""
    if suffix in (".csv", ".tsv"):
        return csv.DictReader(io.StringIO(text, newline=""), delimiter="," if suffix == ".csv" else "\t")
    if suffix == ".jsonl":
        values = [json.loads(line) for line in text.splitlines() if line.strip()]
    else:
        values = json.loads(text)
    if isinstance(values, dict):
        values = [{"id": id, **(its if isinstance(its, dict) else {"caption": its})} for id, its in values.items()]
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ValueError("neither a list of objects nor an object of captions by id")
    return values


def _plain(id):
    """An id or file name in lower case and without extension: with its last folder, and alone."""
    path = PurePosixPath(id.replace("\\", "/").lower())
    name = path.stem if path.suffix in IMAGE_SUFFIXES else path.name
    return "/".join([*path.parts[-2:-1], name]), name


def text_of(texts):
    """The caption or description among the texts that `ImportedCaptions.find` gives, or None."""
    return next((texts[column] for column in TEXT_COLUMNS if texts.get(column)), None)
