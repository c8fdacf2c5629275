"""Every way in which two readers could see two archives is an error, and what honest writers write is none."""

import io
import struct
import zipfile

import pytest

from comfy_atelier.packer import Archive, ArchiveError
from comfy_atelier.packer.archive import Limits

DESCRIPTOR = 0x8
UTF8 = 0x800


def open_bytes(tmp_path, data, limits=None):
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    archive = Archive.open(path, limits) if limits else Archive.open(path)
    archive.check()
    return archive


def refused(tmp_path, data):
    with pytest.raises(ArchiveError) as caught:
        open_bytes(tmp_path, data)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "a.zip"))
    assert "\n" not in message
    return caught.value.message


def test_what_zipfile_writes_is_read(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"a comment"
        archive.mkdir("input")
        archive.writestr("input/ü.png", b"1" * 1000)
        archive.writestr("stored", b"2", zipfile.ZIP_STORED)
        with archive.open("wide", "w", force_zip64=True) as member:
            member.write(b"3")
    archive = open_bytes(tmp_path, stream.getvalue())
    assert dict.fromkeys(archive.files) == {"input/ü.png": None, "stored": None, "wide": None}
    assert archive.folders == ("input",)
    assert archive.read("input/ü.png") == b"1" * 1000
    assert archive.read("wide") == b"3"


@pytest.mark.parametrize("wide", [False, True])
def test_what_zipfile_streams_is_read(tmp_path, wide):
    class Pipe(io.RawIOBase):
        def __init__(self):
            self.data = b""

        def writable(self):
            return True

        def write(self, data):
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    with (
        zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a", "w", force_zip64=wide) as member,
    ):
        member.write(b"streamed " * 100)
    assert open_bytes(tmp_path, pipe.data).read("a") == b"streamed " * 100


@pytest.mark.parametrize("signature", [b"PK\x07\x08", b""])
def test_descriptors_with_and_without_a_signature(tmp_path, craft, signature):
    import zlib

    data = b"y" * 50
    crc = zlib.crc32(data)
    member = craft.Lie("a", data, method=0, flags=DESCRIPTOR, local_crc=0, local_size=0, local_packed=0)
    member.descriptor = signature + struct.pack("<LLL", crc, 50, 50)
    assert open_bytes(tmp_path, craft.zip([member, craft.Lie("b")])).read("a") == data
    member.descriptor = signature + struct.pack("<LLL", crc, 50, 51)
    assert "descriptor" in refused(tmp_path, craft.zip([member, craft.Lie("b")]))


LIES = {
    "another local name": ({"local_name": b"../x"}, "local header calls it"),
    "another local name of the same length": ({"local_name": b"b"}, "local header calls it"),
    "another local crc": ({"local_crc": 1}, "two headers contradict"),
    "another local size": ({"local_size": 9}, "two headers contradict"),
    "another local packed size": ({"local_packed": 9}, "two headers contradict"),
    "another local method": ({"local_method": 0}, "two headers contradict"),
    "other local flags": ({"local_flags": UTF8}, "two headers contradict"),
    "encrypted": ({"flags": 0x1}, "encrypted"),
    "strongly encrypted": ({"flags": 0x41}, "encrypted"),
    "masked": ({"flags": 0x2000}, "encrypted"),
    "aes": ({"extra": struct.pack("<HH7s", 0x9901, 7, b"\2\0AE\3\0\0")}, "encrypted"),
    "patch": ({"flags": 0x20}, "patch"),
    "method": ({"method": 97, "packed": b"x"}, "method 97"),
    "bzip2": ({"method": 12, "packed": b"x"}, "method 12"),
    "lzma": ({"method": 14, "packed": b"x"}, "method 14"),
    "zstd": ({"method": 93, "packed": b"x"}, "method 93"),
    "second disk": ({"disk": 1}, "split"),
    "crc": ({"crc": 1}, "checksum"),
    "size too small": ({"data": b"abc" * 9, "size": 4}, "real size"),
    "size too large": ({"data": b"abc", "size": 40}, "real size"),
    "stored size": ({"data": b"abc", "method": 0, "size": 2}, "real size"),
    "cut deflate": ({"data": b"abc" * 99, "packed": b"K"}, "cut short"),
    "no deflate": ({"packed": b"\xff\xff\xff\xff"}, "damaged"),
    "data after deflate's end": ({"data": b"x", "packed": b"\xab\x00\x00tail"}, "goes on after its end"),
    "second name": ({"extra": struct.pack("<HHBL", 0x7075, 9, 1, 0) + b"../x"}, "second, different name"),
    "second local name": ({"local_extra": struct.pack("<HHBL", 0x7075, 9, 1, 0) + b"../x"}, "different name"),
    "cut second name": ({"extra": struct.pack("<HHB", 0x7075, 1, 1)}, "different name"),
    "cut extra": ({"extra": struct.pack("<HH", 0x5455, 99)}, "extra field is damaged"),
    "odd extra": ({"extra": b"abc"}, "extra field is damaged"),
    "extra twice": ({"extra": struct.pack("<HHB", 0x5455, 1, 0) * 2}, "extra field is damaged"),
    "link in an extra field": ({"extra": struct.pack("<HH4s", 0x756E, 4, b"/etc")}, "may make it a link"),
    "link in PKWARE's field": ({"local_extra": struct.pack("<HH4s", 0x000D, 4, b"/etc")}, "may make it a link"),
    "zip64 contradicts": ({"extra": struct.pack("<HHQ", 1, 8, 99)}, "zip64 field contradicts"),
    "zip64 missing": ({"size": 0xFFFFFFFF, "local_size": 1}, "zip64 field is missing"),
    "latin name": ({"name": b"\xe9", "flags": 0}, "neither ASCII nor marked"),
    "bad utf-8 name": ({"name": b"\xe9", "flags": UTF8}, "not UTF-8"),
    "offset past the end": ({"offset": 10**6}, "past the directory"),
    "offset elsewhere": ({"offset": 3}, "local header is missing"),
    "gap": ({"gap": b"hidden bytes"}, ""),
    "hidden member": ({"hidden": True}, "unlisted bytes"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_member_is_refused(tmp_path, craft, lie):
    changes, words = LIES[lie]
    member = craft.Lie(**({"name": "a"} | changes))
    assert words in refused(tmp_path, craft.zip([craft.Lie("before"), member, craft.Lie("c")]))


def test_two_entries_for_the_same_bytes_are_refused(tmp_path, craft):
    data = craft.zip([craft.Lie("a", b"x" * 99), craft.Lie("a2", b"x" * 99, offset=0, local_name=b"a2")])
    assert refused(tmp_path, data)
    # The quoted overlap (CVE-2024-0450): the second header lies inside the first one's data.
    inner = craft.zip([craft.Lie("b", b"y")])[:-1]
    whole = craft.zip([craft.Lie("a", inner, method=0), craft.Lie("b", b"y", offset=31, hidden=False)])
    assert refused(tmp_path, whole)


WHOLES = {
    "prefix": ({"prefix": b"\x89PNG"}, "does not begin with its first member"),
    "bytes before the directory": ({"before_directory": b"junk"}, "unlisted bytes before the directory"),
    "bytes after the directory": ({"after_directory": b"junk"}, "not where its end record says"),
    "bytes after the end": ({"trailing": b"junk"}, "does not end where"),
    "a second end in the comment": ({"comment": b"PK\5\6" + bytes(18)}, "two zip end records"),
    "records in the comment": ({"comment": b"PK\3\4 and so on"}, "comment holds zip records"),
    "count too high": ({"count": 9}, "directory is damaged"),
    "count too low": ({"count": 1}, "more than its end record says"),
    "directory size": ({"directory_size": 10}, "not where its end record says"),
    "directory start": ({"directory_start": 0}, "not where its end record says"),
    "directory past the end": ({"directory_start": 2**31}, "not where its end record says"),
    "split": ({"disk": 3}, "split"),
    "zip64 without its record": ({"count": 0xFFFF}, "zip64 end record is missing"),
    "junk in the directory": ({"directory_extra": b"junk"}, "more than its end record says"),
}


@pytest.mark.parametrize("lie", WHOLES)
def test_a_lying_archive_is_refused(tmp_path, craft, lie):
    changes, words = WHOLES[lie]
    assert words in refused(tmp_path, craft.zip([craft.Lie("a"), craft.Lie("b")], **changes))


def zip64(craft, *, locator_offset=0, record=None, small_count=0xFFFF):
    """A zip with a zip64 end record; `locator_offset` and `record` make it lie."""
    plain = craft.zip([craft.Lie("a")])
    end = len(plain) - 22
    _, _, _, _, _, size, start, _ = struct.unpack_from("<4s4H2LH", plain, end)
    fields = {"rest": 44, "disk": 0, "count": 1, "size": size, "start": start} | (record or {})
    wide = struct.pack(
        "<4sQ2H2L4Q", b"PK\6\6", fields["rest"], 45, 45, fields["disk"], 0, fields["count"], fields["count"],
        fields["size"], fields["start"],
    )  # fmt: skip
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end + locator_offset, 1)
    small = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, small_count, small_count, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return plain[:end] + wide + locator + small


def test_an_honest_zip64_end_is_read(tmp_path, craft):
    assert list(open_bytes(tmp_path, zip64(craft)).files) == ["a"]
    assert list(open_bytes(tmp_path, zip64(craft, small_count=1)).files) == ["a"]


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ({"locator_offset": -56}, "locator does not point"),
        ({"locator_offset": 4}, "locator does not point"),
        ({"record": {"count": 2}}, "directory is damaged"),
        ({"record": {"start": 1}}, "not where its end record says"),
        ({"record": {"size": 1}}, "not where its end record says"),
        ({"record": {"rest": 2**63}}, "damaged"),
        ({"record": {"disk": 1}}, "split"),
        ({"small_count": 7}, "contradict"),
    ],
)
def test_a_lying_zip64_end_is_refused(tmp_path, craft, lie, words):
    assert words in refused(tmp_path, zip64(craft, **lie))


