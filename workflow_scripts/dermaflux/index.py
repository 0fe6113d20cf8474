"""The index of a dataset: every row of its source's metadata, with what the archives hold for it.

What a dataset looks like is said by its descriptor (dermaflux.descriptors). Three ways of saying a diagnosis are known:
the image's folder, a column of a table, or a table's one-hot columns. Tables can be joined, and can lie within archives.
"""

import csv
import io
import math
import re
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow as pa

from dermaflux.archives import is_archive, list_members, open_member
from dermaflux.errors import UserError
from dermaflux.files import fraction
from dermaflux.job import say
from dermaflux.labels import label_of, unmapped
from dermaflux.tables import INDEX, write_table


def shard_of(image_id, shards):
    """The shard (0 to shards - 1) that an image belongs to: a hash of its id, whatever else the dataset holds."""
    return int(fraction("shard", image_id) * shards)


class _Sources:
    """A dataset's files by their names; members of each archive are listed once."""

    def __init__(self, paths):
        self.paths = {Path(path).name: Path(path) for path in paths}
        self.listed = {}

    def members(self, archive):
        if archive not in self.listed:
            self.listed[archive] = list_members(self.paths[archive])
        return self.listed[archive]

    def rows(self, reference):
        """(header, iterator of rows) of the table `reference`: a file's name, or `archive.zip!path/in/it.csv`."""
        archive, _, member = reference.partition("!")
        if not member and is_archive(archive):
            raise UserError(f"{archive} is an archive: name the table in it as {archive}!path/in/it.csv")
        file = open_member(self.paths[archive], member or None)
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        rows = csv.reader(text, delimiter="\t" if reference.endswith((".tab", ".tsv")) else ",")
        try:
            header = next(rows, None)
        except UnicodeDecodeError:
            raise UserError(f"{reference} is not a text table (UTF-8): is it the right file?") from None
        if not header:
            raise UserError(f"{reference} is empty: delete the file and run again, so that it is downloaded again")
        return [name.strip() for name in header], rows


def _cells(header, rows, columns, reference):
    """Yield (row number, tuple of the stripped cells of `columns`), rows counted from 1 below the header."""
    positions = [header.index(column) for column in columns]
    try:
        for number, row in enumerate(rows, 1):
            if row:
                if len(row) < len(header):
                    raise UserError(f"{reference}, row {number}: {len(row)} cells, the header has {len(header)}; "
                                    "is the file truncated? Delete it and run again.")  # fmt: skip
                yield number, tuple(row[position].strip() for position in positions)
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{reference} cannot be read as a table: {error}") from None


def _joined(sources, join, columns):
    """dict of key -> cells of `columns` of a joined table."""
    header, rows = sources.rows(join["table"])
    cells = {}
    for number, (key, *rest) in _cells(header, rows, [join["by"], *columns], join["table"]):
        if key in cells:
            raise UserError(f"{join['table']}, row {number}: {join['by']} {key!r} stands twice")
        cells[key] = rest
    return cells


def _read_table(sources, part):
    """Yield (row number, dict of column -> cell) of a part's table, with the columns that it needs of joined ones."""
    diagnosis = part["diagnosis"] if isinstance(part["diagnosis"], list) else [part["diagnosis"]]
    needed = [part["source_id"], *diagnosis, *part["columns"].values()]
    header, rows = sources.rows(part["table"])
    headers = [header] + [sources.rows(join["table"])[0] for join in part["join"]]
    for join, its_header in zip(part["join"], headers[1:], strict=True):
        for table, names in ((part["table"], header), (join["table"], its_header)):
            if join["by"] not in names:
                raise UserError(f"{table} has no column {join['by']!r}; it has: {', '.join(names)}")
    where = {column: next((i for i, names in enumerate(headers) if column in names), None) for column in needed}
    missing = [column for column, table in where.items() if table is None]
    if missing:
        tables = [part["table"], *(join["table"] for join in part["join"])]
        there = "; ".join(f"{table} has {', '.join(names)}" for table, names in zip(tables, headers, strict=True))
        raise UserError(f"no column {', '.join(map(repr, missing))}: {there}")
    own = [column for column in dict.fromkeys(needed) if where[column] == 0]
    keys = [join["by"] for join in part["join"]]
    others = [[column for column in dict.fromkeys(needed) if where[column] == i + 1] for i in range(len(keys))]
    joined = [_joined(sources, join, columns) for join, columns in zip(part["join"], others, strict=True)]
    for number, cells in _cells(header, rows, own + keys, part["table"]):
        row = dict(zip(own, cells, strict=False))
        for key, columns, table in zip(cells[len(own) :], others, joined, strict=True):
            # a row that the joined table lacks has empty cells there
            row.update(zip(columns, table.get(key, [""] * len(columns)), strict=True))
        yield number, row


