"""Archives as streams, and the archives that must be refused."""

import io
import struct
import tarfile
import zipfile

import pytest

from dermaflux.archives import list_members, open_member, read_members
from dermaflux.errors import UserError


def zip_bytes(members, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def write_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("inner_compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zips_inside_a_zip_are_read_without_unpacking(tmp_path, inner_compression):
    inner = zip_bytes({"b/1.png": b"one" * 1000, "b/2.png": b"two"}, zipfile.ZIP_DEFLATED)
    path = tmp_path / "outer.zip"
    path.write_bytes(zip_bytes({"a.csv": b"x,y", "sub/inner.zip": inner}, inner_compression))
    assert list_members(path) == ["a.csv", "sub/inner.zip!b/1.png", "sub/inner.zip!b/2.png"]
    wanted = ["sub/inner.zip!b/2.png", "sub/inner.zip!b/1.png", "a.csv"]
    assert dict(read_members(path, wanted)) == {
        "a.csv": b"x,y", "sub/inner.zip!b/1.png": b"one" * 1000, "sub/inner.zip!b/2.png": b"two",
    }  # fmt: skip
    assert open_member(path, "sub/inner.zip!b/2.png").read() == b"two"
    assert [file.name for file in tmp_path.iterdir()] == ["outer.zip"]


@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz")])
def test_tars_are_read_in_one_pass(tmp_path, name, mode):
    path = write_tar(tmp_path / name, {"x/1.jpg": b"one", "x/2.jpg": b"two"}, mode)
    assert list_members(path) == ["x/1.jpg", "x/2.jpg"]
    assert list(read_members(path, ["x/2.jpg"])) == [("x/2.jpg", b"two")]


def test_members_come_in_the_order_in_which_they_lie_in_the_archive(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(zip_bytes({name: name.encode() for name in "dacb"}))
    assert [name for name, _ in read_members(path, "abc")] == ["a", "c", "b"]


def test_a_member_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(zip_bytes({"there": b""}))
    with pytest.raises(UserError, match="a.zip has no member 'gone'; it begins with: there"):
        list(read_members(path, ["gone"]))
    with pytest.raises(UserError, match="b.tar has no member 'gone'"):
        list(read_members(write_tar(tmp_path / "b.tar", {"there": b""}), ["gone"]))


@pytest.mark.parametrize("name", ["../x.jpg", "a/../../x.jpg", "/etc/x.jpg", "C:/x.jpg", "a\\..\\x.jpg"])
def test_names_that_leave_the_archive_are_refused(tmp_path, name):
    path = tmp_path / "evil.zip"
    path.write_bytes(zip_bytes({"fine.jpg": b"", name: b"x"}))
    with pytest.raises(UserError, match="evil.zip: member .*points outside the archive"):
        list_members(path)
    with pytest.raises(UserError, match="evil.tar: member .*points outside the archive"):
        list_members(write_tar(tmp_path / "evil.tar", {"fine.jpg": b"", name: b"x"}))


def test_names_that_leave_an_inner_zip_are_refused(tmp_path):
    path = tmp_path / "outer.zip"
    path.write_bytes(zip_bytes({"inner.zip": zip_bytes({"../x.jpg": b""})}))
    with pytest.raises(UserError, match=r"outer.zip!inner.zip: member '../x.jpg' points outside"):
        list_members(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("x.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(UserError, match="a.tar: member 'x.jpg' is a link or a device"):
        list_members(tmp_path / "a.tar")


def test_links_in_a_zip_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("x.jpg")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match="'x.jpg' is a link"):
        list_members(tmp_path / "a.zip")


def test_a_member_that_inflates_beyond_reason_is_refused_unread(tmp_path):
    path = tmp_path / "bomb.zip"
    path.write_bytes(zip_bytes({"x.png": bytes(20 << 20)}, zipfile.ZIP_DEFLATED))
    with pytest.raises(UserError, match="bomb.zip: member 'x.png' would inflate .*decompression bomb"):
        list_members(path)
    with pytest.raises(UserError, match="decompression bomb"):
        list(read_members(path, ["x.png"]))


def test_many_members_that_share_their_bytes_are_refused(tmp_path):
    # the directory of a zip may name the same compressed bytes any number of times
    body = zip_bytes({"x.png": bytes(3 << 20)}, zipfile.ZIP_DEFLATED)
    end = body.rindex(b"PK\5\6")
    start = struct.unpack("<I", body[end + 16 : end + 20])[0]
    entry, count = body[start:end], 2000
    directory = b"".join(entry.replace(b"x.png", f"{i:05}".encode()) for i in range(count))
    tail = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, len(directory), start, 0)
    (tmp_path / "bomb.zip").write_bytes(body[:start] + directory + tail)
    with pytest.raises(UserError, match=r"\(all together\).*decompression bomb"):
        list_members(tmp_path / "bomb.zip")


def test_a_tar_gz_that_inflates_beyond_reason_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("dermaflux.archives.TOTAL_SLACK_BYTES", 1 << 20)
    path = write_tar(tmp_path / "bomb.tar.gz", {f"{i}.png": bytes(1 << 20) for i in range(5)}, "w:gz")
    with pytest.raises(UserError, match="decompression bomb"):
        list_members(path)


def test_a_truncated_zip_says_so_and_what_to_do(tmp_path):
    path = tmp_path / "cut.zip"
    path.write_bytes(zip_bytes({"x.jpg": b"x" * 1000})[:600])
    with pytest.raises(UserError, match=r"cut.zip is not a whole zip file .*Delete the file and run again"):
        list_members(path)


def test_a_truncated_tar_gz_names_its_last_whole_member(tmp_path):
    import random

    noise = random.Random(0).randbytes(50_000)
    path = write_tar(tmp_path / "cut.tar.gz", {"a.jpg": noise, "b.jpg": noise[::-1]}, "w:gz")
    path.write_bytes(path.read_bytes()[:60_000])
    with pytest.raises(UserError, match="cut.tar.gz is damaged after .b.jpg.*truncated"):
        list(read_members(path, ["a.jpg", "b.jpg"]))


def test_a_damaged_member_is_none_and_the_others_are_read(tmp_path):
    data = bytearray(zip_bytes({"a.jpg": b"A" * 100, "b.jpg": b"B" * 100}))
    data[data.index(b"AAAA") + 10] = 0
    (tmp_path / "a.zip").write_bytes(data)
    assert dict(read_members(tmp_path / "a.zip", ["a.jpg", "b.jpg"])) == {"a.jpg": None, "b.jpg": b"B" * 100}
    with pytest.raises(UserError, match="'a.jpg' is damaged"):
        open_member(tmp_path / "a.zip", "a.jpg")
