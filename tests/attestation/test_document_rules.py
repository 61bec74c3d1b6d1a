"""Every rule about envelope, payload and policy has an attack that meets it, and only it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cipherkeep_attestation import errors
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.nitro.document import LIMIT, decode
from cipherkeep_attestation.nitro.verify import (
    NO_NONCE,
    InsecureAnyMeasurement,
    Measurements,
    Policy,
    verify,
    verify_host,
)

from tests.simulators.attestation import IMAGE, ORDER, PCRS, Draft, Raw, SimulatedPlatform, cbor

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
PLATFORM = SimulatedPlatform(at=NOW)
MINUTE = timedelta(minutes=1)
NONCE, KEY = b"n" * 32, b"k" * 91
POLICY = Policy(measurements=(IMAGE,), nonce=NONCE, public_key=KEY, max_age=timedelta(minutes=5))


def draft(**claims: Any) -> Draft:
    return PLATFORM.draft(**{"nonce": NONCE, "public_key": KEY, **claims})


def code_of(document: bytes, *, policy: Policy = POLICY, at: datetime = NOW, judge: Any = verify) -> str:
    with pytest.raises(EvidenceError) as refusal:
        judge(document, root=PLATFORM.root(), policy=policy, at=at)
    return refusal.value.code


def test_an_honest_document_is_accepted_whole() -> None:
    """The attestation repeats what the document says, once it has been judged."""
    made = draft(user_data=b"u").sign()
    attestation = verify(made, root=PLATFORM.root(), policy=POLICY, at=NOW)
    assert (attestation.nonce, attestation.public_key, attestation.user_data) == (NONCE, KEY, b"u")
    assert (attestation.kind, attestation.timestamp, attestation.debug) == ("enclave", NOW, False)
    assert attestation.pcrs == PCRS
    assert len(attestation.certificates) == 5
    assert attestation.certificates[-1] == PLATFORM.root().certificate_der


def set_field(name: str, value: Any) -> Callable[[Draft], None]:
    return lambda draft: draft.fields.update({name: value})


def drop(name: str) -> Callable[[Draft], None]:
    return lambda draft: draft.fields.__delitem__(name)


def attribute(name: str, value: Any) -> Callable[[Draft], None]:
    return lambda draft: setattr(draft, name, value)


@pytest.mark.parametrize(
    "edit",
    [
        attribute("indefinite", False),
        attribute("tag", b"\xd2"),
        attribute("twin", True),
        set_field("user_data", bytes(1024)),
        set_field("user_data", b""),
        set_field("pcrs", {**PCRS, 16: bytes(48)}),
        set_field("pcrs", {**PCRS, **{index: bytes(48) for index in range(16, 32)}}),
        set_field("pcrs", dict(reversed(list(PCRS.items())))),
        lambda draft: draft.fields.update(cabundle=draft.fields.pop("cabundle")),
    ],
    ids=["definite", "tagged", "high-s", "1024", "empty", "17-pcrs", "32-pcrs", "unsorted", "other-order"],
)
def test_what_hardware_may_send_is_accepted(edit: Callable[[Draft], None]) -> None:
    """Definite or indefinite, tagged or not, either half of a signature, more PCRs, full fields, any order of keys."""
    made = draft()
    edit(made)
    assert verify(made.sign(), root=PLATFORM.root(), policy=POLICY, at=NOW).nonce == NONCE


ATTACKS: list[tuple[str, Callable[[Draft], None]]] = [
    ("document.tag", attribute("tag", b"\xd1")),
    ("document.tag", attribute("tag", b"\xd2\xd2")),
    ("document.tag", attribute("tag", b"\xd8\x12")),
    ("document.algorithm", attribute("protected", bytes.fromhex("a10126"))),
    ("document.algorithm", attribute("protected", bytes.fromhex("a2013822041842"))),
    ("document.algorithm", attribute("protected", b"")),
    ("cose.unprotected", attribute("unprotected", {4: b"id"})),
    ("cose.shape", attribute("unprotected", [])),
    ("document.signature_length", attribute("signature", lambda signature: signature[:-1])),
    ("document.signature_length", attribute("signature", lambda signature: b"")),
    ("document.signature", attribute("signature", lambda signature: bytes(96))),
    ("document.signature", attribute("signature", lambda signature: signature[48:] + signature[:48])),
    ("document.signature", attribute("signature", lambda signature: b"\xff" * 96)),
    ("document.signature", attribute("signer", PLATFORM.key("instance"))),
    ("encoding.trailing", attribute("payload", lambda payload: payload + b"\0")),
    ("encoding.truncated", attribute("payload", lambda payload: payload[:-1])),
    (
        "encoding.duplicate_key",
        attribute("payload", lambda payload: payload[:-1] + cbor("nonce") + cbor(NONCE) + b"\xff"),
    ),
    ("document.fields", attribute("payload", lambda payload: cbor([1]))),
    ("document.fields", attribute("payload", lambda payload: cbor(["pcrs"]))),
    ("document.fields", attribute("payload", lambda payload: cbor("pcrs"))),
    ("document.fields", attribute("payload", lambda payload: cbor(None))),
    ("document.fields", drop("user_data")),
    ("document.fields", drop("timestamp")),
    ("document.fields", set_field("extra", 1)),
    ("document.fields", set_field("nitrotpm_pcrs", dict(PCRS))),
    ("document.fields", drop("pcrs")),
    ("document.module_id", set_field("module_id", "")),
    ("document.module_id", set_field("module_id", b"i-0")),
    ("document.module_id", set_field("module_id", "i" * 129)),
    ("document.module_id", set_field("module_id", "i-0\n")),
    ("document.digest", set_field("digest", "SHA256")),
    ("document.digest", set_field("digest", None)),
    ("document.timestamp", set_field("timestamp", 0)),
    ("document.timestamp", set_field("timestamp", -1)),
    ("document.timestamp", set_field("timestamp", True)),
    ("document.timestamp", set_field("timestamp", 253_402_300_800_000)),
    ("encoding.simple", set_field("timestamp", Raw(b"\xfb\x42\x79\x8a\x00\x00\x00\x00\x00"))),
    ("encoding.not_shortest", set_field("timestamp", Raw(b"\x1b\0\0\0\0\0\0\0\x01"))),
    ("encoding.tag", set_field("timestamp", Raw(b"\xc1\x01"))),
    ("encoding.indefinite", set_field("nonce", Raw(b"\x5f\x41n\xff"))),
    ("encoding.utf8", set_field("module_id", Raw(b"\x61\xff"))),
    ("encoding.depth", set_field("pcrs", {0: [[[]]]})),
    ("document.pcrs", set_field("pcrs", None)),
    ("document.pcrs", set_field("pcrs", [])),
    ("document.pcrs", set_field("pcrs", {index: PCRS[index] for index in range(15)})),
    ("document.pcrs", set_field("pcrs", {**PCRS, 32: bytes(48)})),
    ("document.pcrs", set_field("pcrs", {**PCRS, -1: bytes(48)})),
    ("document.pcrs", set_field("pcrs", {**PCRS, "16": bytes(48)})),
    ("document.pcr_length", set_field("pcrs", {**PCRS, 0: bytes(32)})),
    ("document.pcr_length", set_field("pcrs", {**PCRS, 15: bytes(64)})),
    ("document.pcr_length", set_field("pcrs", {**PCRS, 3: None})),
    ("document.certificate", set_field("certificate", b"")),
    ("document.certificate", set_field("certificate", bytes(1025))),
    ("document.certificate", set_field("certificate", None)),
    ("document.cabundle", set_field("cabundle", None)),
    ("document.cabundle", set_field("cabundle", 5)),
    ("document.cabundle", set_field("cabundle", [])),
    ("document.cabundle", set_field("cabundle", [b"c"] * 9)),
    ("document.cabundle", set_field("cabundle", [bytes(1025)])),
    ("document.cabundle", set_field("cabundle", b"c")),
    ("document.optional_field", set_field("public_key", bytes(1025))),
    ("document.optional_field", set_field("user_data", "text")),
    ("document.optional_field", set_field("nonce", 7)),
    ("document.nonce", set_field("nonce", None)),
    ("document.nonce", set_field("nonce", NONCE + b"n")),
    ("document.public_key", set_field("public_key", None)),
    ("document.public_key", set_field("public_key", b"K" * 91)),
    ("document.pcr_mismatch", set_field("pcrs", {**PCRS, 0: b"\x09" * 48})),
    ("document.pcr_mismatch", set_field("pcrs", {**PCRS, 1: b"\x09" * 48})),
    ("document.pcr_mismatch", set_field("pcrs", {**PCRS, 2: b"\x09" * 48})),
    ("document.debug", set_field("pcrs", {**PCRS, 0: bytes(48)})),
    ("document.debug", set_field("pcrs", {index: bytes(48) for index in range(16)})),
    ("document.debug", set_field("pcrs", {**PCRS, 2: bytes(48)})),
    ("document.too_old", set_field("timestamp", round(NOW.timestamp() * 1000) - 300_001)),
    ("document.from_future", set_field("timestamp", round(NOW.timestamp() * 1000) + 60_001)),
]


@pytest.mark.parametrize(("code", "edit"), ATTACKS, ids=[f"{n}-{code}" for n, (code, _) in enumerate(ATTACKS)])
def test_a_lie_is_refused_by_its_rule(code: str, edit: Callable[[Draft], None]) -> None:
    """A platform that signs anything does not get past the rule that the lie breaks."""
    made = draft()
    edit(made)
    assert code_of(made.sign()) == code


def test_a_changed_document_is_refused() -> None:
    """What a leaf signed cannot be changed behind its back, not even the nonce alone."""
    made = draft().sign()
    assert code_of(made.replace(NONCE, b"m" * 32)) == "document.signature"


def test_an_oversized_document_is_refused_before_it_is_read() -> None:
    """Beyond 16 KiB nothing is decoded."""
    assert code_of(b"\x84" + bytes(LIMIT)) == "document.size"


@pytest.mark.parametrize("data", [b"", b"\x84", b"\xf6", b"\x80", b"\xa0", b"\xd2"])
def test_nothing_and_nearly_nothing_are_refused(data: bytes) -> None:
    """Empty and cut input is a refusal with a code like any other."""
    assert code_of(data) in {"encoding.truncated", "cose.shape"}


@pytest.mark.parametrize(
    "envelope", [[b"", {}, b""], [b"", {}, b"", b"", b""], ["", {}, b"", b""], [b"", {}, None, b""]]
)
def test_another_envelope_is_refused(envelope: list[Any]) -> None:
    """A COSE_Sign1 has four parts, of these types, with the payload inside."""
    assert code_of(cbor(envelope)) == "cose.shape"


def test_an_envelope_of_indefinite_length_is_refused() -> None:
    """Hardware writes only the payload that way."""
    assert code_of(b"\x9f" + draft().sign()[1:] + b"\xff") == "encoding.indefinite"


def test_a_host_is_no_enclave_and_an_enclave_no_host() -> None:
    """Both kinds lead to the same root on AWS: only the name of one field tells them apart."""
    host, enclave = draft(kind="host").sign(), draft().sign()
    assert code_of(host) == "document.is_host_document"
    assert code_of(enclave, judge=verify_host) == "document.is_enclave_document"
    assert verify_host(host, root=PLATFORM.root(), policy=POLICY, at=NOW).kind == "host"
    assert decode(host, expected=None).kind == "host"


def test_a_host_with_a_zero_pcr_is_not_called_debug() -> None:
    """A TPM's PCRs are not those of an image: only the policy judges them."""
    made = draft(kind="host", pcrs={**PCRS, 0: bytes(48)})
    policy = replace(POLICY, measurements=(Measurements({4: PCRS[4]}),))
    assert verify_host(made.sign(), root=PLATFORM.root(), policy=policy, at=NOW).debug is False
    made.fields["nitrotpm_pcrs"][4] = bytes(48)
    assert code_of(made.sign(), policy=policy, judge=verify_host) == "document.pcr_mismatch"