def _diagnosis(row, part, number):
    """The row's diagnosis: the cell of a column, or the name of the one-hot column that is set."""
    if isinstance(part["diagnosis"], str):
        return row[part["diagnosis"]]
    try:
        chosen = [column for column in part["diagnosis"] if float(row[column] or 0) > 0.5]
    except ValueError as error:
        raise UserError(f"{part['table']}, row {number} ({row[part['source_id']]}): {error}") from None
    if len(chosen) != 1:
        raise UserError(
            f"{part['table']}, row {number} ({row[part['source_id']]}): of {', '.join(part['diagnosis'])} exactly one "
            f"must be 1, but there are {len(chosen)}: {', '.join(chosen) or 'none'}"
        )
    return chosen[0]


def _find_images(sources, part):
    """dict of source id -> (archive, member, what the path's groups say) of a part's images."""
    expression, found = re.compile(part["members"]), {}
    for archive in part["images"]:
        for member in sources.members(archive):
            match = expression.fullmatch(member)
            if not match:
                continue
            groups = match.groupdict()
            id = groups.pop("source_id")
            if id in found:
                raise UserError(f"{archive}: the id {id!r} stands for two images: {found[id][1]} and {member}")
            found[id] = (archive, member, groups)
    names = [name for archive in part["images"] for name in sources.members(archive)]
    if names and not found:
        raise UserError(
            f"{', '.join(part['images'])}: none of {len(names)} members matches `members` ({part['members']}) of the "
            f"descriptor. The first are: {', '.join(names[:3])}"
        )
    return found


def _translated(part, column, value, number):
    """A cell of one of the part's `columns`, by the descriptor's `values` where it gives some; None where it is empty."""
    known = part["values"].get(column)
    if not value or known is None:
        return value or None
    if value not in known:
        raise UserError(
            f"{part['table']}, row {number}: {part['columns'][column]} is {value!r}, which the descriptor does not "
            f"translate to a {column}; it knows: {', '.join(known)}. Add it under `values`."
        )
    return known[value]


def _part_rows(sources, part):
    """Yield dicts: one for each row of the part's table or, where folders are the labels, for each image.

    Keys: number, source_id, archive, member, diagnosis (None where the image has no row), split, patient_id, ...
    """
    images = _find_images(sources, part)
    if part["table"] is None:
        for number, (id, (archive, member, groups)) in enumerate(images.items(), 1):
            row = {"number": number, "source_id": id, "archive": archive, "member": member, **groups}
            yield {**row, "diagnosis": row.pop("label"), "split": groups.get("split") or part["split"]}
        return
    seen = {}
    for number, cells in _read_table(sources, part):
        id = cells[part["source_id"]]
        if id in seen:
            raise UserError(f"{part['table']}: the id {id!r} stands twice, in rows {seen[id]} and {number}")
        seen[id] = number
        archive, member, groups = images.get(id, (None, None, {}))
        columns = {name: _translated(part, name, cells[column], number) for name, column in part["columns"].items()}
        row = {"number": number, "source_id": id, "archive": archive, "member": member, **groups, **columns}
        # a folder may tell a split; a row without its image has none then, and counts as train
        yield {
            **row,
            "diagnosis": _diagnosis(cells, part, number),
            "split": row.get("split") or part["split"] or "train",
        }
    for id, (archive, member, groups) in images.items():
        if id not in seen:
            row = {"number": None, "source_id": id, "archive": archive, "member": member, **groups, "diagnosis": None}
            yield {**row, "split": groups.get("split") or part["split"]}


def _listed_duplicates(sources, reference):
    """Source ids that an official list of duplicates names second: the first of a pair is kept."""
    header, rows = sources.rows(reference)
    if len(header) != 2:
        raise UserError(f"{reference}: a list of duplicates has two columns, this has: {', '.join(header)}")
    return {second for _, (_, second) in _cells(header, rows, header, reference)}


def _source_of(part):
    if part["table"] is None:
        return ", ".join(part["images"])
    columns = part["diagnosis"] if isinstance(part["diagnosis"], str) else "one-hot columns"
    return f"{part['table']} ({columns})"