@pytest.mark.parametrize("data", [b"", b"PK", b"plain text", b"PK\5\6", b"\0" * 5000])
def test_what_is_no_zip_is_refused(tmp_path, data):
    assert refused(tmp_path, data)


def test_every_cut_is_refused(tmp_path, craft):
    whole = craft.zip([craft.Lie("a", b"x" * 30), craft.Lie("b")])
    for length in range(len(whole)):
        refused(tmp_path, whole[:length])


def test_every_changed_byte_is_refused_or_harmless(tmp_path, craft):
    """Whatever byte changes, the archive is refused or gives what it gave: times and versions may differ."""
    whole = craft.zip([craft.Lie("a", b"x" * 30), craft.Lie("b")])
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 0x55
        try:
            archive = open_bytes(tmp_path, bytes(changed))
        except ArchiveError:
            continue
        assert {name: archive.read(name) for name in archive.files} == {"a": b"x" * 30, "b": b"x"}


def test_too_many_members_are_refused_before_the_directory_is_read(tmp_path, craft):
    data = craft.zip([craft.Lie(f"m{i}") for i in range(20)])
    with pytest.raises(ArchiveError, match="it has 20 members; 10 are allowed"):
        open_bytes(tmp_path, data, Limits(members=10))


def test_a_huge_directory_is_refused_before_it_is_read(tmp_path, craft, monkeypatch):
    monkeypatch.setattr("comfy_atelier.packer.zipformat.MAX_DIRECTORY", 100)
    assert "its directory has" in refused(tmp_path, craft.zip([craft.Lie(f"m{i}") for i in range(3)]))
