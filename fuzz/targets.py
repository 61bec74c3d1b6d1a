"""The only place that says what is fuzzed: a target per parser, what it may refuse with, and what must hold otherwise.

A target gets bytes. It ends quietly, or with one of its `refusals`; anything else is a finding, and so is a value that
does not encode to the bytes that it was read from, where a format has one encoding. Where bytes are signed, the target
signs them itself, so that mutations reach what lies behind the signature.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache, partial
from typing import Any

from cipherkeep_attestation import cbor, cose, strict_json
from cipherkeep_attestation.chain import iavl, ics23, protobuf, rpc_json
from cipherkeep_attestation.chain.header import LightBlock
from cipherkeep_attestation.chain.protobuf import Kind
from cipherkeep_attestation.chain.state import StateProof, verify_absent, verify_present
from cipherkeep_attestation.cli import chain as chain_command
from cipherkeep_attestation.cli import document_batch
from cipherkeep_attestation.cli import eif as image_command
from cipherkeep_attestation.cli import proof as proof_command
from cipherkeep_attestation.cli.inputs import UsageError
from cipherkeep_attestation.cli.roots import trust_root
from cipherkeep_attestation.eif import signature
from cipherkeep_attestation.eif.image import METADATA_LIMIT, Image, read_image
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.handshake import Initiator, Responder
from cipherkeep_attestation.nitro.certificate import read_certificate
from cipherkeep_attestation.nitro.document import decode as decode_document
from cipherkeep_attestation.nitro.verify import NO_NONCE, InsecureAnyMeasurement, Policy, aws_root, verify
from cipherkeep_attestation.policy import LIMIT as POLICY_LIMIT
from cipherkeep_attestation.policy import read_policy, sign, verify_signature
from cipherkeep_attestation.receipts import trust
from cipherkeep_attestation.receipts.receipt import Receipt
from cipherkeep_attestation.statements import answer, governance, layout, registration, request
from cipherkeep_attestation.statements.configuration import Configuration, Genesis
from cipherkeep_attestation.statements.manifest import Manifest
from cipherkeep_attestation.statements.transaction import Transaction
from cipherkeep_enclave.vault.aws_recipient import open_envelope
from cipherkeep_enclave.vault.aws_signature import Credentials
from cipherkeep_enclave.vault.records import KeyRecord, Root
from cipherkeep_wire.channel import exchange
from cipherkeep_wire.errors import ServiceError
from cipherkeep_wire.transport import TransportError, read_frame

import tfhers
from fuzz import seeds
from tests.simulators.governance import public

LINE = (EvidenceError, UsageError)


class FindingError(Exception):
    """A property does not hold for these bytes."""


KIB = 1 << 10


@dataclass(frozen=True, slots=True)
class Target:
    """A parser under fuzzing. `longest`: bytes of an input, as many as the parser takes where it takes more."""

    run: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    refusals: tuple[type[Exception], ...] = (EvidenceError,)
    longest: int = 16 * KIB  # the largest honest message of most kinds has under 6 KiB


def one_encoding(read: Callable[[bytes], Any], write: Callable[[Any], bytes]) -> Callable[[bytes], None]:
    """Whatever is read is written back as it was."""

    def run(data: bytes) -> None:
        if write(read(data)) != data:
            raise FindingError("read and written is not what was read")

    return run


def own(*kinds: Any) -> Callable[[bytes], None]:
    """One of several kinds with `decode` and `encode`: no bytes are read by two of them."""

    def run(data: bytes) -> None:
        readers = []
        for kind in kinds:
            try:
                value = kind.decode(data)
            except EvidenceError:
                continue
            readers.append(kind.__name__)
            if value.encode() != data:
                raise FindingError(f"{kind.__name__}: read and written is not what was read")
        if len(readers) > 1:
            raise FindingError(f"read as {readers}")

    return run


# --- encodings ---


def foreign(data: bytes) -> None:
    """The lax reader takes all that the strict one takes, and sees the same in it."""
    lax = cbor.decode_foreign(data)
    try:
        strict = cbor.decode(data)
    except EvidenceError:
        return
    if strict != lax:
        raise FindingError("two readers, two values")


def envelope(data: bytes) -> None:
    payload = cose.unverified_payload(data)
    value: Any = cbor.decode(data)
    if cbor.encode([cose.PROTECTED_EDDSA, {}, payload, value[3]]) != data:
        raise FindingError("an envelope with two encodings")
    cose.open1(data, public_key=public(seeds.SENDER))


KINDS = {1: Kind.VARINT, 2: Kind.BYTES, 3: Kind.MESSAGE, 4: Kind.OPTIONAL, 5: Kind.REPEATED}


def wire_format(data: bytes) -> None:
    found = protobuf.decode(data, KINDS)
    made = protobuf.put_integer(1, protobuf.integer(found, 1)) + protobuf.put_bytes(2, protobuf.octets(found, 2))
    made += protobuf.put_message(3, protobuf.octets(found, 3))
    if (optional := protobuf.optional(found, 4)) is not None:
        made += protobuf.put_message(4, optional)
    made += b"".join(protobuf.put_message(5, item) for item in protobuf.repeated(found, 5))
    if made != data:
        raise FindingError("read and written is not what was read")


# --- documents and the handshake ---

ANY = Policy(
    measurements=InsecureAnyMeasurement(),
    nonce=NO_NONCE,
    public_key=None,
    max_age=timedelta(minutes=1),
    insecure_allow_debug=True,
)


def document(data: bytes) -> None:
    found = decode_document(data, expected=None)
    verify(data, root=aws_root(), policy=ANY, at=found.timestamp)


def document_payload(data: bytes) -> None:
    decode_document(cbor.encode([cose.PROTECTED_ES384, {}, data, bytes(96)]), expected=None)


@cache
def documents_of_handshake() -> tuple[bytes, bytes]:
    """The two documents of the honest handshake, so that its machines need not sign anew for every input."""
    _, second, third, _ = seeds.handshake()
    offer: Any = cbor.decode(second)
    reply: Any = cbor.decode(third)
    return offer["document"], reply["document"]


def offer(data: bytes) -> None:
    """Message 2 to an initiator; if it is taken, message 4 too."""
    _, reply = documents_of_handshake()
    machine = Initiator(
        certificate=seeds.host().certificate,
        attest=lambda **_: reply,
        judge=seeds.judge("enclave"),
        terms=seeds.TERMS,
    )
    machine.start(seeds.NONCE)
    machine.receive(data, at=seeds.NOW)


def reply(data: bytes) -> None:
    """Messages 1 and 3 to a responder."""
    offered, _ = documents_of_handshake()

    def machine() -> Responder:
        return Responder(
            certificate=seeds.enclave().certificate,
            attest=lambda **_: offered,
            judge=seeds.judge("host"),
            terms=seeds.TERMS,
            session_id=seeds.SESSION,
            nonce=seeds.OTHER_NONCE,
        )

    due = machine()
    due.receive(seeds.handshake()[0], at=seeds.NOW)
    try:
        due.receive(data, at=seeds.NOW)
    except EvidenceError:
        machine().receive(data, at=seeds.NOW)


CHECKSUM = slice(544, 548)  # of an image: over what is before and after it


def image(data: bytes) -> None:
    """As it came, and then with the checksum that it should have."""
    if not holds(lambda: read_image(io.BytesIO(data), size=len(data))):
        crc = zlib.crc32(data[: CHECKSUM.start] + data[CHECKSUM.stop :]).to_bytes(4)
        fixed = data[: CHECKSUM.start] + crc + data[CHECKSUM.stop :]
        read_image(io.BytesIO(fixed), size=len(fixed))


def image_signature(data: bytes) -> None:
    signature.judge_signature(data, pcr0=bytes(48))


# --- chain ---


def state_proof(data: bytes) -> None:
    proof = StateProof.decode(data)
    if proof.encode() != data:
        raise FindingError("read and written is not what was read")
    app_hash = seeds.chain().app_hash()
    for key, value in ((2, b"second"), (5, b"forged")):
        place: dict[str, Any] = {"instance": "one", "collection": "inbox", "key": key, "proof": proof}
        present = holds(partial(verify_present, app_hash, value=value, **place))
        absent = holds(partial(verify_absent, app_hash, **place))
        if (present and key != 2) or (absent and key != 5):
            raise FindingError(f"key {key}: present {present}, absent {absent}")


def holds(judge: Callable[[], object]) -> bool:
    try:
        judge()
    except LINE:
        return False
    return True


def iavl_proof(data: bytes) -> None:
    holds(lambda: iavl.verify_absence(bytes(32), key=b"key", proof=data))
    iavl.verify_existence(bytes(32), key=b"key", value=b"value", proof=data)


# --- statements ---


def signed_statement(data: bytes) -> None:
    """A statement that enough governors signed, whatever it says."""
    signed = cose.sig_structure(cose.PROTECTED_EDDSA, data)
    rows = sorted([public(key), key.sign(signed)] for key in seeds.GOVERNANCE.keys[:2])
    judged = cbor.encode({"signatures": rows, "statement": data})
    found = governance.verify(
        judged, governors=seeds.GOVERNANCE.governors, instance="one", genesis=seeds.GOVERNANCE.genesis.digest()
    )
    if found.payload() != data:
        raise FindingError("read and written is not what was read")


def statement(data: bytes) -> None:
    found = governance.verify(
        data, governors=seeds.GOVERNANCE.governors, instance="one", genesis=seeds.GOVERNANCE.genesis.digest(), serial=1
    )
    if found.payload() not in seeds.governance_payloads():
        raise FindingError("nobody signed this")


def transaction(data: bytes) -> None:
    found = Transaction.open(cose.sign1(data, key=seeds.SENDER))
    if found.payload() != data:
        raise FindingError("read and written is not what was read")


def signed_answer(data: bytes) -> None:
    found = answer.Answer.open(cose.sign1(data, key=seeds.SENDER), evidence_key=public(seeds.SENDER))
    if found.sign(seeds.SENDER) != cose.sign1(data, key=seeds.SENDER):
        raise FindingError("read and written is not what was read")


def signed_registration(data: bytes) -> None:
    evidence = seeds.party().evidence
    found = registration.read(cose.sign1(data, key=evidence))
    if found.sign(evidence) != cose.sign1(data, key=evidence):
        raise FindingError("read and written is not what was read")


# --- what auditors read ---


def parsed(data: bytes) -> Any:
    """A value of JSON, None where there is none: what is made of it may not fail as its parser does."""
    try:
        return strict_json.loads(data)
    except ValueError:
        return None


def batch_line(judge: Callable[[dict[str, Any]], object]) -> Callable[[bytes], None]:
    """A line of a batch, as `judge_line` of a command gets it."""

    def run(data: bytes) -> None:
        line = parsed(data)
        if isinstance(line, dict):
            judge(line)

    return run


def document_line(line: dict[str, Any]) -> None:
    """The policy of a line alone too: it is read whatever else the line lacks."""
    if isinstance(policy := line.get("policy"), dict):
        holds(lambda: document_batch._policy(policy))
    document_batch.judge_line(line, roots={"aws": aws_root()})


def block_json(data: bytes) -> None:
    block = rpc_json.light_block(parsed(data))
    if LightBlock.decode(block.encode()) != block:
        raise FindingError("a block that its own encoding does not hold")


def files(stack: ExitStack, contents: list[bytes]) -> list[str]:
    """Paths of files in memory, for what reads files."""
    paths = []
    for content in contents:
        file = stack.enter_context(os.fdopen(os.memfd_create("input"), "wb", buffering=0))
        file.write(content)
        paths.append(f"/proc/self/fd/{file.fileno()}")
    return paths


def block_files(data: bytes) -> None:
    """Up to eight files of a walk, with a zero between them, which no JSON holds."""
    with ExitStack() as stack:
        blocks = chain_command.read_blocks(files(stack, data.split(b"\0")[:8]))
    for block in blocks:
        if LightBlock.decode(block.encode()) != block:
            raise FindingError("a block that its own encoding does not hold")


def root(data: bytes) -> None:
    """A root in PEM is the same root in DER."""
    with ExitStack() as stack:
        der = trust_root(*files(stack, [data])).certificate_der
        if trust_root(*files(stack, [der])).certificate_der != der:
            raise FindingError("another root than the one read")


def policy_signature(data: bytes) -> None:
    """No other bytes than the signer's pass: Ed25519 signs a message in one way, and COSE has one form here."""
    verify_signature(POLICY, data, public_key=public(seeds.SENDER))
    if data != sign(POLICY, key=seeds.SENDER):
        raise FindingError("nobody signed this")


