"""The only place for the emulators' folders of state: made whole or not at all, secrets readable by their owner only.

    STATE/pki/   root.key (0600), root.der           the root of all emulated attestation documents
    STATE/kms/   ca.key (0600), ca.pem, credentials.json (0600), keys/ID.json (0600)

A crash at any moment leaves the old file or the new one. State that exists is never overwritten by making it again.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from cipherkeep_host import durable
from cipherkeep_host.errors import HostError

SECRET = 0o600
PUBLIC = 0o644
MAX_FILE = 1 << 20  # bytes of one file of state; the largest, a key with its policy, has under 64 KiB


def create_folder(path: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
    """Make a folder (0700) with these files (name → content, mode), whole or not at all.

    `HostError("emulator.state_exists")` if it is there already: what it holds may be the only copy of a key.
    """
    durable.make_folder(path.parent)
    temporary = durable.temporary_beside(path)
    temporary.mkdir(mode=0o700)
    try:
        for name, (data, mode) in files.items():
            durable.write_new(temporary / name, data, mode=mode)
        durable.sync_folder(temporary)
        if path.exists():
            raise HostError("emulator.state_exists", str(path))
        try:
            temporary.rename(path)
        except OSError as error:
            raise HostError("emulator.state_exists", str(path)) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    durable.sync_folder(path.parent)


def read_file(path: Path) -> bytes:
    """The content of a file of state. `HostError` if it is missing or unreasonably large."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise HostError("emulator.state_missing", str(path)) from error
    if len(data) > MAX_FILE:
        raise HostError("emulator.state_damaged", f"{path} is larger than {MAX_FILE} bytes")
    return data


def read_secret(path: Path) -> bytes:
    """The content of a file that nobody else may read. `HostError` if others may."""
    data = read_file(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise HostError("emulator.state_permissions", str(path))
    return data
