"""Files that survive kill -9 and a loss of power."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cipherkeep_host import durable

WRITERS: tuple[Callable[[Path, bytes], object], ...] = (durable.write, durable.create)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fails during a write, the old content stays and nothing else is left."""
    path = tmp_path / "value"
    durable.write(path, b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="space"):
        durable.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["value"]


@pytest.mark.parametrize("writer", WRITERS)
def test_all_of_a_file_is_synced_before_it_has_its_name(
    writer: Callable[[Path, bytes], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss of power right after the name appears finds the whole content: nothing waits in a buffer at the sync."""
    synced: list[tuple[int, bool]] = []
    path, sync = tmp_path / "value", os.fsync

    def watched(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_size, path.exists()))
        sync(descriptor)

    monkeypatch.setattr("os.fsync", watched)
    writer(path, b"content")
    assert synced[0] == (7, False)
    assert synced[1][1] is True  # the folder, once the name stands in it
    assert path.read_bytes() == b"content"


def test_what_exists_is_never_overwritten_by_create(tmp_path: Path) -> None:
    """The second one is told so, and finds the first one's content; nobody else may read it."""
    path = tmp_path / "value"
    assert durable.create(path, b"first") is True
    assert durable.create(path, b"second") is False
    assert path.read_bytes() == b"first"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["value"]


def test_what_a_crash_left_half_written_is_swept(tmp_path: Path) -> None:
    """Temporary files go, whole files stay."""
    durable.write(tmp_path / "value", b"whole")
    durable.temporary_beside(tmp_path / "value").write_bytes(b"ha")
    assert durable.sweep(tmp_path) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["value"]
