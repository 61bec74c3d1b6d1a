"""The only place that makes what fuzzing starts from: one honest message of every kind, from the simulators.

Nothing here is secret or random beyond signatures: the keys are the simulators', named and worthless.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import tomllib
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cipherkeep_attestation import cbor
from cipherkeep_attestation.chain.header import LightBlock
from cipherkeep_attestation.chain.state import StateProof
from cipherkeep_attestation.handshake import Initiator, Responder, Terms, judge_with
from cipherkeep_attestation.nitro.document import decode as decode_document
from cipherkeep_attestation.receipts import trust
from cipherkeep_attestation.receipts.judging import Evidence, Shown
from cipherkeep_attestation.receipts.receipt import Receipt, Registered
from cipherkeep_attestation.statements import layout
from cipherkeep_attestation.statements.answer import Context, Core
from cipherkeep_attestation.statements.manifest import KEY, ROOT, Manifest, SealedObject
from cipherkeep_attestation.statements.material import Material
from cipherkeep_attestation.statements.request import Keygen, Origin, PublicDecrypt
from cipherkeep_attestation.statements.transaction import Message, Transaction
from cipherkeep_enclave.vault.aws_signature import Credentials
from cipherkeep_enclave.vault.records import KeyRecord, Root
from cipherkeep_host.emulated import aws_cms
from cipherkeep_wire.channel import exchange
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.simulators import eif, rpc_json
from tests.simulators.attestation import IMAGE, SimulatedEnclave, SimulatedHost, SimulatedPlatform, key
from tests.simulators.chain import SimulatedChain, Tree
from tests.simulators.coprocessor import TERMS as KEY_TERMS
from tests.simulators.coprocessor import SimulatedCoprocessors, SimulatedUser
from tests.simulators.eif import ImageDraft
from tests.simulators.governance import SimulatedGovernance, ed25519, public
from tests.simulators.party import SimulatedParty, configuration

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NONCE, OTHER_NONCE, SESSION = b"n" * 32, b"o" * 32, b"s" * 16
CONFIGURATION = hashlib.sha384(b"configuration").digest()
TERMS = Terms("chain", CONFIGURATION, "alpha")
VECTORS = Path(__file__).resolve().parent.parent / "tests" / "vectors"
PACKED = Path(__file__).resolve().parent.parent / "tfhers" / "tests" / "vectors" / "packed_list_tfhe_1_7_0.bin"

GOVERNANCE = SimulatedGovernance()
SENDER = ed25519("sender")
KEY_ID = b"\x4b" * 32


@cache
def platform() -> SimulatedPlatform:
    return SimulatedPlatform(at=NOW)


@cache
def enclave() -> SimulatedEnclave:
    return SimulatedEnclave(platform(), name="enclave", configuration=CONFIGURATION)


@cache
def host() -> SimulatedHost:
    return SimulatedHost(platform(), name="host", configuration=CONFIGURATION)


def judge(kind: Any) -> Any:
    return judge_with(root=platform().root(), kind=kind, measurements=(IMAGE,), max_age=timedelta(minutes=1))


@cache
def handshake() -> tuple[bytes, bytes, bytes, bytes]:
    """The four messages of one honest handshake."""
    asking = Initiator(certificate=host().certificate, attest=host().attest, judge=judge("enclave"), terms=TERMS)
    asked = Responder(
        certificate=enclave().certificate,
        attest=enclave().attest,
        judge=judge("host"),
        terms=TERMS,
        session_id=SESSION,
        nonce=OTHER_NONCE,
    )
    first = asking.start(NONCE)
    second = asked.receive(first, at=NOW)
    third = asking.receive(second, at=NOW)
    return first, second, third, asked.receive(third, at=NOW)


def documents() -> list[bytes]:
    """Authentic ones of several years, and one of each kind from the simulator."""
    authentic = [path.read_bytes() for path in sorted((VECTORS / "nitro").glob("*.bin"))]
    return [*authentic, platform().document(nonce=b"n"), platform().draft(kind="host", nonce=b"n").sign()]


def certificates() -> list[bytes]:
    """Those of a path and of a channel."""
    found = decode_document(documents()[0], expected=None)
    return [found.certificate, *found.cabundle, enclave().certificate]


def document_payloads() -> list[bytes]:
    """What documents sign."""
    made = []
    for document in documents():
        value: Any = cbor.decode_foreign(document.removeprefix(b"\xd2"))
        made.append(value[2])
    return made


def images() -> list[bytes]:
    """An unsigned enclave image and a signed one."""
    bare, signed = ImageDraft(), ImageDraft()
    signed.sign(key("release"), eif.signer(key("release")))
    return [bare.build(), signed.build()]


def image_signatures() -> list[bytes]:
    return [eif.signature_section(key("release"), eif.signer(key("release")), pcr0=bytes(48))]


def image_metadata() -> list[bytes]:
    return [eif.METADATA_JSON, b'{"a": 1.5e10, "b": [null, true, -0.1E-9]}']


def image_certificates() -> list[bytes]:
    """The text of one that signs an image, and one that never ends."""
    text = eif.signer(key("release"))
    return [text, text[:28] + b"\n" * 30_000]


def roots() -> list[bytes]:
    """A root in both forms."""
    der = platform().root().certificate_der
    return [der, ssl.DER_cert_to_PEM_cert(der).encode()]


# --- chain ---


@cache
def chain() -> SimulatedChain:
    made = SimulatedChain(3, state={"one/inbox": {1: b"first", 2: b"second", 9: b"last"}})
    for _ in range(3):
        made.produce()
    return made


def light_blocks() -> list[bytes]:
    return [chain().encoded(height) for height in (1, 2, 4)]


def state_proofs() -> list[bytes]:
    return [chain().prove("one", "inbox", 2).encode(), chain().prove_absent("one", "inbox", 5).encode()]


def proofs() -> list[bytes]:
    tree = Tree({number.to_bytes(8, "big"): b"value" for number in range(9)})
    own = [tree.prove(bytes(7) + b"\x03"), tree.prove_absent(b"\xff" * 8)]
    found = [json.loads(path.read_text())["proof"] for path in sorted((VECTORS / "ics23").glob("*.json"))]
    return [*own, *(bytes.fromhex(text) for text in found)]


def all_proofs() -> list[bytes]:
    """Those, and the absence of a key between the two largest values."""
    large = Tree({number.to_bytes(8, "big"): bytes(1 << 17) for number in (1, 3)})
    return [*proofs(), large.prove_absent((2).to_bytes(8, "big"))]


def block_json() -> list[bytes]:
    """A light block as a node's JSON has it."""
    return [rpc_json.dumps(rpc_json.light_block(chain().drafts[height])).encode() for height in (0, 3)]


