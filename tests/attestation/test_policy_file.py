"""Policy files: what is misspelt, missing or contradictory is an error, never a weaker policy."""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cipherkeep_attestation import policy as policies
from cipherkeep_attestation.eif import configuration_pcr
from cipherkeep_attestation.errors import RULES, EvidenceError
from cipherkeep_attestation.nitro.verify import NO_NONCE, Measurements, Policy
from cipherkeep_attestation.policy import read_policy, sign, verify_signature, warnings
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.attestation.cli.running import policy, release
from tests.simulators.attestation import PCRS, cbor

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "policy.schema.json").read_text())
DIGEST = hashlib.sha384(b"configuration").digest()
PCR16 = configuration_pcr(DIGEST)
FULL = {**{index: PCRS[index] for index in (0, 1, 2)}, 8: b"\x08" * 48, 16: PCR16}
WHOLE = policy(
    release(
        "1.4.0",
        FULL,
        configuration=f'"{DIGEST.hex()}"',
        not_before="2026-01-01T00:00:00Z",
        not_after="2027-01-01T00:00:00+02:00",
    ),
    clock_drift_seconds="30",
    unknown_fields='"refuse"',
    user_data='"responder"',
    insecure_allow_debug="false",
)


def code_of(text: str | bytes) -> str:
    with pytest.raises(EvidenceError) as refusal:
        read_policy(text if isinstance(text, bytes) else text.encode())
    return refusal.value.code


def test_a_policy_means_what_it_says() -> None:
    """Every key arrives in the verifier's policy."""
    found = read_policy(WHOLE.encode())
    (one,) = found.releases
    assert (one.version, one.configuration, dict(one.pcrs)) == ("1.4.0", DIGEST, FULL)
    made = found.policy(nonce=b"n")
    assert isinstance(made, Policy)
    assert (made.max_age, made.clock_drift, made.nonce) == (timedelta(minutes=5), timedelta(seconds=30), b"n")
    assert (made.unknown_fields, made.insecure_allow_debug, made.insecure_partial_image) == ("refuse", False, False)
    assert made.user_data is not None
    assert made.measurements == (
        Measurements(
            FULL,
            name="1.4.0",
            not_before=datetime(2026, 1, 1, tzinfo=UTC),
            not_after=datetime(2026, 12, 31, 22, tzinfo=UTC),
        ),
    )
    with pytest.raises(ValueError, match="nonce"):
        found.policy(nonce=None)
    archived = read_policy(policy(nonce='"insecure_any"').encode())
    assert archived.clock_drift == timedelta(0)
    assert archived.policy(nonce=None).nonce is NO_NONCE


