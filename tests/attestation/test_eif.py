"""PCRs: the algorithm of enclave images, and the manifest that stands for an emulated one."""

from __future__ import annotations

import hashlib

import pytest
from cipherkeep_attestation.eif import configuration_pcr, extend, file_manifest, manifest_measurements, measure
from hypothesis import given, settings
from hypothesis import strategies as st

EMPTY_PCR2 = "21b9efbc184807662e966d34f390821309eeac6802309798826296bf3e8bec7c10edb30948c90ba67310f7b964fc500a"
names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=6)
manifests = st.dictionaries(
    st.lists(names, min_size=2, max_size=3).map("/".join).filter(lambda path: path.count("/") == 1),
    st.binary(min_size=48, max_size=48),
    max_size=8,
)


def digest(content: bytes) -> bytes:
    return hashlib.sha384(content).digest()


def test_an_image_with_one_ramdisk_has_the_known_pcr2() -> None:
    """AWS's PCR2 of an image without a second ramdisk is a constant."""
    assert measure(kernel=b"k", cmdline=b"c", ramdisks=(b"r",))[2].hex() == EMPTY_PCR2


def test_pcrs_cover_the_parts_that_they_should() -> None:
    """PCR0 is everything, PCR1 stops after the first ramdisk, PCR2 begins there."""
    pcrs = measure(kernel=b"k", cmdline=b"c", ramdisks=(b"r", b"s", b"t"))
    for index, joined in ((0, b"kcrst"), (1, b"kcr"), (2, b"st")):
        assert pcrs[index] == digest(bytes(48) + digest(joined))


def test_no_pcr_alone_tells_where_parts_end() -> None:
    """Moving the boundary of ramdisks keeps PCR0; only the three together are compared."""
    one = measure(kernel=b"k", cmdline=b"c", ramdisks=(b"rs", b"t"))
    two = measure(kernel=b"k", cmdline=b"c", ramdisks=(b"r", b"st"))
    assert one[0] == two[0]
    assert (one[1], one[2]) != (two[1], two[2])


def test_an_extension_is_that_of_the_platform() -> None:
    """New is the SHA-384 of old and data; a configuration is one extension of zeros."""
    assert extend(bytes(48), b"data") == digest(bytes(48) + b"data")
    assert configuration_pcr(b"\1" * 48) == digest(bytes(48) + b"\1" * 48)
    for wrong in (b"", bytes(47), bytes(64)):
        with pytest.raises(ValueError, match="48 bytes"):
            extend(wrong, b"")
        with pytest.raises(ValueError, match="48 bytes"):
            configuration_pcr(wrong)


def test_an_image_has_a_ramdisk() -> None:
    """Without one there is no PCR1 to speak of."""
    with pytest.raises(ValueError, match="ramdisk"):
        measure(kernel=b"k", cmdline=b"", ramdisks=())


def test_the_measurements_of_a_manifest_are_frozen() -> None:
    """A change of these values would change the identity of every emulated enclave."""
    pcrs = manifest_measurements([("a/b.py", digest(b"1")), ("a.py", digest(b"2"))])
    assert [pcrs[index].hex()[:32] for index in (0, 1, 2)] == [
        "0fa62425ab40257dda6c8d2cd5dc1db4",
        "ac65017f513c3e3fd4612372d9b6a19e",
        "1065a49fb90295e8e7f56b316fd93c13",
    ]


@settings(deadline=None)
@given(manifests, st.randoms())
def test_the_order_of_files_does_not_matter(files: dict[str, bytes], random: object) -> None:
    """A manifest is a set of files, sorted by us."""
    listed = list(files.items())
    assert manifest_measurements(listed) == manifest_measurements(reversed(listed))
    assert list(file_manifest(listed)) == sorted(listed, key=lambda entry: entry[0].encode())


@settings(deadline=None)
@given(manifests.filter(bool), st.data())
def test_any_change_of_a_file_changes_the_image(files: dict[str, bytes], data: st.DataObject) -> None:
    """Another content, another name, one file more or less: PCR0 and PCR2 differ, PCR1 is the label's alone."""
    before = manifest_measurements(files.items())
    path = data.draw(st.sampled_from(sorted(files)))
    others = {name: value for name, value in files.items() if name != path}
    changed = bytes([files[path][0] ^ 1]) + files[path][1:]
    for after in (others, {**others, path: changed}, {**others, path + "x/y": files[path]}):
        if after == files:
            continue
        pcrs = manifest_measurements(after.items())
        assert (pcrs[0] != before[0], pcrs[1] == before[1], pcrs[2] != before[2]) == (True, True, True)


@pytest.mark.parametrize(
    "path", ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\\b", "a\nb", "a\0b", "a\x7f", "\ud800"], ids=ascii
)
def test_a_path_that_could_be_read_in_two_ways_is_refused(path: str) -> None:
    """Only plain relative paths stand in a manifest."""
    with pytest.raises(ValueError, match=r"path|surrogates"):
        manifest_measurements([(path, bytes(48))])


def test_a_manifest_names_each_file_once() -> None:
    """The same path twice, or a file that is also a folder, is an error."""
    with pytest.raises(ValueError, match="twice"):
        manifest_measurements([("a", bytes(48)), ("a", bytes(48))])
    with pytest.raises(ValueError, match="folder"):
        manifest_measurements([("a", bytes(48)), ("a/b/c", bytes(48))])
    with pytest.raises(ValueError, match="48 bytes"):
        manifest_measurements([("a", bytes(32))])
