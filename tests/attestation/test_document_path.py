"""Every rule about certificates and the path they form has an attack that meets it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from asn1crypto import x509 as asn1
from cipherkeep_attestation.errors import EvidenceError, Malformed, Stale
from cipherkeep_attestation.nitro.certificate import LIMIT, ecdsa_signature, read_certificate
from cipherkeep_attestation.nitro.verify import NO_NONCE, Policy, TrustRoot, aws_root, verify
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulators.attestation import (
    AUTHORITY_KEY_ID,
    BASIC_CONSTRAINTS,
    ECDSA_SHA384,
    IMAGE,
    KEY_USAGE,
    ROLES,
    SUBJECT_KEY_ID,
    CertificateDraft,
    Draft,
    SimulatedPlatform,
    der,
    extension,
    integer,
    moment,
    named,
    spki,
)

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
PLATFORM = SimulatedPlatform(at=NOW)
STRANGER = SimulatedPlatform(at=NOW, name="stranger")
POLICY = Policy(measurements=(IMAGE,), nonce=NO_NONCE, public_key=None, max_age=timedelta(minutes=5))


def code_of(draft: Draft, *, root: TrustRoot | None = None, at: datetime = NOW) -> str:
    with pytest.raises(EvidenceError) as refusal:
        verify(draft.sign(), root=root or PLATFORM.root(), policy=POLICY, at=at)
    return refusal.value.code


def on(role: str, **changes: Any) -> Callable[[Draft], None]:
    def edit(draft: Draft) -> None:
        for name, value in changes.items():
            assert hasattr(draft.path[role], name)
            setattr(draft.path[role], name, value)

    return edit


def bundle(*roles: str) -> Callable[[Draft], None]:
    return lambda draft: setattr(draft, "bundle", roles)


def with_extension(role: str, *raw: bytes) -> Callable[[Draft], None]:
    return on(role, extra=raw)


def chain_of_strangers(draft: Draft) -> None:
    """The stranger's own path, complete, with the trusted root put first."""
    own = STRANGER.path()
    draft.path = {**own, "root": draft.path["root"]}
    draft.path["regional"].issuer = draft.path["root"].subject
    draft.signer = STRANGER.key("leaf")


def leaf_made_by_a_leaf(draft: Draft) -> None:
    """Whoever holds one leaf key makes another leaf below it."""
    real = draft.path["leaf"]
    for role in ("regional", "zonal", "instance"):
        draft.path[role].path_length = None
    draft.path["second"] = CertificateDraft(**vars(real))
    draft.path["leaf"] = CertificateDraft(
        **{**vars(real), "issuer": real.subject, "subject": "mine", "signer": real.key, "key": STRANGER.key("leaf")}
    )
    draft.bundle = (*ROLES[:-1], "second")
    draft.signer = STRANGER.key("leaf")