@cache
def bare_image() -> Image:
    (data, *_) = seeds.images()
    return read_image(io.BytesIO(data), size=len(data))


def image_metadata(data: bytes) -> None:
    """Whatever is read can be printed as JSON."""
    json.dumps(image_command.metadata(replace(bare_image(), metadata=data)), allow_nan=False)


# --- the wire, and what the enclave reads ---


@cache
def loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def frame(data: bytes) -> None:
    """A frame of at most 64 KiB from a stream that ends."""

    async def read() -> bytes:
        stream = asyncio.StreamReader()
        stream.feed_data(data)
        stream.feed_eof()
        return await read_frame(stream, maximum=1 << 16, timeout=1)

    got = loop().run_until_complete(read())
    if len(got).to_bytes(4) + got != data[: 4 + len(got)]:
        raise FindingError("not the frame that was sent")


def envelope_for_recipient(data: bytes) -> None:
    """No property: CBC has no integrity, and the key under it is public. What comes out keys an AEAD."""
    open_envelope(data, seeds.recipient())


POLICY = b"""format = 1
kind = "enclave"
max_age_seconds = 300
nonce = "demanded"

[[release]]
version = "1.4.0"
pcr0 = "%s"
pcr1 = "%s"
pcr2 = "%s"
not_after = 2027-01-01T00:00:00Z
""" % (b"aa" * 48, b"bb" * 48, b"cc" * 48)
MORE = b"".join(POLICY[POLICY.index(b"[[") :].replace(b"1.4.0", b"2.%d" % number) for number in range(40))

