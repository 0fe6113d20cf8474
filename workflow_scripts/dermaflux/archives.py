"""Archives read as streams: zip, tar, compressed tar, and zips inside a zip. Nothing is ever unpacked to disk.

A member is named by its path; a member of an inner zip by `inner.zip!path`. Archives come from elsewhere and are not
trusted: names that leave the archive, links, and members that inflate beyond reason stop the job.
"""

import gzip
import io
import lzma
import os
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

from dermaflux.errors import UserError

MEMBER_BYTES = 512 << 20  # no image or table of ours is near that
SMALL_BYTES = 4 << 20  # small members may compress as well as they like
MEMBER_RATIO = 200  # images do not compress; the best of our tables reach 30
TOTAL_SLACK_BYTES, TOTAL_RATIO = 1 << 30, 40  # of an archive as a whole

_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, gzip.BadGzipFile)
_FETCH_AGAIN = "Delete the file and run again, so that it is downloaded again."


def is_archive(path):
    """Whether `path` is named like an archive (else it is a plain file, such as a table)."""
    return bool(re.search(r"\.(zip|tar|tar\.(gz|bz2|xz)|tgz)$", str(path), re.IGNORECASE))


def _check_name(archive, name):
    parts = re.split(r"[/\\]", name)
    if ".." in parts or name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) or "\0" in name:
        raise UserError(
            f"{archive}: member {name!r} points outside the archive. "
            "This is not the archive that the source publishes; do not use it, and fetch it from its source again."
        )


def _bomb(archive, name, size, compressed):
    raise UserError(
        f"{archive}: member {name!r} would inflate from {compressed:,} to {size:,} bytes, which no image or table does "
        "(a decompression bomb). Do not use this archive, and fetch it from its source again."
    )


def _check_zip_entry(archive, info, limit=MEMBER_BYTES):
    _check_name(archive, info.filename)
    if info.flag_bits & 0x1:
        raise UserError(f"{archive}: member {info.filename!r} is encrypted; fetch an archive without a password.")
    if (info.external_attr >> 16) & 0o170000 == 0o120000:
        raise UserError(f"{archive}: member {info.filename!r} is a link, which is refused; fetch the archive again.")
    large = info.file_size > SMALL_BYTES and info.file_size > MEMBER_RATIO * max(1, info.compress_size)
    if large or info.file_size > limit:
        _bomb(archive, info.filename, info.file_size, info.compress_size)


class _Window(io.RawIOBase):
    """A read-only view of `size` bytes of a file from `start`: how a stored inner zip is read without copying it."""

    def __init__(self, file, start, size):
        self.file, self.start, self.size, self.position = file, start, size, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=io.SEEK_SET):
        self.position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        return self.position

    def tell(self):
        return self.position

    def readinto(self, buffer):
        wanted = max(0, min(len(buffer), self.size - self.position))
        self.file.seek(self.start + self.position)
        data = self.file.read(wanted)
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)


class _Zip:
    """An open zip file whose entries are checked as they are listed or read."""

    def __init__(self, file, shown):
        self.file, self.shown = file, shown
        try:
            self.zip = zipfile.ZipFile(file)
        except (*_DAMAGE, OSError) as error:
            raise UserError(
                f"{shown} is not a whole zip file ({error}): truncated or damaged. {_FETCH_AGAIN}"
            ) from None

    def infos(self):
        """All files of the zip, checked, in the order in which they lie in the file."""
        infos = [info for info in self.zip.infolist() if not info.is_dir()]
        size = self.file.seek(0, io.SEEK_END)
        total = sum(info.file_size for info in infos)
        if total > TOTAL_SLACK_BYTES + TOTAL_RATIO * size:
            _bomb(self.shown, "(all together)", total, size)
        for info in infos:
            inner = info.filename.lower().endswith(".zip")
            _check_zip_entry(self.shown, info, limit=1 << 60 if inner else MEMBER_BYTES)
        return sorted(infos, key=lambda info: info.header_offset)

    def info(self, name):
        try:
            info = self.zip.getinfo(name)
        except KeyError:
            near = ", ".join(self.zip.namelist()[:3]) or "nothing"
            raise UserError(f"{self.shown} has no member {name!r}; it begins with: {near}") from None
        _check_zip_entry(self.shown, info, limit=1 << 60 if name.lower().endswith(".zip") else MEMBER_BYTES)
        return info

    def read(self, info):
        """The member's bytes, or None where they are damaged."""
        try:
            return self.zip.read(info)
        except (*_DAMAGE, OSError, NotImplementedError):
            return None

    @contextmanager
    def inner(self, name):
        """The zip that is the member `name`, as another _Zip."""
        info = self.info(name)
        shown = f"{self.shown}!{name}"
        if info.compress_type == zipfile.ZIP_STORED and isinstance(self.file, io.BufferedReader):
            with self.zip.open(info):  # checks the local header
                pass
            self.file.seek(info.header_offset + 26)
            lengths = self.file.read(4)
            start = info.header_offset + 30 + int.from_bytes(lengths[:2], "little")
            start += int.from_bytes(lengths[2:], "little")
            yield _Zip(io.BufferedReader(_Window(self.file, start, info.file_size)), shown)
            return
        # random access into a compressed member would inflate it again and again: inflate it once, into a file
        with tempfile.TemporaryFile() as file:
            try:
                with self.zip.open(info) as member:
                    shutil.copyfileobj(member, file, 1 << 20)
            except _DAMAGE as error:
                raise UserError(f"{shown} is damaged ({error}). {_FETCH_AGAIN}") from None
            yield _Zip(file, shown)