WRONG: list[tuple[str, str]] = [
    ("policy.size", "#" * policies.LIMIT + "\n"),
    ("policy.encoding", "format = "),
    ("policy.encoding", "format = 1\nformat = 1\n"),
    ("policy.encoding", 'x = "\x00"\n'),
    ("policy.encoding", "x = " + "[" * 20_000),
    ("policy.encoding", "x = " + "9" * 5000),
    ("policy.no_measurements", ""),
    ("policy.no_measurements", policy(" ")),
    ("policy.no_measurements", policy(" ", release="[]")),
    ("policy.no_measurements", policy('[[release]]\nversion = "1"\n')),
    ("policy.unknown_key", policy(max_age="300")),
    ("policy.unknown_key", policy(insecure_allow_debugging="true")),
    ("policy.unknown_key", policy(release(pcr32='""'))),
    ("policy.unknown_key", policy(release(PCR8=f'"{"00" * 48}"'))),
    ("policy.unknown_key", policy(release(pcr03=f'"{"00" * 48}"'))),
    ("policy.unknown_key", policy(release(not_afer="2027-01-01T00:00:00Z"))),
    ("policy.missing_key", policy(nonce=None)),  # type: ignore[arg-type]
    ("policy.missing_key", policy(kind=None)),  # type: ignore[arg-type]
    ("policy.format", policy(format="2")),
    ("policy.format", policy(format="true")),
    ("policy.format", policy(format='"1"')),
    ("policy.value", policy(kind='"tpm"')),
    ("policy.value", policy(kind="1")),
    ("policy.value", policy(nonce='"any"')),
    ("policy.value", policy(nonce="false")),
    ("policy.value", policy(max_age_seconds="0")),
    ("policy.value", policy(max_age_seconds="-1")),
    ("policy.value", policy(max_age_seconds="300.0")),
    ("policy.value", policy(max_age_seconds="inf")),
    ("policy.value", policy(max_age_seconds="true")),
    ("policy.value", policy(max_age_seconds="31622401")),
    ("policy.value", policy(clock_drift_seconds="-1")),
    ("policy.value", policy(clock_drift_seconds="3601")),
    ("policy.value", policy(unknown_fields='"skip"')),
    ("policy.value", policy(user_data='"none"')),
    ("policy.value", policy(user_data='"hex:"')),
    ("policy.value", policy(user_data='"hex:0"')),
    ("policy.value", policy(user_data="1")),
    ("policy.value", policy(insecure_allow_debug="1")),
    ("policy.value", policy(insecure_allow_debug='"true"')),
    ("policy.value", policy(" ", release="1")),
    ("policy.value", policy(" ", release="[1]")),
    ("policy.value", policy(" ", release="{}")),
    ("policy.value", policy(release(""))),
    ("policy.value", policy(release(" 1"))),
    ("policy.value", policy(release("é"))),
    ("policy.value", policy(release("1" * 65))),
    ("policy.value", policy(*(release(str(number)) for number in range(129)))),
    ("policy.measurement", policy(release(pcr8='"00"'))),
    ("policy.measurement", policy(release(pcr8=f'"{"0g" * 48}"'))),
    ("policy.measurement", policy(release(pcr8="0"))),
    ("policy.measurement", policy(release(configuration='"00"'))),
    ("policy.partial_image", policy(release(pcrs={0: PCRS[0]}))),
    ("policy.partial_image", policy(release(pcrs={8: PCRS[0]}))),
    ("policy.partial_image", policy(release(), release("2", {0: PCRS[0], 1: PCRS[1]}))),
    ("policy.debug_measurement", policy(release(pcrs={0: bytes(48), 1: PCRS[1], 2: PCRS[2]}))),
    ("policy.debug_measurement", policy(release(pcrs={0: PCRS[0], 1: PCRS[1], 2: bytes(48)}))),
    ("policy.configuration_pcr", policy(release(configuration=f'"{DIGEST.hex()}"'))),
    ("policy.configuration_pcr", policy(release(pcrs={**FULL, 16: DIGEST}, configuration=f'"{DIGEST.hex()}"'))),
    ("policy.window", policy(release(not_after='"2027-01-01T00:00:00Z"'))),
    ("policy.window", policy(release(not_after="2027-01-01T00:00:00"))),
    ("policy.window", policy(release(not_after="2027-01-01"))),
    ("policy.window", policy(release(not_before="2027-01-01T00:00:00Z", not_after="2027-01-01T00:00:00Z"))),
    ("policy.window", policy(release(not_after="0001-01-01T00:00:00+01:00"))),
    ("policy.window", policy(release(not_before="9999-12-31T23:59:59-01:00"))),
    ("policy.duplicate_release", policy(release("1"), release("1", FULL))),
]


@pytest.mark.parametrize(("code", "text"), WRONG, ids=[f"{number}-{code}" for number, (code, _) in enumerate(WRONG)])
def test_a_wrong_policy_is_an_error_with_its_code(code: str, text: str) -> None:
    """Nothing is guessed and nothing is skipped."""
    assert code_of(text) == code


def test_text_that_is_not_utf8_is_no_policy() -> None:
    """Latin-1 in a comment included."""
    assert code_of(b"# caf\xe9\n" + WHOLE.encode()) == "policy.encoding"


def test_every_code_of_a_policy_has_an_attack() -> None:
    """The table and these tests name the same rules."""
    elsewhere = {"policy.contradiction", "policy.signature", "policy.signature_form", "policy.unsigned"}
    assert {code for code in RULES if code.startswith("policy.")} == {code for code, _ in WRONG} | elsewhere


def test_the_schema_and_the_reader_know_the_same_keys() -> None:
    """What the schema demands is demanded, what it does not list is unknown."""
    assert set(SCHEMA["required"]) == policies.REQUIRED
    assert set(SCHEMA["properties"]) == policies.REQUIRED | policies.OPTIONAL
    entry = SCHEMA["$defs"]["release"]
    assert set(entry["required"]) == policies.RELEASE_REQUIRED
    assert set(entry["properties"]) == policies.RELEASE_REQUIRED | policies.RELEASE_OPTIONAL
    assert SCHEMA["additionalProperties"] is entry["additionalProperties"] is False
    assert SCHEMA["properties"]["release"]["maxItems"] == policies.MOST_RELEASES
    (pattern,) = entry["patternProperties"]
    assert [index for index in range(100) if re.search(pattern, f"pcr{index}")] == list(range(32))
    for key in policies.OPTIONAL:
        assert "default" in SCHEMA["properties"][key]


def test_narrowing_keeps_the_releases_that_agree() -> None:
    """A demanded PCR is added to each release; those with another value are dropped; none left is a refusal."""
    both = read_policy(policy(release("1"), release("2", FULL)).encode())
    assert [entry.version for entry in both.narrowed({16: PCR16}).releases] == ["1", "2"]
    other = both.narrowed({16: b"\7" * 48})
    assert [(entry.version, entry.pcrs[16]) for entry in other.releases] == [("1", b"\7" * 48)]
    with pytest.raises(EvidenceError) as refusal:
        both.narrowed({0: b"\7" * 48})
    assert refusal.value.code == "policy.contradiction"


