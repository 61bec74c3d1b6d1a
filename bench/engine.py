"""The only place that measures the FHE engine alone: keys, lists, proofs and direct decryption through `tfhers`.

Run as a script it prints a table; `run()` gives the rows. Nothing is cached: key set and reference string are made
while they are measured. About one minute and 1 GB of memory.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import tfhers

Row = dict[str, str | float | int]
T = TypeVar("T")

SEED = b"insecure seed for measurements.."
METADATA = b"m" * 92
SCALES = {"us": 1e6, "ms": 1e3, "s": 1.0}


class Table:
    """Rows of measurements, in the order in which they were made."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def measure(self, name: str, unit: str, count: int, work: Callable[[], T]) -> T:
        """Call `work` that often, note median and 95th percentile in `unit`, return what it gave last."""
        taken = []
        for _ in range(count):
            begun = time.perf_counter()
            result = work()
            taken.append((time.perf_counter() - begun) * SCALES[unit])
        taken.sort()
        p95 = taken[min(count - 1, int(count * 0.95))]
        self.rows.append(
            {"name": name, "unit": unit, "median": statistics.median(taken), "p95": p95, "n": count},
        )
        return result


def measure_keys(table: Table) -> tuple[tfhers.ClientKey, tfhers.PublicKey, tfhers.ServerKey]:
    client = table.measure("client key from seed", "us", 200, lambda: tfhers.ClientKey.from_seed(SEED))
    sealed = client.seal(SEED, b"")
    table.measure("client key unsealed", "us", 200, lambda: tfhers.ClientKey.unseal(SEED, sealed, b""))
    public = table.measure("public key from seed", "us", 50, client.compact_public_key)
    server = table.measure("server key generated and serialised", "s", 2, client.compressed_server_key)
    loaded = table.measure("server key loaded", "s", 2, lambda: tfhers.ServerKey.load(server))
    return client, tfhers.PublicKey.from_bytes(public), loaded


def measure_decryption(table: Table, client: tfhers.ClientKey, server: tfhers.ServerKey) -> None:
    for name, info in tfhers.TYPES.items():
        packed = client.insecure_symmetric_packed([(name, (1 << info.bits) - 1)], server)

        def work(packed: bytes = packed, name: str = name) -> tuple[str, int]:
            return client.decrypt_packed(packed, expected=name)

        table.measure(f"packed {name} decrypted", "us", 2000, work)
    eight = client.insecure_symmetric_packed([("uint64", 7)] * 8, server)
    table.measure("packed uint64, last of eight", "us", 2000, lambda: client.decrypt_packed(eight, index=7))


def measure_lists(table: Table, client: tfhers.ClientKey, public: tfhers.PublicKey, server: tfhers.ServerKey) -> None:
    values = [("uint64", 7)]
    plain = table.measure("uint64 encrypted", "ms", 20, lambda: public.encrypt(values))
    (one,) = table.measure("uint64 expanded", "s", 3, lambda: tfhers.expand(plain, server))
    data = one.to_bytes()
    table.measure("expanded uint64 decrypted", "us", 200, lambda: client.decrypt_expanded(data, "uint64"))
    table.measure("uint64 added", "s", 3, lambda: tfhers.add(one, one, server))
    table.measure("uint64 compressed", "ms", 10, lambda: tfhers.compress([one], server))
    crs = table.measure("reference string, 2048 bits", "s", 1, lambda: tfhers.Crs.generate(2048, SEED))
    for load in ("verify", "proof"):

        def prove(load: str = load) -> bytes:
            return public.encrypt_with_proof(values, crs, METADATA, load=load)

        proven = table.measure(f"uint64 proven, load {load}", "s", 2, prove)

        def check(proven: bytes = proven) -> None:
            tfhers.verify(proven, public, crs, METADATA)

        def both(proven: bytes = proven) -> list[tfhers.Ciphertext]:
            return tfhers.verify_and_expand(proven, public, crs, METADATA, server)

        table.measure(f"uint64 verified, load {load}", "ms", 5, check)
        table.measure(f"uint64 verified and expanded, load {load}", "s", 2, both)


def run() -> list[dict[str, str | float | int]]:
    """Measure all of it: rows of name, unit ("us", "ms", "s"), median, p95 and n."""
    table = Table()
    client, public, server = measure_keys(table)
    measure_decryption(table, client, server)
    measure_lists(table, client, public, server)
    return table.rows


def main() -> int:
    print(f"{'':44} {'median':>10} {'p95':>10} {'':2} {'n':>5}")
    for row in run():
        median, p95 = float(row["median"]), float(row["p95"])
        print(f"{row['name']:44} {median:10.2f} {p95:10.2f} {row['unit']:2} {row['n']:5}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
