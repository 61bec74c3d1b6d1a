"""The only place for public material on its way out: files in the enclave's scratch folder, which is memory.

What is there is public and can be made again from the seed, so nothing of it is trusted to survive: a file that is
missing or short is made anew, and every byte is hashed on its way into the file.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from pathlib import Path

from cipherkeep_attestation.statements.material import Material


class MaterialFolder:
    """Public material by key id and kind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, key_id: bytes, parts: Iterable[tuple[str, bytes]]) -> tuple[Material, ...]:
        """Write what a key generation yields, part by part, and say what it was."""
        found = []
        for kind, data in parts:
            found.append(Material.of(kind, data))
            path = self._path(key_id, kind)
            partial = path.with_suffix(".partial")
            partial.write_bytes(data)
            partial.replace(path)
            del data
        _give_memory_back()
        return tuple(found)

    def has(self, key_id: bytes, material: Material) -> bool:
        """Whether the whole file is there."""
        try:
            return self._path(key_id, material.kind).stat().st_size == material.size
        except FileNotFoundError:
            return False

    def chunks(self, key_id: bytes, kind: str, size: int) -> Iterator[bytes]:
        """The file's bytes, `size` at a time."""
        with self._path(key_id, kind).open("rb") as file:
            while piece := file.read(size):
                yield piece

    def _path(self, key_id: bytes, kind: str) -> Path:
        return self._folder / f"{key_id.hex()}.{kind}"


def _give_memory_back() -> None:
    """Key generation leaves hundreds of megabytes in malloc's arenas, which nothing here will need again."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; other C libraries have none
    if trim is not None:
        trim(0)