def one_authority_too_many(draft: Draft) -> None:
    """An instance (path length 0) makes an authority below it, and that one the leaf."""
    instance = draft.path["instance"]
    draft.path["second"] = CertificateDraft(
        **{**vars(instance), "issuer": instance.subject, "subject": "second", "path_length": None}
    )
    draft.path["leaf"].issuer = "second"
    draft.bundle = (*ROLES[:-1], "second")


ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
P256 = ec.generate_private_key(ec.SECP256R1())
CURVE_LIE = spki(PLATFORM.key("leaf")).replace(bytes.fromhex("06052b81040022"), bytes.fromhex("06052b81040023"))
COMPRESSED = bytearray(spki(PLATFORM.key("leaf")))
COMPRESSED[len(COMPRESSED) - 97] = 2
ATTACKS: list[tuple[str, Callable[[Draft], None]]] = [
    ("path.root", bundle("regional", "zonal", "instance")),
    ("path.root", bundle("zonal", "root", "regional", "instance")),
    ("path.issuer", bundle("root", "zonal", "instance")),
    ("path.issuer", bundle("root", "regional", "instance", "zonal")),
    ("path.issuer", bundle("root")),
    ("path.issuer", on("zonal", issuer="another")),
    ("path.issuer", on("leaf", issuer="another")),
    ("path.signature", chain_of_strangers),
    ("path.signature", on("leaf", signer=PLATFORM.key("zonal"))),
    ("path.signature", on("regional", signer=PLATFORM.key("regional"))),
    ("path.key_identifier", on("zonal", authority_key_id=b"\1" * 20)),
    ("path.authority", leaf_made_by_a_leaf),
    ("path.authority", on("zonal", authority=False, path_length=None)),
    ("path.authority", on("instance", authority=None)),
    ("path.length", one_authority_too_many),
    ("path.length", on("regional", path_length=1)),
    ("path.length", on("zonal", path_length=0)),
    ("path.leaf_authority", on("leaf", authority=True)),
    ("path.key_usage", on("instance", usage=(0,))),
    ("path.key_usage", on("instance", usage=None)),
    ("path.key_usage", on("leaf", usage=(1,))),
    ("path.key_usage", on("leaf", usage=None)),
    ("path.key_usage", on("leaf", usage=(0, 5))),
    ("path.expired", on("leaf", not_after=NOW - timedelta(seconds=1))),
    ("path.expired", on("zonal", not_after=NOW - timedelta(seconds=1))),
    ("path.not_yet_valid", on("leaf", not_before=NOW + timedelta(seconds=61))),
    ("path.not_yet_valid", on("instance", not_before=NOW + timedelta(days=1))),
    ("certificate.version", on("leaf", version=b"")),
    ("certificate.version", on("leaf", version=bytes.fromhex("a003020101"))),
    ("certificate.structure", on("leaf", version=bytes.fromhex("a006020102020102"))),
    ("certificate.serial", on("leaf", serial=0)),
    ("certificate.serial", on("leaf", serial=-5)),
    ("certificate.serial", on("leaf", serial=1 << 160)),
    ("certificate.algorithm", on("leaf", outer_algorithm=bytes.fromhex("300a06082a8648ce3d040302"))),
    ("certificate.algorithm", on("leaf", algorithm=bytes.fromhex("300a06082a8648ce3d040302"))),
    ("certificate.algorithm", on("leaf", algorithm=bytes.fromhex("300c06082a8648ce3d0403030500"))),
    ("certificate.algorithm", on("leaf", algorithm=ECDSA_SHA256, outer_algorithm=ECDSA_SHA384)),
    ("certificate.time", on("leaf", validity=der(0x30, der(0x17, b"2607011200Z"), moment(NOW)))),
    ("certificate.time", on("leaf", validity=der(0x30, der(0x17, b"260701120000X"), moment(NOW)))),
    ("certificate.time", on("leaf", validity=der(0x30, der(0x17, b"2607011200000"), moment(NOW)))),
    ("certificate.time", on("leaf", validity=der(0x30, der(0x17, b"260701120000+0100"), moment(NOW)))),
    ("certificate.time", on("leaf", validity=der(0x30, der(0x17, b"261301120000Z"), moment(NOW)))),
    ("certificate.time", on("leaf", validity=der(0x30, der(0x17, b"26070112000 Z"), moment(NOW)))),
    ("certificate.time", on("leaf", validity=der(0x30, der(0x18, b"20260701120000Z"), moment(NOW)))),
    ("certificate.time", on("leaf", validity=der(0x30, der(0x18, b"20500701120000.5Z"), moment(NOW)))),
    ("certificate.structure", on("leaf", validity=der(0x30, moment(NOW)))),
    ("certificate.structure", on("leaf", validity=der(0x30, moment(NOW), moment(NOW), moment(NOW)))),
    ("certificate.key", on("leaf", spki=spki(P256))),
    ("certificate.key", on("instance", spki=spki(P256))),
    ("certificate.key", on("leaf", spki=bytes(COMPRESSED))),
    ("certificate.key", on("leaf", spki=CURVE_LIE)),
    ("document.signature", on("leaf", spki=spki(PLATFORM.key("leaf"))[:-1] + b"\0")),
    ("certificate.duplicate_extension", with_extension("leaf", extension(KEY_USAGE, b"\x03\x02\x07\x80"))),
    ("certificate.critical_extension", with_extension("zonal", extension("551d1e", der(0x30), critical=True))),
    ("certificate.critical_extension", with_extension("leaf", extension("551d25", der(0x30), critical=True))),
    ("certificate.extension", with_extension("leaf", extension(SUBJECT_KEY_ID, b"\x02\x01\x01"))),
    ("certificate.encoding", with_extension("leaf", extension(SUBJECT_KEY_ID, b"\x04\x02\x01"))),
    ("certificate.structure", with_extension("instance", extension(AUTHORITY_KEY_ID, der(0x30, integer(1))))),
    ("certificate.encoding", with_extension("leaf", der(0x30, der(6, b"\x55"), b"\x01\x01\0", der(4)))),
    ("certificate.encoding", with_extension("leaf", der(0x30, der(6, b"\x55"), b"\x01\x01\x01", der(4)))),
    ("certificate.structure", on("leaf", authority=None, usage=None, extra=(der(0x30, der(6, b"\x55")),))),
    ("certificate.encoding", on("leaf", edit=lambda tbs: tbs.replace(b"\xa3\x1d", b"\xa3\x1e", 1))),
]


