"""Run by `test_hostile.py` in a process of its own: mutated inputs against every reader of the bindings."""

from __future__ import annotations

import hashlib
import json
import random
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import tfhers

# Name of the input, reader, how many mutations, seconds that one call may take.
Attempt = tuple[str, Callable[[bytes], object], int, float]

MIB = 1 << 20
INTERESTING = [0, 1, 2, 255, 256, 257, 2**16, 2**31, 2**32 - 1, 2**32, 2**40, 2**62, 2**63, 2**64 - 1]


def mutate(data: bytes, dice: random.Random) -> bytes:
    """One to three changes of a random kind."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, 3)):
        # Lengths and versions lie at the ends: half of the changes go there.
        near = dice.choice([min(len(changed), 160), len(changed)])
        at = dice.randrange(near) if dice.random() < 0.5 else len(changed) - 1 - dice.randrange(near)
        kind = dice.randrange(6)
        if kind == 0:
            changed[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            changed[at : at + 8] = dice.choice(INTERESTING).to_bytes(8, "little")
        elif kind == 2:
            changed[at : at + 4] = (dice.choice(INTERESTING) & 0xFFFFFFFF).to_bytes(4, "little")
        elif kind == 3:
            del changed[at : at + dice.choice([1, 4, 8, 12, 64])]
        elif kind == 4:
            other = dice.randrange(len(changed))
            changed[at:at] = changed[other : other + dice.choice([1, 4, 8, 12, 64])]
        else:
            del changed[max(at, 1) :]
        if not changed:
            return b""
    return bytes(changed)


@dataclass(slots=True)
class Report:
    """What came of all calls: how many, what was not ours, what took too long."""

    calls: dict[str, int] = field(default_factory=dict)
    accepted: int = 0
    refused: int = 0
    foreign: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    growth_mib: float = 0.0

    def try_all(self, plan: list[Attempt], sample: dict[str, bytes], dice: random.Random) -> None:
        for name, read, count, bound in plan:
            for _ in range(count):
                data = mutate(sample[name], dice)
                begun = time.perf_counter()
                try:
                    read(data)
                    self.accepted += 1
                except tfhers.TfheError:
                    self.refused += 1
                except BaseException as error:  # noqa: BLE001 - a panic is a BaseException, and must be seen here
                    self.foreign.append(f"{name}: {type(error).__name__}")
                if time.perf_counter() - begun > bound:
                    self.slow.append(f"{name}: {time.perf_counter() - begun:.2f} s")
            self.calls[name] = self.calls.get(name, 0) + count


def peak_mib() -> float:
    """Peak of this program's own memory; `getrusage` would count the parent's, from before `exec`."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def allow(mib: int) -> None:
    """Let the address space grow by so much from now on: an allocation beyond it aborts the process."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + mib * MIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def main() -> None:
    sample = {path.name: path.read_bytes() for path in Path(sys.argv[1]).iterdir()}
    client = tfhers.ClientKey.from_seed(b"insecure test seed of the tfhers", tag=b"insecure test key")
    public = tfhers.PublicKey.from_bytes(sample["public_key"])
    crs = tfhers.Crs.from_bytes(sample["crs"], sha256=hashlib.sha256(sample["crs"]).digest())
    small: list[Attempt] = [
        ("packed", tfhers.packed_types, 2500, 0.1),
        ("packed", lambda data: client.decrypt_packed(data, index=1), 2500, 0.1),
        ("many", lambda data: client.decrypt_packed(data, index=2), 2000, 0.1),
        ("public_key", tfhers.PublicKey.from_bytes, 800, 1.0),
        ("bool", lambda data: tfhers.Ciphertext.from_bytes("bool", data), 600, 1.0),
        ("uint8", lambda data: tfhers.Ciphertext.from_bytes("uint8", data), 600, 1.0),
        ("uint8", lambda data: client.decrypt_expanded(data, "uint8"), 400, 1.0),
        ("sealed", lambda data: tfhers.ClientKey.unseal(b"k" * 32, data, b""), 400, 1.0),
        ("proven_list", lambda data: tfhers.verify(data, public, crs, b"m"), 150, 10.0),
        ("plain_list", lambda data: tfhers.verify(data, public, crs, b"m"), 60, 10.0),
    ]
    large: list[Attempt] = [
        ("plain_list", lambda data: tfhers.expand(data, server), 60, 30.0),
        ("crs", tfhers.Crs.from_bytes, 6, 60.0),
        ("server_key", tfhers.ServerKey.load, 4, 60.0),
    ]
    report, dice = Report(), random.Random(20260101)
    allow(512)
    begun = peak_mib()
    report.try_all(small, sample, dice)
    report.growth_mib = peak_mib() - begun
    allow(2048)
    server = tfhers.ServerKey.load(sample["server_key"])
    report.try_all(large, sample, dice)
    print(json.dumps(asdict(report)))


if __name__ == "__main__":
    main()