def _check(facts, columns, check_counts):
    """Stop at an empty class, or where the number of rows is not the descriptor's."""
    rows = sum(reason != "no_metadata" for reason in columns["drop_reason"])
    promised = {meaning for meaning in facts["labels"].values() if meaning in ("benign", "malignant")}
    empty = promised - set(columns["label"])
    if rows and empty:
        raise UserError(
            f"{facts['name']}: none of {rows:,} rows is {' or '.join(sorted(empty))}, though the descriptor maps "
            "diagnoses to it. Is a part of the dataset missing, or a diagnosis mapped wrongly?"
        )
    if check_counts and rows != facts["images"]:
        raise UserError(
            f"{facts['name']}: its metadata has {rows:,} rows, but its descriptor says {facts['images']:,} images. "
            "Complete the download, correct `images` in the descriptor, or set prepare.check_counts to false."
        )


def index_dataset(archives, output, facts, ambiguous, shard_size, check_counts):
    """Write the index of a dataset: a table of the schema tables.INDEX.

    Every row of the source's metadata is in it, kept or not; drop_reason says why not: no_image (no such image in the
    archives), no_metadata (an image without a row), no_label, ambiguous_label, listed_duplicate.

    Args:
        archives: paths of all files that the descriptor lists.
        output: path of the Parquet file.
        facts: dict, `Descriptor.index_facts()`.
        ambiguous: "malignant", "benign" or "exclude": what ambiguous diagnoses count as.
        shard_size: images per shard, > 0; the number of shards follows from it and facts["images"].
        check_counts: stop when the number of rows is not facts["images"].

    Raises:
        UserError: a diagnosis that the descriptor does not map, an id that stands twice, a label without any row, a
            missing column, another number of rows, or an archive that cannot be used.
    """
    sources = _Sources([archives] if isinstance(archives, str) else archives)
    shards = math.ceil(facts["images"] / shard_size)
    duplicates = _listed_duplicates(sources, facts["duplicates"]) if facts.get("duplicates") else set()
    columns, seen = defaultdict(list), set()
    for part in facts["parts"]:
        unknown = {}
        for row in _part_rows(sources, part):
            id, diagnosis = row["source_id"], row["diagnosis"]
            if id in seen:
                raise UserError(f"{_source_of(part)}: the id {id!r} stands in another part of {facts['name']} too")
            seen.add(id)
            if diagnosis is None:
                label, reason = None, "no_metadata"
            elif diagnosis not in facts["labels"]:
                count, first = unknown.get(diagnosis, (0, row["number"]))
                unknown[diagnosis] = (count + 1, first)
                continue
            else:
                label, reason = label_of(facts["labels"][diagnosis], ambiguous)
                reason = reason or ("listed_duplicate" if id in duplicates else None)
                reason = "no_image" if row["member"] is None else reason
            image_id = f"{facts['name']}/{id}"
            row.update(image_id=image_id, dataset=facts["name"], label=label, drop_reason=reason)
            row["shard"] = shard_of(image_id, shards)
            row["licence"] = row.get("licence") or facts["licence"]
            row["modality"] = row.get("modality") or (None if facts["modality"] == "mixed" else facts["modality"])
            for name in INDEX.names:
                columns[name].append(row.get(name))
        if unknown:
            raise unmapped(facts["name"], _source_of(part), unknown)
    _check(facts, columns, check_counts)
    write_table(output, pa.table({name: columns[name] for name in INDEX.names}, schema=INDEX), INDEX)
    _say_counts(facts["name"], columns)


def _say_counts(name, columns):
    kept = Counter(
        f"{split} {label}"
        for split, label, reason in zip(columns["split"], columns["label"], columns["drop_reason"], strict=True)
        if reason is None
    )
    dropped = Counter(reason for reason in columns["drop_reason"] if reason)
    counts = [f"{count:,} {what}" for what, count in [*sorted(kept.items()), *sorted(dropped.items())]]
    say(f"index {name}: {len(columns['image_id']):,} rows: {', '.join(counts)}")
    for reason in ("no_metadata", "no_image"):
        ids = [id for id, why in zip(columns["source_id"], columns["drop_reason"], strict=True) if why == reason]
        if ids:
            say(f"index {name}: {len(ids):,} {reason}, such as {', '.join(ids[:3])}")