@pytest.mark.parametrize(("code", "edit"), ATTACKS, ids=[f"{n}-{code}" for n, (code, _) in enumerate(ATTACKS)])
def test_a_lie_in_a_path_is_refused_by_its_rule(code: str, edit: Callable[[Draft], None]) -> None:
    """An authority that signs anything does not get past the rule that the lie breaks."""
    draft = PLATFORM.draft()
    edit(draft)
    assert code_of(draft) == code


@pytest.mark.parametrize(
    "edit",
    [
        on("leaf", authority=None),
        on("leaf", usage_critical=True),
        on("leaf", usage=(0,)),
        on("instance", subject_key_id=None, authority_key_id=None),
        with_extension("leaf", extension("551d1f", der(0x30))),
        on("zonal", not_after=datetime(2051, 1, 1, tzinfo=UTC)),
        bundle("root", "regional", "zonal", "instance"),
    ],
)
def test_what_hardware_may_vary_is_accepted(edit: Callable[[Draft], None]) -> None:
    """Key identifiers and the leaf's constraints may be absent, unknown uncritical extensions present."""
    draft = PLATFORM.draft()
    edit(draft)
    assert verify(draft.sign(), root=PLATFORM.root(), policy=POLICY, at=NOW).debug is False


def test_a_complete_path_of_a_stranger_is_refused() -> None:
    """A path that holds in itself is worth nothing under another root."""
    with pytest.raises(EvidenceError) as refusal:
        verify(STRANGER.document(), root=PLATFORM.root(), policy=POLICY, at=NOW)
    assert refusal.value.code == "path.root"


def test_a_root_with_the_same_name_and_key_is_another_root() -> None:
    """A root is known by every byte of it, not by its name or key."""
    draft = PLATFORM.draft()
    draft.path["root"].serial += 1
    assert code_of(draft) == "path.root"


def test_a_root_is_judged_like_any_authority() -> None:
    """A root that has expired, or is none, vouches for nobody, even when it is the trusted one."""
    for change, code in (
        ({"not_after": NOW - timedelta(days=1)}, "path.expired"),
        ({"authority": False}, "path.authority"),
        ({"usage": (6,)}, "path.key_usage"),
        ({"path_length": 2}, "path.length"),
    ):
        draft = PLATFORM.draft()
        on("root", **change)(draft)
        made = draft.path["root"].sign()
        draft.made["root"] = made
        assert code_of(draft, root=TrustRoot(made, "changed")) == code


def test_the_edges_of_validity_belong_to_it() -> None:
    """A certificate holds from its first to its last second, and not a second earlier unless a drift is named."""
    draft, second = PLATFORM.draft(), timedelta(seconds=1)
    draft.path["leaf"].not_before = NOW
    draft.path["zonal"].not_after = NOW
    assert verify(draft.sign(), root=PLATFORM.root(), policy=POLICY, at=NOW)
    draft.path["leaf"].not_before = NOW + second
    made = draft.sign()
    with pytest.raises(Stale) as refusal:
        verify(made, root=PLATFORM.root(), policy=POLICY, at=NOW)
    assert refusal.value.code == "path.not_yet_valid"
    assert verify(made, root=PLATFORM.root(), policy=replace(POLICY, clock_drift=second), at=NOW)


@pytest.mark.parametrize("drift", [timedelta(0), timedelta(hours=1)], ids=str)
@pytest.mark.parametrize(
    ("at", "code"),
    [
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), "path.expired"),
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-5))), "path.expired"),
        (datetime(1, 1, 1, tzinfo=UTC), "path.not_yet_valid"),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))), "path.not_yet_valid"),
    ],
    ids=str,
)
def test_times_at_either_end_are_judged_like_any_other(at: datetime, code: str, drift: timedelta) -> None:
    """No sum leaves the years that a time can name."""
    made = PLATFORM.document(nonce=b"n" * 32)
    with pytest.raises(Stale) as refusal:
        verify(made, root=PLATFORM.root(), policy=replace(POLICY, clock_drift=drift), at=at)
    assert refusal.value.code == code