def block_files() -> list[bytes]:
    """What a walk reads: a node's two answers for each of two heights, and a block in one file."""
    answers = [
        rpc_json.dumps(answer(chain().drafts[height])).encode()
        for height in (0, 1)
        for answer in (rpc_json.commit_answer, rpc_json.validators_answer)
    ]
    return [b"\0".join(answers), b"\0".join([*answers[:2], block_json()[1]])]


def document_lines() -> list[bytes]:
    """Lines of `document verify --batch`: authentic documents under AWS's root."""
    made = []
    for entry in json.loads((VECTORS / "nitro" / "index.json").read_text())[:3]:
        path, image = VECTORS / "nitro" / entry["file"], {str(index): "00" * 48 for index in (0, 1, 2)}
        for judged in ({"insecure_any_measurement": True, "allow_debug": True}, {"measurements": [image, image]}):
            policy = {**judged, "max_age_seconds": 60, "nonce": None}
            line = {"document": str(path), "root": "aws", "at": entry["timestamp"], "policy": policy}
            made.append(json.dumps(line).encode())
    return made


def chain_lines() -> list[bytes]:
    """A line of `chain verify --batch`."""
    before, after = (rpc_json.light_block(chain().drafts[height]) for height in (0, 1))
    line = {
        "trusted": {"signed_header": before["signed_header"], "next_validators": before["validators"]},
        "untrusted": after,
        "now": "2026-01-01T13:00:00Z",
        "trusting_period_seconds": 1 << 31,
        "max_clock_drift_seconds": 10,
    }
    return [rpc_json.dumps(line).encode()]


def proof_lines() -> list[bytes]:
    """A line of `proof verify --batch`."""
    key, root = bytes(7) + b"\x03", Tree({number.to_bytes(8, "big"): b"value" for number in range(9)}).root()
    line = {"spec": "tendermint", "root": root.hex(), "key": key.hex(), "value": b"value".hex()}
    return [json.dumps({**line, "proof": proofs()[0].hex()}).encode()]


# --- statements ---


@cache
def party() -> SimulatedParty:
    measured = configuration(
        "alpha", genesis=GOVERNANCE.genesis, platform=platform(), chain_id="chain", header=bytes(32)
    )
    return SimulatedParty("alpha", 1, platform(), measured)


@cache
def asked() -> tuple[Any, ...]:
    coprocessors, user = SimulatedCoprocessors(), SimulatedUser("alice")
    bound = [
        coprocessors.bind(number.to_bytes(32, "big"), key_id=KEY_ID, owner=user.address, terms=KEY_TERMS)
        for number in (1, 2)
    ]
    grant = user.grant(bound[0].handle, b"\x02" * 20, valid_until=9)
    public_one = PublicDecrypt(KEY_ID, tuple(bound), b"", Origin(1, b"\xdd" * 20, 7))
    return public_one, user.request(KEY_ID, *bound, start=1000, grants=(grant,)), Keygen(b"statement")


def requests() -> list[bytes]:
    return [one.encode() for one in asked()]