def test_debug_is_allowed_by_its_long_name_only() -> None:
    """A debug enclave allowed by name must still show the measurements that the policy names."""
    made = draft(pcrs={index: bytes(48) for index in range(16)}).sign()
    allowing = replace(POLICY, insecure_allow_debug=True)
    assert code_of(made, policy=allowing) == "document.pcr_mismatch"
    zeros = replace(allowing, measurements=(Measurements({0: bytes(48), 1: bytes(48), 2: bytes(48)}),))
    assert verify(made, root=PLATFORM.root(), policy=zeros, at=NOW).debug is True


def test_a_named_pcr_must_be_there() -> None:
    """PCR16 stands in a document only once it is locked; its absence is not a match."""
    demanding = replace(POLICY, measurements=(Measurements({**IMAGE.pcrs, 16: b"\x07" * 48}),))
    assert code_of(draft().sign(), policy=demanding) == "document.pcr_mismatch"
    assert code_of(draft(pcrs={**PCRS, 16: bytes(48)}).sign(), policy=demanding) == "document.pcr_mismatch"
    locked = draft(pcrs={**PCRS, 16: b"\x07" * 48}).sign()
    assert verify(locked, root=PLATFORM.root(), policy=demanding, at=NOW).pcrs[16] == b"\x07" * 48


