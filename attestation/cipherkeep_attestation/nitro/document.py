"""The only place that decodes attestation documents: envelope, encoding and schema, without judging who signed.

A document is a COSE_Sign1 (untagged on all hardware seen; AWS's text allows tag 18) whose payload is a map of exactly
nine fields. Hardware since 2025 writes the map with indefinite length, so others' CBOR is read here, strictly all the
same: one item, no duplicate keys, shortest integers, no tags, bounded before anything is made.

Enclaves and instances (NitroTPM) send the same map but for one name, `pcrs` or `nitrotpm_pcrs`: two kinds that
nobody may take for each other. Nothing decoded here may be believed before `verify` has judged it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Literal, TypeAlias

from cipherkeep_attestation import cbor, cose
from cipherkeep_attestation.errors import RULES, Malformed, Refused
from cipherkeep_attestation.trace import Trace

Kind: TypeAlias = Literal["enclave", "host"]
UnknownFields: TypeAlias = Literal["refuse", "ignore"]

LIMIT = 16 * 1024  # bytes; an NSM's answer has at most 12 KiB, a NitroTPM's buffer at most 16
PCR_BYTES = 48
PLATFORM_PCRS = 16  # PCR0 to 15 stand in every document, 16 to 31 only once the enclave has locked them
MOST_PCRS = 32
MOST_CERTIFICATES = 8  # in the bundle; four have been seen
CERTIFICATE_BYTES = 1024
OPTIONAL_BYTES = 1024
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Codes that have passed once a whole item is decoded.
ENCODING_RULES = tuple(code for code in RULES if code.startswith("encoding.") and code != "encoding.schema")

_TAG_18 = 0xD2
_PAYLOAD = cbor.Limits(size=LIMIT, depth=2, items=160)  # 9 fields, 32 PCRs, both counted twice, and the bundle
_ENVELOPE = cbor.Limits(size=LIMIT, depth=2, items=8)
_LATEST = 253_402_300_799_999  # ms; the end of the year 9999
_MEASUREMENTS: dict[Kind, str] = {"enclave": "pcrs", "host": "nitrotpm_pcrs"}
_COMMON = frozenset(("module_id", "digest", "timestamp", "certificate", "cabundle", "public_key", "user_data", "nonce"))


@dataclass(frozen=True, slots=True)
class Document:
    """A well-formed document. Whoever reads a field of it before `verify` reads a claim of nobody."""

    kind: Kind
    module_id: str
    timestamp: datetime  # UTC, to the millisecond
    pcrs: Mapping[int, bytes]
    certificate: bytes = field(repr=False)  # leaf, DER
    cabundle: tuple[bytes, ...] = field(repr=False)  # DER, root first
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None
    payload_digest: bytes  # SHA-384 of the signed payload
    signed: bytes = field(repr=False)  # what the signature covers
    signature: bytes = field(repr=False)  # r ‖ s, 96 bytes
    unknown_fields: tuple[str, ...] = ()  # names beyond the nine; only where they are not refused


def decode(
    data: bytes, *, expected: Kind | None, unknown_fields: UnknownFields = "refuse", trace: Trace | None = None
) -> Document:
    """Decode a document of the expected kind; of either kind when None is expected.

    Fields beyond the nine are refused; "ignore" names them in the result instead. `trace` learns what has passed.

    Raises `Malformed` with a code of `document.…`, `cose.…` or `encoding.…`, and `Refused("document.is_…")` for the
    other kind. Order: size, tag, envelope, algorithm, payload encoding, kind, fields one by one.
    """
    trace = trace or Trace()
    if len(data) > LIMIT:
        raise Malformed("document.size", f"{len(data)} bytes, at most {LIMIT}")
    first = data[0] if data else 0
    if first >> 5 == 6:
        if first != _TAG_18 or (data[1:2] and data[1] >> 5 == 6):
            raise Malformed("document.tag", f"byte {first:#04x}")
        data = data[1:]
    trace.passes("document.size", "document.tag")
    protected, payload, signature = cose.envelope(cbor.decode(data, limits=_ENVELOPE))
    trace.passes("cose.shape", "cose.unprotected")
    if protected != cose.PROTECTED_ES384:
        raise Malformed("document.algorithm", f"protected header {protected[:16].hex()}")
    if len(signature) != 96:
        raise Malformed("document.signature_length", f"{len(signature)} bytes")
    trace.passes("document.algorithm", "document.signature_length")
    value = cbor.decode_foreign(payload, limits=_PAYLOAD)
    trace.passes(*ENCODING_RULES)
    if type(value) is not dict:
        raise Malformed("document.fields", "the payload is not a map")
    fields: dict[str | int, cbor.Value] = value
    kind, unknown = _kind(fields, expected, unknown_fields)
    if unknown:
        trace.waives("document.fields", f"the nine are there, and {len(unknown)} unknown, which the policy lets pass")
    else:
        trace.passes("document.fields")
    trace.passes("document.is_host_document" if kind == "enclave" else "document.is_enclave_document")
    module_id = _module_id(fields["module_id"])
    trace.passes("document.module_id")
    timestamp = _timestamp(fields["timestamp"])
    trace.passes("document.timestamp")
    pcrs = _pcrs(fields[_MEASUREMENTS[kind]], fields["digest"], trace)
    certificate = _certificate(fields["certificate"])
    trace.passes("document.certificate")
    cabundle = _cabundle(fields["cabundle"])
    trace.passes("document.cabundle")
    public_key, user_data, nonce = (_optional(fields[name], name) for name in ("public_key", "user_data", "nonce"))
    trace.passes("document.optional_field")
    return Document(
        kind=kind,
        module_id=module_id,
        timestamp=timestamp,
        pcrs=pcrs,
        certificate=certificate,
        cabundle=cabundle,
        public_key=public_key,
        user_data=user_data,
        nonce=nonce,
        payload_digest=hashlib.sha384(payload).digest(),
        signed=cose.sig_structure(protected, payload),
        signature=signature,
        unknown_fields=unknown,
    )


def _kind(
    fields: Mapping[str | int, cbor.Value], expected: Kind | None, unknown_fields: UnknownFields
) -> tuple[Kind, tuple[str, ...]]:
    found: list[Kind] = [kind for kind, name in _MEASUREMENTS.items() if name in fields]
    if len(found) != 1:
        raise Malformed("document.fields", "one of pcrs and nitrotpm_pcrs must be there")
    kind = found[0]
    wanted = _COMMON | {_MEASUREMENTS[kind]}
    ignored = fields.keys() - wanted if unknown_fields == "ignore" else frozenset()
    if fields.keys() - ignored != wanted:
        wrong = sorted(str(name)[:40] for name in fields.keys() ^ wanted)
        raise Malformed("document.fields", f"missing or unknown: {', '.join(wrong)}"[:200])
    if expected is not None and kind != expected:
        raise Refused("document.is_host_document" if kind == "host" else "document.is_enclave_document")
    return kind, tuple(sorted(str(name)[:40] for name in ignored))


def _module_id(value: object) -> str:
    if type(value) is not str or not 1 <= len(value) <= 128 or not value.isprintable():
        raise Malformed("document.module_id")
    return value


def _timestamp(value: object) -> datetime:
    if type(value) is not int or not 0 < value <= _LATEST:
        raise Malformed("document.timestamp")
    return EPOCH + timedelta(milliseconds=value)


def _pcrs(value: object, digest: object, trace: Trace) -> Mapping[int, bytes]:
    if digest != "SHA384":
        raise Malformed("document.digest", repr(digest)[:40])
    trace.passes("document.digest")
    if type(value) is not dict:
        raise Malformed("document.pcrs", "not a map")
    indices = value.keys()
    if not all(type(index) is int and 0 <= index < MOST_PCRS for index in indices):
        raise Malformed("document.pcrs", "an index outside 0 to 31")
    if not indices >= set(range(PLATFORM_PCRS)):
        raise Malformed("document.pcrs", "one of PCR0 to PCR15 is missing")
    trace.passes("document.pcrs")
    for index, pcr in value.items():
        if type(pcr) is not bytes or len(pcr) != PCR_BYTES:
            raise Malformed("document.pcr_length", f"PCR{index}")
    trace.passes("document.pcr_length")
    return MappingProxyType(dict(sorted(value.items())))


def _certificate(value: object) -> bytes:
    if type(value) is not bytes or not 1 <= len(value) <= CERTIFICATE_BYTES:
        raise Malformed("document.certificate")
    return value


def _cabundle(value: object) -> tuple[bytes, ...]:
    if type(value) is not list or not 1 <= len(value) <= MOST_CERTIFICATES:
        raise Malformed("document.cabundle", "not a list of 1 to 8")
    if not all(type(entry) is bytes and 1 <= len(entry) <= CERTIFICATE_BYTES for entry in value):
        raise Malformed("document.cabundle", "an entry that is not 1 to 1024 bytes")
    return tuple(value)


def _optional(value: object, name: str) -> bytes | None:
    if value is None:
        return None
    if type(value) is not bytes or len(value) > OPTIONAL_BYTES:
        raise Malformed("document.optional_field", name)
    return value
