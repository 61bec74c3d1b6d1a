"""The only place where the coprocessor touches TFHE: a process of its own, without keys, that may be killed.

`python -m cipherkeep_host.coprocessor.worker --public-key FILE --server-key FILE --crs FILE` reads jobs from stdin and
writes results to stdout, one frame each, one at a time. What it reads may be hostile: it may run long, ask for much
memory or abort. It has limits, and its parent kills it.

    {op: "expand", list, metadata, values}    → {values: [{type, expanded, packed}, …]}
    {op: "compute", name, operands: [{type, expanded}, …]} → {values: [one]}
    {error: code, detail} for what is wrong with the input
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import sys
from pathlib import Path
from typing import Any

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Malformed

import tfhers
from cipherkeep_host.coprocessor import frames
from cipherkeep_host.process import die_with_parent

_MEMORY = 8 << 30  # bytes of address space; a loaded server key takes 0.6 GB, rayon's stacks some more
_FILES = 64  # open files
_BINARY = {"add": tfhers.add, "sub": tfhers.sub, "eq": tfhers.eq, "ne": tfhers.ne}
_BINARY |= {"lt": tfhers.lt, "le": tfhers.le, "gt": tfhers.gt, "ge": tfhers.ge}


class WrongJobError(Exception):
    """What is wrong with a job's input: a code of the host's rules, and a detail."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(code)


class Worker:
    """The loaded public material."""

    def __init__(self, public_key: Path, server_key: Path, crs: Path) -> None:
        string = crs.read_bytes()
        # The coprocessor made this string: checking each of its points again would take six seconds of two cores.
        self._crs = tfhers.Crs.from_bytes(string, sha256=hashlib.sha256(string).digest())
        self._server_key = tfhers.ServerKey.load(server_key.read_bytes())
        self._public_key = tfhers.PublicKey.from_bytes(public_key.read_bytes())

    def run(self, job: dict[str, Any]) -> dict[str, object]:
        """One job's result."""
        try:
            match job.get("op"):
                case "expand":
                    return {"values": self._expand(job)}
                case "compute":
                    return {"values": [self._compute(job)]}
        except WrongJobError as wrong:
            return {"error": wrong.code, "detail": wrong.detail}
        except tfhers.ProofError as wrong:
            return {"error": "coprocessor.proof", "detail": str(wrong)[:300]}
        except tfhers.FormatError as wrong:
            return {"error": "coprocessor.list", "detail": str(wrong)[:300]}
        except (tfhers.TfheError, Malformed) as wrong:
            return {"error": "coprocessor.operation", "detail": str(wrong)[:300]}
        return {"error": "coprocessor.operation", "detail": "unknown job"}

    def _expand(self, job: dict[str, Any]) -> list[dict[str, object]]:
        found = cbor.fields(
            job,
            op=cbor.exactly("expand"),
            list=cbor.raw(1, frames.MAX_FRAME),
            metadata=cbor.raw(92),
            values=cbor.uint(255, least=1),
        )
        values = tfhers.verify_and_expand(
            found["list"], self._public_key, self._crs, found["metadata"], self._server_key
        )
        if not 1 <= len(values) <= found["values"]:
            raise WrongJobError("coprocessor.too_large", f"{len(values)} values, 1 to {found['values']}")
        return [self._value(value) for value in values]

    def _compute(self, job: dict[str, Any]) -> dict[str, object]:
        found = cbor.fields(
            job, op=cbor.exactly("compute"), name=cbor.text(16), operands=cbor.sequence(cbor.anything, 3, least=2)
        )
        name = found["name"]
        match [_operand(item) for item in found["operands"]]:
            case [left, right] if name in _BINARY:
                return self._value(_BINARY[name](left, right, self._server_key))
            case [condition, left, right] if name == "select":
                return self._value(tfhers.select(condition, left, right, self._server_key))
        raise WrongJobError("coprocessor.operation", f"{name} of {len(found['operands'])}")

    def _value(self, value: tfhers.Ciphertext) -> dict[str, object]:
        packed = tfhers.compress([value], self._server_key)
        return {"type": value.type, "expanded": value.to_bytes(), "packed": packed}


def _operand(item: object) -> tfhers.Ciphertext:
    found = cbor.fields(item, type=cbor.one_of(*tfhers.TYPES), expanded=cbor.raw(1, frames.MAX_FRAME))
    return tfhers.Ciphertext.from_bytes(found["type"], found["expanded"])


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, _FILES))


def main() -> int:
    """Load, say so with an empty result, then work until stdin ends."""
    die_with_parent()
    parser = argparse.ArgumentParser(prog="cipherkeep_host.coprocessor.worker")
    for name in ("--public-key", "--server-key", "--crs"):
        parser.add_argument(name, type=Path, required=True)
    given = parser.parse_args()
    _limit()
    # A library that prints would write into the frames: they get a descriptor of their own, stdout goes to the log.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    worker = Worker(given.public_key, given.server_key, given.crs)
    out.write(frames.pack({"values": []}))
    out.flush()
    while (job := frames.read(sys.stdin.buffer)) is not None:
        out.write(frames.pack(worker.run(job)))
        out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