def test_the_packaged_root_is_the_published_one() -> None:
    """G1 has the digest that AWS publishes, and is valid until 2049."""
    root = read_certificate(aws_root().certificate_der)
    assert (root.issuer, root.not_after.year) == (root.subject, 2049)


def test_a_changed_package_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packaged root is compared with AWS's published digest before anybody trusts it."""
    monkeypatch.setattr("cipherkeep_attestation.nitro.verify.AWS_ROOT_SHA256", "8cf60e2b" * 8)
    aws_root.cache_clear()
    try:
        with pytest.raises(EvidenceError) as refusal:
            aws_root()
    finally:
        aws_root.cache_clear()
    assert refusal.value.code == "document.root_data"


def test_others_read_what_the_simulator_writes() -> None:
    """Two other readers take the simulated certificates, so that attacks begin from honest ones."""
    for draft in PLATFORM.path().values():
        made = draft.sign()
        theirs = x509.load_der_x509_certificate(made)
        assert asn1.Certificate.load(made, strict=True).native["tbs_certificate"]["version"] == "v3"
        assert (theirs.not_valid_before_utc, len(list(theirs.extensions)) >= 2) == (draft.not_before, True)
        assert theirs.public_key() == draft.key.public_key()
        if draft.subject == draft.issuer:
            theirs.verify_directly_issued_by(theirs)
        else:
            signed = theirs.signature, theirs.tbs_certificate_bytes
            draft.signer.public_key().verify(*signed, ec.ECDSA(hashes.SHA384()))


def refused(data: bytes, *, code: str) -> None:
    with pytest.raises(Malformed) as refusal:
        read_certificate(data)
    assert refusal.value.code == code


GOOD = PLATFORM.path()["zonal"].sign()


def with_key(*items: bytes) -> bytes:
    """A certificate that is good but for what stands, unread, where its key should be."""
    draft = PLATFORM.path()["zonal"]
    draft.spki = der(0x30, *items)
    return draft.sign()


@pytest.mark.parametrize(
    "item",
    [
        der(0x01, b"\xff"),
        der(0x02, b"\0"),
        der(0x02, b"\0\x80"),
        der(0x02, b"\xff\x7f"),
        der(0x03, b"\0"),
        der(0x03, b"\x07\x80"),
        der(0x05),
        der(0x06, b"\x2a\x81\x01"),
        der(0x04, bytes(261)),
        der(0x31, integer(1), integer(1), integer(2)),
        der(0x80, b"anything"),
        der(0xA0, integer(1)),
        der(0x30),
    ],
    ids=lambda item: item.hex()[:20],
)
def test_any_der_may_stand_where_nobody_looks(item: bytes) -> None:
    """What is skipped must be DER and may be anything else: the next test relies on it."""
    assert read_certificate(with_key(item)).spki == der(0x30, item)


@pytest.mark.parametrize(
    "item",
    [
        b"\x30",
        b"\x30\x80\0\0",
        b"\x04\x81\x01\0",
        b"\x04\x82\0\x81" + bytes(129),
        b"\x04\x83\0\x01\x05" + bytes(261),
        b"\x04\x05\0",
        b"\x04\x82\x01",
        b"\x9f\x01\0",
        b"\x1f\x01\0",
        b"\0\0",
        der(0x01),
        der(0x01, b"\x01"),
        der(0x01, b"\xff\xff"),
        der(0x02, b"\0\x01"),
        der(0x02, b"\xff\xff"),
        der(0x02),
        der(0x05, b"\0"),
        der(0x06),
        der(0x06, b"\x80\x01"),
        der(0x06, b"\x55\x80\x01"),
        der(0x06, b"\x81"),
        der(0x03),
        der(0x03, b"\x01"),
        der(0x03, b"\x01\xff"),
        der(0x03, b"\x08\0"),
        der(0x24, der(0x04, b"a")),
        der(0x31, integer(2), integer(1)),
        der(0x10),
        der(0x11),
        der(0x41),
        der(0x61),
        der(0xA0, der(0x02, b"\0\x01")),
        der(0xA0, b"\x04\x02\0"),
        der(0x30, der(0x31, der(0x30, der(0x05, b"\0")))),
    ],
    ids=lambda item: item.hex()[:20],
)
def test_what_is_not_der_is_refused_even_where_nobody_looks(item: bytes) -> None:
    """Long or indefinite lengths, padded integers, long tags, unsorted sets, constructed strings."""
    refused(with_key(item), code="certificate.encoding")