def cores() -> list[Core]:
    one, user, _ = asked()
    made = party()
    refused = made.refusal_core(bytes(32), one, "key.unknown")
    return [made.public_core(bytes(32), one, [7, 8]), made.user_core(bytes(32), user), refused]


def answer_payloads() -> list[bytes]:
    context = Context(1, 10, bytes(32), bytes(48), bytes(16), 1, bytes(32), (1, bytes(32)))
    label = cbor.fields(cbor.decode(_payload(party().answer(cores()[0], (10, bytes(32))))), **_ANSWER)["label"]
    parts = ({"context": context.to_map(), "core": core.encode(), "label": label} for core in cores())
    return [cbor.encode(part) for part in parts]


_ANSWER = {"context": cbor.anything, "core": cbor.anything, "label": cbor.anything}


def _payload(envelope: bytes) -> bytes:
    value: Any = cbor.decode(envelope)
    found: bytes = value[2]
    return found


def answers() -> list[bytes]:
    return [party().answer(core, (10, bytes(32))) for core in cores()]


def governance() -> list[bytes]:
    coprocessors = SimulatedCoprocessors().policy
    return [
        GOVERNANCE.admit("alpha", serial=1),
        GOVERNANCE.set_coprocessors(coprocessors, serial=1),
        GOVERNANCE.keygen(KEY_TERMS, serial=1),
        GOVERNANCE.retire(KEY_ID, serial=1),
        GOVERNANCE.lift(bytes(32), serial=1),
    ]


def governance_payloads() -> list[bytes]:
    made = []
    for statement in governance():
        value: Any = cbor.decode(statement)
        made.append(value["statement"])
    return made


def transactions() -> list[bytes]:
    message = Message("one", "ask", {"request": requests()[0]})
    return [Transaction("chain", public(SENDER), 1, (message, message), 5).sign(SENDER)]


def transaction_payloads() -> list[bytes]:
    return [_payload(made) for made in transactions()]


def registrations() -> list[bytes]:
    return [party().register(9, bytes(32))]


def registration_payloads() -> list[bytes]:
    return [_payload(made) for made in registrations()]


def manifests() -> list[bytes]:
    objects = (SealedObject(ROOT, bytes(32), bytes(32)), SealedObject(KEY, b"k" * 32, bytes(32)))
    return [Manifest("alpha", 1, 1, objects).encode()]


def configurations() -> list[bytes]:
    return [party().configuration.encode(), GOVERNANCE.genesis.encode()]


def records() -> list[bytes]:
    """What stands in the chain's state."""
    record = layout.RequestRecord(bytes(32), bytes(32), "keygen", 1, layout.FINAL, bytes(32), ((1, bytes(32)),))
    return [
        record.encode(),
        layout.Inbox((layout.InboxEntry(1, bytes(32), bytes(32)),)).encode(),
        layout.Control(1, bytes(32)).encode(),
        layout.PartyRecord("alpha", bytes(32), bytes(33), bytes(48), bytes(32), None, 1, None).encode(),
        layout.Equivocation(1, bytes(32), 1, bytes(32), b"o" * 32).encode(),
    ]


# --- what auditors read ---


def receipts() -> list[bytes]:
    """Well-formed, and not more: the proofs are of something else."""
    blocks = tuple(map(LightBlock.decode, light_blocks()[:2]))
    proof = StateProof.decode(state_proofs()[0])
    record, owner = Shown(1, records()[0], proof), Shown(1, records()[3], proof)
    asked_for = Evidence(blocks, record, requests()[0], ((1, answers()[0]),), (owner,))
    registered = Registered(1, 2, registrations()[0])
    control = Shown(1, records()[2], proof)
    both = Receipt(asked_for, asked_for, (registered,), control, (governance()[2],))
    return [both.encode(), Receipt(asked_for, None, (), control, ()).encode()]


def trust_files() -> list[bytes]:
    root = party().configuration.root
    return [trust.write_toml(root, "fhevm", GOVERNANCE.genesis, enclave_root="aws", comment="ours").encode()]


def trust_json() -> list[bytes]:
    return [json.dumps(tomllib.loads(text.decode())).encode() for text in trust_files()]


# --- what peers of a channel send ---


def refusal_frames() -> list[bytes]:
    return [*map(exchange.refusal_frame, ("channel.busy", "document.nonce")), *handshake()]


# --- what the enclave reads ---


@cache
def recipient() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def envelopes() -> list[bytes]:
    """AWS KMS' answer to an attested caller."""
    return [aws_cms.envelop(bytes(32), recipient().public_key())]


def credentials() -> list[bytes]:
    return [Credentials("AKIA", "secret", None).encode(), Credentials("ASIA", "secret", "token").encode()]


def sealed_records() -> list[bytes]:
    """What the vault opens, and the root, which the host could have written anew."""
    part = Material("public_key", bytes(32), 5, bytes(32))
    record = KeyRecord(KEY_ID, "one", bytes(32), bytes(32), KEY_TERMS, (part,))
    return [Root(b"wrapped", b"sealed").encode(), record.encode()]