@contextmanager
def _open_zip(path):
    with open(path, "rb") as file:
        yield _Zip(file, str(path))


def _broken_tar(shown, last, error):
    return UserError(f"{shown} is damaged after {last!r} ({error}): truncated? {_FETCH_AGAIN}")


def _tar_members(path):
    """(tar, member) for every file of a tar, in its order, checked."""
    shown, size, total, last = str(path), os.path.getsize(path), 0, "(its start)"
    try:
        with tarfile.open(path, "r|*") as tar:
            for member in tar:
                _check_name(shown, member.name)
                if member.isdir():
                    continue
                if not member.isfile():
                    raise UserError(f"{shown}: member {member.name!r} is a link or a device, which is refused; "
                                    "fetch the archive from its source again.")  # fmt: skip
                total += member.size
                if member.size > MEMBER_BYTES or total > TOTAL_SLACK_BYTES + TOTAL_RATIO * size:
                    _bomb(shown, member.name, total, size)
                yield tar, member
                last = member.name
    except (*_DAMAGE, OSError) as error:
        raise _broken_tar(shown, last, error) from None


def _is_zip(path):
    return str(path).lower().endswith(".zip")


def list_members(path):
    """Names of all files in the archive `path` (zip, tar, tar.gz, ...), those of inner zips as `inner.zip!name`.

    Raises:
        UserError: the archive is truncated or damaged, a name points outside it, a member is a link or a bomb.
    """
    if not _is_zip(path):
        return [member.name for _, member in _tar_members(path)]
    names = []
    with _open_zip(path) as archive:
        for info in archive.infos():
            if info.filename.lower().endswith(".zip"):
                with archive.inner(info.filename) as inner:
                    names += [f"{info.filename}!{i.filename}" for i in inner.infos()]
            else:
                names.append(info.filename)
    return names


def read_members(path, wanted):
    """Yield (name, bytes) for each of the names `wanted`, in the order in which they lie in the archive `path`.

    The archive and each inner zip are opened once. bytes is None where the member's data is damaged.

    Raises:
        UserError: as `list_members`; or a name is not in the archive.
    """
    wanted = set(wanted)
    if not _is_zip(path):
        yield from _read_tar(path, wanted)
        return
    with _open_zip(path) as archive:
        plain = [archive.info(name) for name in wanted if "!" not in name]
        for info in sorted(plain, key=lambda info: info.header_offset):
            yield info.filename, archive.read(info)
        for inner_name in sorted({name.split("!")[0] for name in wanted if "!" in name}):
            with archive.inner(inner_name) as inner:
                infos = [inner.info(name.split("!", 1)[1]) for name in wanted if name.startswith(f"{inner_name}!")]
                for info in sorted(infos, key=lambda info: info.header_offset):
                    yield f"{inner_name}!{info.filename}", inner.read(info)


def _read_tar(path, wanted):
    missing = set(wanted)
    for tar, member in _tar_members(path):
        if member.name in missing:
            missing.discard(member.name)
            try:
                data = tar.extractfile(member).read()
            except (*_DAMAGE, OSError) as error:
                raise _broken_tar(path, member.name, error) from None
            yield member.name, data
            if not missing:
                return
    if missing:
        raise UserError(f"{path} has no member {min(missing)!r}")


def open_member(path, member=None):
    """A binary file object with all of a member's bytes, or of the plain file `path` where `member` is None.

    Raises:
        UserError: as `read_members`; or the member is damaged.
    """
    if member is None:
        return io.BytesIO(Path(path).read_bytes())
    ((name, data),) = read_members(path, [member])
    if data is None:
        raise UserError(f"{path}: member {name!r} is damaged. {_FETCH_AGAIN}")
    return io.BytesIO(data)
