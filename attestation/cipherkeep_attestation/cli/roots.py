"""The only place where the command turns what a caller names into a root of trust; there is no default."""

from __future__ import annotations

from cipherkeep_attestation.cli.inputs import UsageError, pem, read_file
from cipherkeep_attestation.errors import Malformed
from cipherkeep_attestation.nitro.certificate import read_certificate
from cipherkeep_attestation.nitro.path import TrustRoot
from cipherkeep_attestation.nitro.verify import aws_root

_LIMIT = 16 * 1024  # bytes of a PEM file


def trust_root(name: str) -> TrustRoot:
    """The root called `aws`, or the one certificate in a file, PEM or DER. UsageError for anything else."""
    if name == "aws":
        return aws_root()
    return TrustRoot(certificate(read_file(name, _LIMIT), name), f"the root in {name}")


def certificate(data: bytes, name: str) -> bytes:
    """The DER of exactly one certificate, in PEM or DER. UsageError, naming where it stands, for anything else."""
    if data[:1] != b"\x30":
        try:
            data = pem(data, "CERTIFICATE")
        except ValueError:
            raise UsageError(f"{name} is not exactly one certificate, in PEM or DER") from None
    try:
        read_certificate(data)
    except Malformed as malformed:
        raise UsageError(f"{name} is not a certificate: {malformed}") from None
    return data
