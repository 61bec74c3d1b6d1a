"""The only place for how bindings travel over HTTP: JSON with hexadecimal texts.

{"handle", "type": number, "format": number, "digest", "owner", "signatures": [text, …]}
"""

from __future__ import annotations

import binascii
from typing import Any

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements.binding import Ciphertext

from cipherkeep_host.errors import HostError


def to_json(ciphertext: Ciphertext) -> dict[str, object]:
    """A binding as JSON."""
    return {
        "handle": ciphertext.handle.hex(),
        "type": ciphertext.fhe_type,
        "format": ciphertext.format,
        "digest": ciphertext.digest.hex(),
        "owner": ciphertext.owner.hex(),
        "signatures": [signature.hex() for signature in ciphertext.signatures],
    }


def of_json(value: Any) -> Ciphertext:
    """Read what `to_json` makes. `HostError("coprocessor.answer")`."""
    try:
        found = cbor.fields(
            value,
            handle=cbor.text(64),
            type=cbor.uint(255),
            format=cbor.uint(255),
            digest=cbor.text(64),
            owner=cbor.text(40),
            signatures=cbor.sequence(cbor.text(130), 64),
        )
        raw = {name: binascii.unhexlify(found[name]) for name in ("handle", "digest", "owner")}
        signatures = tuple(map(binascii.unhexlify, found["signatures"]))
        return Ciphertext.of_map(
            {
                "digest": raw["digest"],
                "format": found["format"],
                "handle": raw["handle"],
                "owner": raw["owner"],
                "signatures": list(signatures),
                "type": found["type"],
            }
        )
    except (EvidenceError, ValueError) as error:
        raise HostError("coprocessor.answer", str(error)[:300]) from None