def test_alternatives_are_not_mixed() -> None:
    """A document must match one release whole, never PCR0 of one and PCR2 of another."""
    old = {index: bytes([0x0A + index]) * 48 for index in range(3)}
    new = {index: bytes([0x1A + index]) * 48 for index in range(3)}
    both = replace(POLICY, measurements=(Measurements(old), Measurements(new)))
    assert verify(draft(pcrs={**PCRS, **new}).sign(), root=PLATFORM.root(), policy=both, at=NOW)
    assert code_of(draft(pcrs={**PCRS, **old, 2: new[2]}).sign(), policy=both) == "document.pcr_mismatch"


def test_the_edges_of_age_belong_to_it() -> None:
    """Exactly as old as allowed is accepted, a millisecond more is not; likewise ahead of the clock."""
    made, millisecond, drifting = draft().sign(), timedelta(milliseconds=1), replace(POLICY, clock_drift=MINUTE)
    for policy, edge in ((POLICY, NOW + POLICY.max_age), (POLICY, NOW), (drifting, NOW - MINUTE)):
        assert verify(made, root=PLATFORM.root(), policy=policy, at=edge).timestamp == NOW
    assert code_of(made, at=NOW + POLICY.max_age + millisecond) == "document.too_old"
    assert code_of(made, policy=drifting, at=NOW - MINUTE - millisecond) == "document.from_future"