@pytest.mark.parametrize(
    "data",
    [b"", b"\x30", GOOD[:-1], GOOD + b"\0", GOOD + b"\x05\0"],
    ids=["nothing", "a tag", "cut", "a zero more", "a null more"],
)
def test_a_certificate_is_one_item(data: bytes) -> None:
    """Neither cut nor followed by anything, not even by good DER."""
    refused(data, code="certificate.encoding")


def test_an_extension_is_one_item() -> None:
    """What follows an extension's value inside its octets would be read by others or by nobody."""
    for oid, value in ((BASIC_CONSTRAINTS, b"\x30\0\x05\0"), (AUTHORITY_KEY_ID, b"\x30\0\x05\0")):
        draft = PLATFORM.path()["leaf"]
        draft.authority, draft.extra = None, (extension(oid, value),)
        refused(draft.sign(), code="certificate.encoding")
    draft = PLATFORM.path()["leaf"]
    draft.extra = (extension(SUBJECT_KEY_ID, b"\x04\x01a\x05\0"),)
    refused(draft.sign(), code="certificate.extension")


def test_deep_nesting_is_refused() -> None:
    """Depth is bounded before anything is read."""
    nested = b""
    for _ in range(40):
        nested = der(0x30, nested)
    refused(nested, code="certificate.encoding")


def test_an_oversized_certificate_is_refused() -> None:
    """Nothing beyond the limit is looked at."""
    refused(bytes(LIMIT + 1), code="certificate.size")


@pytest.mark.parametrize(
    "name",
    [
        der(0x30, der(0x30)),
        der(0x30, der(0x31)),
        der(0x30, der(0x31, der(0x30, der(6, b"\x55")))),
        der(0x30, der(0x31, der(0x30, der(6, b"\x55"), der(0x0C, b"\xff")))),
        der(0x30, der(0x31, der(0x30, der(6, b"\x55"), der(0x13, b"a*b")))),
        der(0x30, der(0x31, der(0x30, der(6, b"\x55"), der(0x16, b"\xe9")))),
        der(0x30, der(0x31, der(0x30, der(6, b"\x55"), der(0x1E, b"\0a")))),
        der(0x30, der(0x31, der(0x30, der(6, b"\x55"), der(0x0C, b"a"), der(0x0C, b"a")))),
    ],
    ids=lambda name: name.hex(),
)
def test_a_name_has_one_structure(name: bytes) -> None:
    """Names are sets of identifiers with texts, and a text holds what its kind may hold."""
    draft = PLATFORM.path()["zonal"]
    draft.edit = lambda tbs: der(0x30, tbs[4:].replace(named(draft.subject), name))
    refused(draft.sign(), code="certificate.structure")


def test_a_name_may_hold_several_attributes_in_one_set() -> None:
    """Other makers write names of several attributes, in order."""
    draft = PLATFORM.path()["zonal"]
    one = der(0x30, der(6, b"\x55\x04\x03"), der(0x13, b"a"))
    two = der(0x30, der(6, b"\x55\x04\x0a"), der(0x16, b"b"))
    name = der(0x30, der(0x31, one, two))
    draft.edit = lambda tbs: der(0x30, tbs[4:].replace(named(draft.subject), name))
    assert read_certificate(draft.sign()).subject == name
    draft.edit = lambda tbs: der(0x30, tbs[4:].replace(named(draft.subject), der(0x30, der(0x31, two, one))))
    refused(draft.sign(), code="certificate.encoding")


def test_an_issuers_name_and_number_beside_its_key_are_read_over() -> None:
    """The order of a path is given, so only the key identifier of an authority's three is compared."""
    draft = PLATFORM.path()["instance"]
    named_too = der(0x30, der(0x80, b"id"), der(0xA1, der(0xA4, named("issuer"))), der(0x82, b"\1"))
    draft.extra = (extension(AUTHORITY_KEY_ID, named_too),)
    assert read_certificate(draft.sign()).authority_key_id == b"id"


