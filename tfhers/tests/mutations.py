"""Run by `test_hostile.py` in a process of its own: mutated inputs against every reader of the bindings."""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import tfhers

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


def main() -> None:
    folder = Path(sys.argv[1])
    sample = {path.name: path.read_bytes() for path in folder.iterdir()}
    client = tfhers.ClientKey.from_seed(b"insecure test seed of the tfhers", tag=b"insecure test key")
    public = tfhers.PublicKey.from_bytes(sample["public_key"])
    crs = tfhers.Crs.generate(4, b"c" * 32)
    # (input, reader, how many, seconds one call may take)
    plan: list[tuple[str, Callable[[bytes], object], int, float]] = [
        ("packed", tfhers.packed_types, 2500, 0.05),
        ("packed", lambda data: client.decrypt_packed(data, index=1), 2500, 0.05),
        ("many", lambda data: client.decrypt_packed(data, index=2), 2000, 0.05),
        ("public_key", tfhers.PublicKey.from_bytes, 800, 0.5),
        ("bool", lambda data: tfhers.Ciphertext.from_bytes("bool", data), 600, 0.5),
        ("uint8", lambda data: tfhers.Ciphertext.from_bytes("uint8", data), 600, 0.5),
        ("uint8", lambda data: client.decrypt_expanded(data, "uint8"), 400, 0.5),
        ("sealed", lambda data: tfhers.ClientKey.unseal(b"k" * 32, data, b""), 400, 0.5),
        ("proven_list", lambda data: tfhers.verify(data, public, crs, b"m"), 150, 5.0),
        ("plain_list", lambda data: tfhers.verify(data, public, crs, b"m"), 100, 5.0),
        ("crs", tfhers.Crs.from_bytes, 6, 30.0),
        ("server_key", tfhers.ServerKey.load, 4, 30.0),
    ]
    dice = random.Random(20260101)
    calls: dict[str, int] = {}
    refused = accepted = 0
    foreign: list[str] = []
    slow: list[str] = []
    for phase in (plan[:-2], plan[-2:]):
        begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if phase is not plan[-2:]:
            pass
        for name, read, count, bound in phase:
            for _ in range(count):
                data = mutate(sample[name], dice)
                before = time.perf_counter()
                try:
                    read(data)
                    accepted += 1
                except tfhers.TfheError:
                    refused += 1
                except BaseException as error:  # noqa: BLE001 - a panic is a BaseException, and must be seen here
                    foreign.append(f"{name}: {type(error).__name__}")
                if time.perf_counter() - before > bound:
                    slow.append(f"{name}: {time.perf_counter() - before:.2f} s")
            calls[name] = calls.get(name, 0) + count
        if phase[0] is plan[0]:
            growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun) / 1024
    print(
        json.dumps(
            {
                "calls": calls,
                "accepted": accepted,
                "refused": refused,
                "foreign": foreign,
                "slow": slow,
                "growth_mib": growth,
            }
        )
    )


if __name__ == "__main__":
    main()
