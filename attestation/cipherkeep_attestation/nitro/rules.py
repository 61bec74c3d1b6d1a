"""The only place that lists the rules a document is judged by, in their order, and says what each demands.

`verify` reports to a `Trace` which of them have passed; a report prints this list with what became of each. The
refusal that belongs to a code stands in `errors.RULES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from cipherkeep_attestation.nitro.document import Kind

_RULES: dict[str, str] = {
    "document.size": "at most 16 KiB",
    "document.tag": "no tag, or COSE_Sign1's alone",
    "cose.shape": "an array of protected header, unprotected header, payload, signature",
    "cose.unprotected": "the unprotected header is empty",
    "document.algorithm": "the protected header is exactly ES384",
    "document.signature_length": "the signature has 96 bytes",
    "encoding.size": "CBOR: no larger than its limit",
    "encoding.depth": "CBOR: nested as deep as a document and no deeper",
    "encoding.items": "CBOR: no more items than a document can have",
    "encoding.truncated": "CBOR: whole",
    "encoding.trailing": "CBOR: exactly one item, nothing after it",
    "encoding.not_shortest": "CBOR: integers and lengths in their shortest form",
    "encoding.indefinite": "CBOR: no indefinite length but that of the payload's maps and arrays",
    "encoding.reserved": "CBOR: no reserved values",
    "encoding.tag": "CBOR: no tags inside",
    "encoding.simple": "CBOR: no floats, no other simple values",
    "encoding.utf8": "CBOR: text is UTF-8",
    "encoding.integer_range": "CBOR: integers in range",
    "encoding.key": "CBOR: keys are text or integers",
    "encoding.mixed_keys": "CBOR: the envelope's header has keys of one kind",
    "encoding.key_order": "CBOR: the envelope's header in order",
    "encoding.duplicate_key": "CBOR: no key twice",
    "document.fields": "exactly the nine fields of a document",
    "document.kind": "the document of an enclave, not of a host",
    "document.module_id": "module id: a printable text",
    "document.timestamp": "timestamp: positive milliseconds",
    "document.digest": "digest: SHA384",
    "document.pcrs": "PCRs: 0 to 15 all there, none above 31",
    "document.pcr_length": "PCRs: 48 bytes each",
    "document.certificate": "certificate: 1 to 1024 bytes",
    "document.cabundle": "bundle: 1 to 8 certificates of 1 to 1024 bytes",
    "document.optional_field": "public key, user data, nonce: null or at most 1024 bytes",
    "path.root": "the path begins with the trusted root, byte for byte",
    "certificate.size": "every certificate: no larger than its limit",
    "certificate.encoding": "every certificate: strict DER",
    "certificate.structure": "every certificate: the parts of X.509",
    "certificate.version": "every certificate: version 3",
    "certificate.serial": "every certificate: a positive serial number of at most 20 bytes",
    "certificate.time": "every certificate: times in the form of RFC 5280",
    "certificate.duplicate_extension": "every certificate: no extension twice",
    "certificate.critical_extension": "every certificate: no unknown critical extension",
    "certificate.extension": "every certificate: extensions in their form",
    "path.not_yet_valid": "every certificate: has begun at the stated time, within the policy's clock drift",
    "path.expired": "every certificate: has not ended at the stated time",
    "path.issuer": "every certificate: issued under the name of the one above",
    "path.key_identifier": "every certificate: names the key of the one above, where it names one",
    "certificate.algorithm": "every certificate: signed with ECDSA and SHA-384",
    "certificate.signature": "every certificate: its signature is two integers in DER",
    "path.signature": "every certificate: signed by the one above",
    "path.authority": "every authority: says that it is one",
    "path.length": "every authority: has no more authorities below than it allows",
    "path.key_usage": "authorities may sign certificates, the leaf may sign data and no certificates",
    "path.leaf_authority": "the leaf is no authority",
    "certificate.key": "every key is on P-384",
    "document.signature": "signed by the leaf's key",
    "document.too_old": "no older than the policy allows",
    "document.from_future": "not made after the second of the stated time, within the policy's clock drift",
    "document.debug": "not in debug mode: PCR0, 1 and 2 are not zero",
    "document.pcr_mismatch": "the PCRs of one release of the policy, all of them",
    "document.release_window": "that release is in its time",
    "document.nonce": "the nonce that was sent",
    "document.public_key": "bound to the public key of the channel",
    "document.user_data": "user data as the policy demands",
}

_KIND_RULES: dict[Kind, str] = {"enclave": "document.is_host_document", "host": "document.is_enclave_document"}


def rules(kind: Kind) -> Mapping[str, str]:
    """Code and demand of every rule for documents of this kind, in the order in which they are judged."""
    found = {}
    for code, demand in _RULES.items():
        if code == "document.kind":
            found[_KIND_RULES[kind]] = demand if kind == "enclave" else "the NitroTPM document of a host, no enclave's"
        elif code != "document.debug" or kind == "enclave":
            found[code] = demand
    return MappingProxyType(found)