TARGETS: dict[str, Target] = {
    "cbor": Target(one_encoding(cbor.decode, cbor.encode), lambda: seeds.requests() + seeds.records()),
    "cbor_foreign": Target(foreign, lambda: seeds.document_payloads() + seeds.requests()),
    "cose": Target(envelope, lambda: seeds.transactions() + seeds.answers()),
    "document": Target(document, seeds.documents),
    "document_payload": Target(document_payload, seeds.document_payloads),
    "certificate": Target(read_certificate, seeds.certificates),
    "handshake_offer": Target(offer, lambda: [seeds.handshake()[1], seeds.handshake()[3]]),
    "handshake_reply": Target(reply, lambda: [seeds.handshake()[0], seeds.handshake()[2]]),
    "protobuf": Target(wire_format, lambda: [bytes.fromhex("0805120261621a03080162" + "2200" + "2a00")]),
    "light_block": Target(one_encoding(LightBlock.decode, LightBlock.encode), seeds.light_blocks),
    "block_json": Target(block_json, seeds.block_json),
    "block_files": Target(block_files, seeds.block_files, LINE, longest=64 * KIB),
    "ics23": Target(one_encoding(ics23.decode, ics23.encode), seeds.all_proofs, longest=ics23.MAX_PROOF),
    "iavl": Target(iavl_proof, seeds.all_proofs, longest=ics23.MAX_PROOF),
    "state_proof": Target(state_proof, seeds.state_proofs, longest=2 * ics23.MAX_PROOF + 64),
    "request": Target(one_encoding(request.decode, lambda value: value.encode()), seeds.requests),
    "answer": Target(signed_answer, seeds.answer_payloads),
    "governance": Target(statement, seeds.governance),
    "governance_signed": Target(signed_statement, seeds.governance_payloads),
    "transaction": Target(transaction, seeds.transaction_payloads),
    "registration": Target(signed_registration, seeds.registration_payloads),
    "manifest": Target(own(Manifest), seeds.manifests),
    "configuration": Target(own(Configuration, Genesis), seeds.configurations),
    "records": Target(
        own(layout.RequestRecord, layout.Inbox, layout.Control, layout.PartyRecord, layout.Equivocation), seeds.records
    ),
    "image": Target(image, seeds.images),
    "image_signature": Target(image_signature, seeds.image_signatures),
    "image_certificate": Target(signature._certificate, seeds.image_certificates, longest=signature.LIMIT),
    "image_metadata": Target(image_metadata, seeds.image_metadata, longest=METADATA_LIMIT),
    "policy": Target(read_policy, lambda: [POLICY, POLICY + MORE], longest=POLICY_LIMIT),
    "policy_signature": Target(policy_signature, lambda: [sign(POLICY, key=seeds.SENDER)]),
    "root": Target(root, seeds.roots, LINE),
    "receipt": Target(one_encoding(Receipt.decode, Receipt.encode), seeds.receipts),
    "trust": Target(trust.read_toml, seeds.trust_files, longest=trust.LIMIT),
    "trust_json": Target(lambda data: trust.read_trust(parsed(data)), seeds.trust_json, longest=trust.LIMIT),
    "document_line": Target(batch_line(document_line), seeds.document_lines, LINE, longest=256 * KIB),
    "chain_line": Target(batch_line(chain_command.judge_line), seeds.chain_lines, LINE),
    "proof_line": Target(
        batch_line(proof_command.judge_line), seeds.proof_lines, LINE, longest=proof_command.LINE_LIMIT // 2
    ),
    "kms_envelope": Target(envelope_for_recipient, seeds.envelopes, (ServiceError,)),
    "credentials": Target(own(Credentials), seeds.credentials),
    "sealed_records": Target(own(Root, KeyRecord), seeds.sealed_records),
    "packed_list": Target(tfhers.packed_types, lambda: [seeds.PACKED.read_bytes()], (tfhers.FormatError,)),
    "frame": Target(frame, lambda: [b"\x00\x00\x00\x03abc", b"\x00\x01\x00\x01"], (TransportError,)),
    "refusal_frame": Target(exchange._raise_refusal, seeds.refusal_frames, (ServiceError,)),
}