LATER = "2027-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (policy(release(), release("2", FULL)), "overlap"),
        (policy(release(not_after=LATER), release("2", FULL, not_before="2026-12-31T00:00:00Z")), "overlap"),
        (policy(release(not_before=LATER), release("2")), "the same measurements"),
        (policy(release()), "without pcr16"),
        (policy(release(pcrs=FULL)), "which configuration"),
        (policy(nonce='"insecure_any"'), "insecure_any"),
        (policy(unknown_fields='"ignore"'), "unknown_fields"),
        (policy(insecure_allow_debug="true"), "insecure_allow_debug"),
        (policy(max_age_seconds="10801"), "3 hours"),
        (policy(clock_drift_seconds="601"), "10 minutes"),
        (policy(release(not_after="2026-01-01T00:00:00Z")), "in its window"),
    ],
)
def test_what_a_policy_allows_is_said(text: str, said: str) -> None:
    """Well-formed, and worth a question."""
    assert any(said in warning for warning in warnings(read_policy(text.encode()), at=datetime(2026, 7, 1, tzinfo=UTC)))


def test_a_strict_policy_leaves_nothing_to_say() -> None:
    """Nor do windows that follow each other without a gap."""
    assert warnings(read_policy(WHOLE.encode()), at=datetime(2026, 7, 1, tzinfo=UTC)) == ()
    moment = "2026-12-01T00:00:00Z"
    named = {"configuration": f'"{DIGEST.hex()}"'}
    changed = {**FULL, 0: b"\7" * 48}
    handover = policy(release("1", FULL, not_after=moment, **named), release("2", changed, not_before=moment, **named))
    assert warnings(read_policy(handover.encode())) == ()


KEY, STRANGER = Ed25519PrivateKey.from_private_bytes(b"1" * 32), Ed25519PrivateKey.from_private_bytes(b"2" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()


def signature_code(data: bytes, signature: bytes, key: bytes = PUBLIC) -> str:
    with pytest.raises(EvidenceError) as refusal:
        verify_signature(data, signature, public_key=key)
    return refusal.value.code


def test_a_signature_is_over_these_bytes_by_this_key_for_this_purpose() -> None:
    """A space more, another key, a signature of the same key for something else: refused."""
    data = WHOLE.encode()
    signature = sign(data, key=KEY)
    verify_signature(data, signature, public_key=PUBLIC)
    assert signature_code(data + b" ", signature) == "policy.signature"
    assert signature_code(data, sign(data, key=STRANGER)) == "policy.signature"
    assert signature_code(data, signature, key=bytes(31)) == "policy.signature"
    assert signature_code(data, signature[:-64] + KEY.sign(data)) == "policy.signature"
    assert signature_code(data, signature[:-1]) == "encoding.truncated"
    assert signature_code(data, signature + b"\0") == "encoding.trailing"
    header, raw = bytes.fromhex("a10127"), signature[-64:]
    forms: tuple[list[object], ...] = (
        [header, {}, b"", raw],
        [header, {4: b"k"}, None, raw],
        [bytes.fromhex("a1013822"), {}, None, raw],
        [header, {}, None, raw[1:]],
        [header, {}, None],
    )
    for parts in forms:
        assert signature_code(data, cbor(parts)) == "policy.signature_form"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300) | st.binary(max_size=300))
def test_noise_is_no_policy(noise: str | bytes) -> None:
    """Whatever it is, it ends in a code."""
    data = noise.encode("utf-8", "surrogatepass") if isinstance(noise, str) else noise
    assert code_of(data) in RULES


def test_a_thousand_mutated_policies_end_in_a_verdict() -> None:
    """Refused with a code, or read as a policy that still names measurements; quickly, within 50 MiB."""
    chance = random.Random("a thousand mutated policies")
    codes: dict[str, int] = {}
    slowest = 0.0
    tracemalloc.start()
    try:
        for _ in range(1000):
            data = bytearray(WHOLE.encode())
            for _ in range(chance.randint(1, 3)):
                at = chance.randrange(len(data))
                piece = chance.choice((b"", chance.randbytes(3), b"[" * 50, b'"', b"=", bytes(data[at : at + 40]) * 20))
                data[at : at + chance.randint(0, 20)] = piece
            began = time.process_time()
            try:
                found = read_policy(bytes(data))
            except EvidenceError as refusal:
                codes[refusal.code] = codes.get(refusal.code, 0) + 1
            else:
                assert all({0, 1, 2} <= set(entry.pcrs) for entry in found.releases)
            slowest = max(slowest, time.process_time() - began)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert codes.keys() <= RULES.keys()
    assert len(codes) >= 4, codes
    assert slowest < 0.5
    assert peak < 50 << 20