def test_a_stated_second_is_the_whole_of_it() -> None:
    """A document's own time, cut to seconds as people write it, is not before the document; the second before is."""
    for milliseconds in (0, 1, 999):
        claimed = draft()
        claimed.path["leaf"].not_before = NOW - MINUTE
        claimed.fields["timestamp"] += milliseconds
        made = claimed.sign()
        assert verify(made, root=PLATFORM.root(), policy=POLICY, at=NOW)
        assert code_of(made, at=NOW - timedelta(milliseconds=1)) == "document.from_future"


def test_the_zone_of_the_stated_time_does_not_matter_but_must_be_there() -> None:
    """The same moment in another zone gives the same verdict; a time without a zone is an error of the caller."""
    made = draft().sign()
    elsewhere = NOW.astimezone(timezone(timedelta(hours=9)))
    assert verify(made, root=PLATFORM.root(), policy=POLICY, at=elsewhere).not_after.utcoffset() == timedelta(0)
    with pytest.raises(ValueError, match="zone"):
        verify(made, root=PLATFORM.root(), policy=POLICY, at=NOW.replace(tzinfo=None))


def test_a_signature_twin_is_the_same_attestation() -> None:
    """Both halves of an ECDSA signature hold, so bytes identify nothing: the digest is that of the payload."""
    one = draft().sign()
    s_value = int.from_bytes(one[-48:], "big")
    twin = b"\xd2" + one[:-48] + (ORDER - s_value).to_bytes(48, "big")
    assert verify(twin, root=PLATFORM.root(), policy=POLICY, at=NOW) == verify(
        one, root=PLATFORM.root(), policy=POLICY, at=NOW
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"measurements": ()},
        {"measurements": [IMAGE]},
        {"measurements": None},
        {"nonce": b""},
        {"nonce": None},
        {"public_key": b""},
        {"max_age": timedelta(0)},
        {"clock_drift": timedelta(seconds=-1)},
    ],
    ids=str,
)
def test_a_policy_that_demands_nothing_cannot_be_made(wrong: dict[str, Any]) -> None:
    """An empty or absent demand is an error where the policy is made, not a wildcard when it is used."""
    with pytest.raises(ValueError, match=r"polic|positive"):
        replace(POLICY, **wrong)