def test_an_empty_list_of_extensions_and_half_bytes_are_refused() -> None:
    """What is empty is left out, and a signature has whole bytes."""
    draft = PLATFORM.path()["zonal"]
    draft.authority, draft.usage, draft.subject_key_id, draft.authority_key_id = None, None, None, None
    draft.edit = lambda tbs: der(0x30, tbs[2 + (tbs[1] & 0x7F) :], der(0xA3, der(0x30)))
    refused(draft.sign(), code="certificate.structure")
    made = PLATFORM.path()["zonal"].sign()
    start = made.rindex(b"\x03" + bytes([len(made) - made.rindex(ECDSA_SHA384) - 14]))
    half = made[: start + 2] + b"\1" + made[start + 3 : -1] + bytes([made[-1] & 0xFE])
    refused(half, code="certificate.structure")


def test_a_wrong_structure_is_refused() -> None:
    """DER that is no certificate, or one with parts missing, is refused as such."""
    for data in (der(0x31), der(0x30, integer(1)), der(0x30, der(0x30), der(0x30), der(0x04))):
        refused(data, code="certificate.structure")


@pytest.mark.parametrize(
    "raw",
    [
        extension(BASIC_CONSTRAINTS, b"\x30\x03\x01\x01\0"),
        extension(BASIC_CONSTRAINTS, b"\x30\x03\x02\x01\x01"),
        extension(BASIC_CONSTRAINTS, b"\x30\x06\x01\x01\xff\x02\x01\x80"),
        extension(BASIC_CONSTRAINTS, b"\x30\x07\x01\x01\xff\x02\x02\x01\x00"),
        extension(KEY_USAGE, b"\x03\x02\x00\x80"),
        extension(KEY_USAGE, b"\x03\x01\x00"),
        extension(KEY_USAGE, b"\x03\x03\x06\x80\x40"),
        extension(KEY_USAGE, b"\x04\x01\x80"),
    ],
    ids=lambda raw: raw.hex(),
)
def test_a_second_encoding_of_an_extension_is_refused(raw: bytes) -> None:
    """Default values are not written, lists of bits end with a bit that is set, lengths are small and positive."""
    draft = PLATFORM.path()["leaf"]
    draft.authority, draft.usage, draft.extra = None, None, (raw,)
    refused(draft.sign(), code="certificate.extension")


def test_other_keys_are_read_but_are_no_p384_points() -> None:
    """A channel certificate may have any key; a path only P-384."""
    draft = PLATFORM.path()["leaf"]
    public = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    draft.spki = der(0x30, bytes.fromhex("300506032b6570"), der(0x03, b"\0", public))
    certificate = read_certificate(draft.sign())
    assert certificate.spki == draft.spki
    with pytest.raises(Malformed, match=r"certificate\.key"):
        certificate.p384_point()


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        der(0x30, integer(1)),
        der(0x30, integer(1), integer(2), integer(3)),
        der(0x30, integer(-1), integer(2)),
        der(0x30, integer(1), integer(-2)),
        der(0x30, integer(1 << 384), integer(1)),
        der(0x30, integer(1), integer(1 << 384)),
        der(0x30, der(2, b"\0\x01"), integer(1)),
        der(0x30, integer(1), integer(1)) + b"\0",
        der(0x31, integer(1), integer(2)),
    ],
    ids=lambda signature: signature.hex()[:16] or "empty",
)
def test_a_signature_that_is_not_two_integers_is_refused(signature: bytes) -> None:
    """One signature has one DER encoding here: positive integers of at most 48 bytes."""
    with pytest.raises(Malformed) as refusal:
        ecdsa_signature(signature)
    assert refusal.value.code == "certificate.signature"


@settings(deadline=None)
@given(st.integers(0, (1 << 384) - 1), st.integers(0, (1 << 384) - 1))
def test_signatures_become_fixed_width(r: int, s: int) -> None:
    """Integers of any length become 48 bytes each."""
    assert ecdsa_signature(der(0x30, integer(r), integer(s))) == r.to_bytes(48, "big") + s.to_bytes(48, "big")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_mutated_certificate_is_read_or_refused(data: st.DataObject) -> None:
    """No change of bytes gives anything but a certificate or a refusal with a code."""
    mutated = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_certificate(bytes(mutated))
    except Malformed as malformed:
        assert malformed.code.startswith("certificate.")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_no_certificate(data: bytes) -> None:
    """Whatever it is, it is refused with a code."""
    with pytest.raises(Malformed):
        read_certificate(data)
