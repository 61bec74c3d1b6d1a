"""The only place where the command turns what a caller names into a root of trust; there is no default."""

from __future__ import annotations

import base64
import binascii
import re

from cipherkeep_attestation.cli.inputs import UsageError, read_file
from cipherkeep_attestation.errors import Malformed
from cipherkeep_attestation.nitro.certificate import read_certificate
from cipherkeep_attestation.nitro.path import TrustRoot
from cipherkeep_attestation.nitro.verify import aws_root

_LIMIT = 16 * 1024  # bytes of a PEM file
_PEM = re.compile(
    rb"\s*-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END CERTIFICATE-----\s*",
)


def trust_root(name: str) -> TrustRoot:
    """The root called `aws`, or the one certificate in a file, PEM or DER. UsageError for anything else."""
    if name == "aws":
        return aws_root()
    data = read_file(name, _LIMIT)
    if data[:1] != b"\x30":
        match = _PEM.fullmatch(data)
        try:
            data = base64.b64decode(match[1].replace(b"\r", b"").replace(b"\n", b""), validate=True) if match else b""
        except binascii.Error:
            data = b""
        if not data:
            raise UsageError(f"{name} is not exactly one certificate, in PEM or DER")
    try:
        read_certificate(data)
    except Malformed as malformed:
        raise UsageError(f"{name} is not a certificate: {malformed}") from None
    return TrustRoot(data, f"the root in {name}")