@pytest.mark.parametrize(
    "pcrs", [{}, {0: b"short"}, {32: bytes(48)}, {-1: bytes(48)}, {True: bytes(48)}, {0: "0" * 48}]
)
def test_measurements_that_mean_nothing_cannot_be_made(pcrs: dict[Any, Any]) -> None:
    """A set names at least one PCR, each with its 48 bytes."""
    with pytest.raises(ValueError, match="PCR"):
        Measurements(pcrs)


def test_an_enclave_policy_names_the_three_pcrs_of_an_image() -> None:
    """PCR0 alone does not say where an image's parts end."""
    policy = replace(POLICY, measurements=(Measurements({0: PCRS[0], 1: PCRS[1]}),))
    with pytest.raises(ValueError, match="PCR0, PCR1 and PCR2"):
        verify(draft().sign(), root=PLATFORM.root(), policy=policy, at=NOW)


def test_measurements_cannot_be_changed_after_they_were_made() -> None:
    """A policy keeps its own copy."""
    mine = {0: PCRS[0], 1: PCRS[1], 2: PCRS[2]}
    measurements = Measurements(mine)
    mine[0] = bytes(48)
    assert measurements.pcrs[0] == PCRS[0]
    with pytest.raises(TypeError):
        measurements.pcrs[0] = bytes(48)  # type: ignore[index]


def test_no_nonce_must_be_said() -> None:
    """With NO_NONCE a document is taken whoever asked for it, with nonce or without."""
    policy = replace(POLICY, nonce=NO_NONCE, measurements=InsecureAnyMeasurement())
    for nonce in (None, b"other"):
        assert verify(draft(nonce=nonce).sign(), root=PLATFORM.root(), policy=policy, at=NOW).nonce == nonce


def test_no_rule_is_dead() -> None:
    """Every rule about encodings, documents, certificates, paths and handshakes is raised by name somewhere."""
    package = Path(errors.__file__).parent
    files = [*package.glob("*.py"), *(package / "nitro").glob("*.py")]
    source = "".join(file.read_text() for file in files if file.name != "errors.py")
    prefixes = ("encoding.", "cose.", "document.", "certificate.", "path.", "handshake.")
    judged = [code for code in errors.RULES if code.startswith(prefixes)]
    assert [code for code in judged if f'"{code}"' not in source] == []
