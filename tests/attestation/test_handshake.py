"""The attested handshake: both directions, all three pairs of parties, and every way to cheat in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import RULES, EvidenceError
from cipherkeep_attestation.handshake import (
    DEADLINE,
    MARGIN,
    MESSAGE_LIMIT,
    Initiator,
    Judge,
    Responder,
    Session,
    Terms,
    hello,
    judge_responder,
    judge_with,
)
from cipherkeep_attestation.nitro.document import decode
from cipherkeep_attestation.nitro.verify import Attestation, InsecureAnyMeasurement, Measurements
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulators.attestation import IMAGE, PCRS, Draft, SimulatedEnclave, SimulatedHost, SimulatedPlatform, extend

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
PLATFORM = SimulatedPlatform(at=NOW)
CONFIGURATION = hashlib.sha384(b"configuration").digest()
TERMS = Terms(chain_id="cipherkeep-1", configuration_digest=CONFIGURATION, party="party-0")
RELEASE = Measurements({**IMAGE.pcrs, 16: extend(bytes(48), CONFIGURATION)})
NONCE, OTHER_NONCE, SESSION = b"i" * 32, b"r" * 32, b"s" * 16
MAX_AGE = timedelta(minutes=5)
P256 = ec.generate_private_key(ec.SECP256R1())


def enclave_judge(**changes: Any) -> Judge:
    return judge_with(
        **{"root": PLATFORM.root(), "kind": "enclave", "measurements": (RELEASE,), "max_age": MAX_AGE, **changes}
    )


def host_judge(**changes: Any) -> Judge:
    boot = Measurements({4: PCRS[4]})
    return judge_with(
        **{"root": PLATFORM.root(), "kind": "host", "measurements": (boot,), "max_age": MAX_AGE, **changes}
    )


def lax(document: bytes, *, nonce: bytes, public_key: bytes, at: datetime) -> Attestation:
    """A judge that checks nothing but the form: the handshake must not lean on it."""
    found = decode(document, expected=None)
    return Attestation(
        kind=found.kind,
        module_id=found.module_id,
        timestamp=found.timestamp,
        pcrs=found.pcrs,
        public_key=found.public_key,
        user_data=found.user_data,
        nonce=found.nonce,
        certificates=(),
        not_after=NOW + timedelta(hours=2),
        debug=False,
        document_digest=b"",
    )


@dataclass
class Pair:
    """A host that connects to an enclave, and what each of them is."""

    enclave: SimulatedEnclave
    host: SimulatedEnclave
    terms: Terms = TERMS
    own_terms: Terms = TERMS
    judge_enclave: Judge | None = None
    judge_host: Judge | None = None
    session_id: bytes = SESSION
    nonce: bytes = OTHER_NONCE

    def initiator(self) -> Initiator:
        return Initiator(
            certificate=self.host.certificate,
            attest=self.host.attest,
            judge=self.judge_enclave or enclave_judge(),
            terms=self.terms,
        )

    def responder(self) -> Responder:
        return Responder(
            certificate=self.enclave.certificate,
            attest=self.enclave.attest,
            judge=self.judge_host or (host_judge() if self.host.kind == "host" else enclave_judge()),
            terms=self.own_terms,
            session_id=self.session_id,
            nonce=self.nonce,
        )

    def two(self) -> tuple[Initiator, Responder, bytes]:
        """Both machines and message 2."""
        initiator, responder = self.initiator(), self.responder()
        return initiator, responder, responder.receive(initiator.start(NONCE), at=NOW)

    def three(self) -> tuple[Initiator, Responder, bytes]:
        """Both machines and message 3."""
        initiator, responder, second = self.two()
        return initiator, responder, initiator.receive(second, at=NOW)

    def run(self) -> tuple[Session, Session]:
        initiator, responder, third = self.three()
        fourth = responder.receive(third, at=NOW)
        return initiator.finish(fourth, at=NOW), responder.session


def pair(*, peer: type[SimulatedEnclave] = SimulatedHost) -> Pair:
    return Pair(
        enclave=SimulatedEnclave(PLATFORM, name="enclave", configuration=CONFIGURATION),
        host=peer(PLATFORM, name="peer", configuration=CONFIGURATION),
    )


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises(EvidenceError) as refusal:
        act()
    return refusal.value.code


def edited(message: bytes, **changes: Any) -> bytes:
    content: Any = cbor.decode(message)
    return cbor.encode({**content, **changes})


def without(message: bytes, name: str) -> bytes:
    content: Any = cbor.decode(message)
    return cbor.encode({key: value for key, value in content.items() if key != name})


def saying(**changes: Any) -> Callable[[Draft], None]:
    """An enclave that signs other user data than the handshake asked for."""

    def edit(draft: Draft) -> None:
        said: Any = cbor.decode(draft.fields["user_data"])
        draft.fields["user_data"] = cbor.encode({**said, **changes})

    return edit


def setting(**changes: Any) -> Callable[[Draft], None]:
    return lambda draft: draft.fields.update(changes)


# --- what must work ---


@pytest.mark.parametrize("peer", [SimulatedHost, SimulatedEnclave])
def test_both_sides_get_the_same_session(peer: type[SimulatedEnclave]) -> None:
    """Host to enclave and enclave to enclave end with the same pair of certificates, seen from both sides."""
    parties = pair(peer=peer)
    mine, theirs = parties.run()
    assert mine.session_id == theirs.session_id == SESSION
    assert mine.own_certificate == theirs.peer_certificate == parties.host.certificate
    assert mine.peer_certificate == theirs.own_certificate == parties.enclave.certificate
    assert mine.expires == theirs.expires
    assert (mine.peer.kind, theirs.peer.kind) == ("enclave", parties.host.kind)
    assert mine.peer.public_key == parties.enclave.spki
    assert theirs.peer.public_key == parties.host.spki


def test_a_session_ends_before_the_first_document_or_certificate() -> None:
    """The shortest of two leaves and two certificates decides, less the margin for renewal."""
    leaf_end = PLATFORM.path()["leaf"].not_after
    assert pair().run()[0].expires == leaf_end - MARGIN
    parties = pair()
    parties.host.channel.not_after = NOW + timedelta(minutes=20)
    parties.host.certificate = parties.host.channel.sign()
    assert {session.expires for session in parties.run()} == {NOW + timedelta(minutes=20) - MARGIN}


def test_an_auditor_may_stop_after_the_first_answer() -> None:
    """Whoever sends a nonce learns what answers, whatever the terms, and needs no document of his own."""
    said = judge_responder(pair().responder().receive(hello(NONCE), at=NOW), nonce=NONCE, judge=enclave_judge(), at=NOW)
    assert (said.terms, said.session_id, said.nonce) == (TERMS, SESSION, OTHER_NONCE)
    assert said.attestation.pcrs[0] == PCRS[0]


def test_the_user_data_fits_what_aws_promises() -> None:
    """With the longest names allowed, the attested user data stays within 512 bytes."""
    parties = pair()
    parties.own_terms = parties.terms = Terms("c" * 64, CONFIGURATION, "p" * 64)
    sizes: list[int] = []
    for side in (parties.enclave, parties.host):
        side.edit = lambda draft: sizes.append(len(draft.fields["user_data"]))
    parties.run()
    assert len(sizes) == 2
    assert max(sizes) <= 512


# --- documents that prove something else ---

RESPONDER_LIES: list[tuple[str, Callable[[Draft], None]]] = [
    ("document.nonce", setting(nonce=b"x" * 32)),
    ("document.nonce", setting(nonce=None)),
    ("document.public_key", setting(public_key=b"another")),
    ("document.public_key", setting(public_key=None)),
    ("document.debug", setting(pcrs={**{n: bytes(48) for n in range(16)}, 16: RELEASE.pcrs[16]})),
    ("document.pcr_mismatch", setting(pcrs={**PCRS, 0: b"\x42" * 48, 16: RELEASE.pcrs[16]})),
    ("document.pcr_mismatch", setting(pcrs={**PCRS, 16: extend(bytes(48), b"\1" * 48)})),
    ("document.pcr_mismatch", setting(pcrs=dict(PCRS))),
    ("document.too_old", setting(timestamp=round((NOW - timedelta(minutes=6)).timestamp() * 1000))),
    ("path.expired", lambda draft: setattr(draft.path["leaf"], "not_after", NOW - timedelta(seconds=1))),
    ("path.signature", lambda draft: setattr(draft.path["leaf"], "signer", PLATFORM.key("leaf"))),
    ("handshake.user_data", setting(user_data=None)),
    ("handshake.user_data", setting(user_data=b"")),
    ("handshake.user_data", setting(user_data=bytes(513))),
    ("handshake.user_data", setting(user_data=b"\x80")),
    ("handshake.user_data", saying(label="another")),
    ("handshake.user_data", saying(version=2)),
    ("handshake.user_data", saying(version=True)),
    ("handshake.user_data", saying(role="auditor")),
    ("handshake.user_data", saying(extra=1)),
    ("handshake.user_data", saying(nonce=b"short")),
    ("handshake.user_data", saying(party="p\n")),
    ("handshake.user_data", saying(party="é")),
    ("handshake.user_data", saying(party="p" * 65)),
    ("handshake.user_data", saying(chain="")),
    ("handshake.certificate", saying(certificate=bytes(48))),
    ("handshake.role", saying(role="initiator")),
    ("handshake.chain", saying(chain="another-1")),
    ("handshake.party", saying(party="party-1")),
    ("handshake.configuration_pcr", saying(configuration=b"\1" * 48)),
]


@pytest.mark.parametrize(("code", "edit"), RESPONDER_LIES, ids=[f"{n}-{c}" for n, (c, _) in enumerate(RESPONDER_LIES)])
def test_a_responder_that_lies_is_refused(code: str, edit: Callable[[Draft], None]) -> None:
    """Even hardware that signs anything cannot make an initiator accept another thing than it expects."""
    parties = pair()
    parties.enclave.edit = edit
    initiator, _, second = parties.two()
    assert code_of(lambda: initiator.receive(second, at=NOW)) == code
    assert code_of(lambda: initiator.receive(second, at=NOW)) == "handshake.failed"


INITIATOR_LIES: list[tuple[str, Callable[[Draft], None]]] = [
    ("document.nonce", setting(nonce=NONCE)),
    ("document.public_key", setting(public_key=b"another")),
    ("document.pcr_mismatch", setting(nitrotpm_pcrs={**PCRS, 4: bytes(48)})),
    ("document.too_old", setting(timestamp=round((NOW - timedelta(minutes=6)).timestamp() * 1000))),
    ("path.expired", lambda draft: setattr(draft.path["leaf"], "not_after", NOW - timedelta(seconds=1))),
    ("handshake.user_data", setting(user_data=None)),
    ("handshake.user_data", saying(responder=b"short")),
    ("handshake.certificate", saying(certificate=bytes(48))),
    ("handshake.role", saying(role="responder")),
    ("handshake.session", saying(session=b"t" * 16)),
    ("handshake.responder_document", saying(responder=bytes(48))),
]


@pytest.mark.parametrize(("code", "edit"), INITIATOR_LIES, ids=[f"{n}-{c}" for n, (c, _) in enumerate(INITIATOR_LIES)])
def test_an_initiator_that_lies_is_refused(code: str, edit: Callable[[Draft], None]) -> None:
    """The responder holds the initiator to its own nonce, session and document."""
    parties = pair()
    initiator, responder, second = parties.two()
    honest, lies = parties.host.attest, []

    def attest(**claims: bytes) -> bytes:
        """Shows its own machine an honest document and keeps a lying one for the other side."""
        parties.host.edit = edit
        lies.append(honest(**claims))
        parties.host.edit = lambda draft: None
        return honest(**claims)

    initiator._attest = attest
    third = initiator.receive(second, at=NOW)
    assert code_of(lambda: responder.receive(edited(third, document=lies[0]), at=NOW)) == code
    assert code_of(lambda: responder.session) == "handshake.state"


def test_a_configuration_that_differs_is_named_as_such() -> None:
    """A responder that honestly runs another configuration is refused by that name when the release allows it."""
    other = hashlib.sha384(b"another configuration").digest()
    parties = pair()
    parties.enclave = SimulatedEnclave(PLATFORM, name="enclave", configuration=other)
    parties.own_terms = replace(TERMS, configuration_digest=other)
    parties.judge_enclave = enclave_judge(measurements=(IMAGE,))
    initiator, _, second = parties.two()
    assert code_of(lambda: initiator.receive(second, at=NOW)) == "handshake.configuration"


def test_an_enclave_that_measured_nothing_is_refused_by_every_judge() -> None:
    """PCR16 is compared with the claimed configuration even where the policy does not name it."""
    parties = pair()
    parties.judge_enclave = enclave_judge(measurements=(IMAGE,))
    parties.enclave.pcrs = dict(PCRS)
    initiator, _, second = parties.two()
    assert code_of(lambda: initiator.receive(second, at=NOW)) == "handshake.configuration_pcr"


# --- messages that belong elsewhere ---


def test_a_responders_document_is_no_initiators() -> None:
    """An enclave's answer to someone's nonce, replayed as that someone's own document, is refused by its role."""
    parties = pair(peer=SimulatedEnclave)
    _, responder, third = parties.three()
    victim = Pair(enclave=parties.host, host=parties.enclave, session_id=b"v" * 16).responder()
    answer: Any = cbor.decode(victim.receive(hello(OTHER_NONCE), at=NOW))
    replay = edited(third, document=answer["document"], certificate=answer["certificate"])
    assert code_of(lambda: responder.receive(replay, at=NOW)) == "handshake.role"


def test_an_initiators_document_is_no_responders() -> None:
    """The other way round likewise."""
    parties = pair(peer=SimulatedEnclave)
    initiator, _, third = parties.three()
    spoken: Any = cbor.decode(third)
    other = Pair(enclave=parties.enclave, host=parties.enclave).initiator()
    other.start(OTHER_NONCE)
    replay = edited(third, step=2, document=spoken["document"])
    assert code_of(lambda: other.receive(without(replay, "session"), at=NOW)) == "handshake.role"
    assert initiator is not other


def test_a_message_reflected_to_its_sender_is_refused() -> None:
    """A side that is shown its own key talks to itself."""
    parties = pair()
    initiator, responder, second = parties.two()
    mirror = Pair(enclave=parties.enclave, host=parties.enclave, judge_host=enclave_judge()).initiator()
    mirror.start(NONCE)
    assert code_of(lambda: mirror.receive(second, at=NOW)) == "handshake.reflected"
    third = edited(initiator.receive(second, at=NOW), certificate=parties.enclave.certificate)
    assert code_of(lambda: responder.receive(third, at=NOW)) == "handshake.reflected"


def test_own_messages_coming_back_are_of_the_wrong_step() -> None:
    """Each side takes only the step that is due."""
    parties = pair()
    initiator, responder = parties.initiator(), parties.responder()
    first = initiator.start(NONCE)
    assert code_of(lambda: initiator.receive(first, at=NOW)) == "handshake.step"
    second = responder.receive(first, at=NOW)
    assert code_of(lambda: responder.receive(second, at=NOW)) == "handshake.step"


def test_a_repeated_message_is_refused() -> None:
    """The same message twice is the wrong step, or an error of state when all is done."""
    parties = pair()
    responder = parties.responder()
    responder.receive(hello(NONCE), at=NOW)
    assert code_of(lambda: responder.receive(hello(NONCE), at=NOW)) == "handshake.step"
    initiator, responder, third = parties.three()
    fourth = responder.receive(third, at=NOW)
    assert code_of(lambda: responder.receive(third, at=NOW)) == "handshake.state"
    initiator.finish(fourth, at=NOW)
    assert code_of(lambda: initiator.finish(fourth, at=NOW)) == "handshake.state"


def test_steps_out_of_order_are_refused() -> None:
    """No step works before the one that leads to it."""
    parties = pair()
    _, _, second = parties.two()
    _, _, third = parties.three()
    assert code_of(lambda: parties.initiator().receive(second, at=NOW)) == "handshake.state"
    assert code_of(lambda: parties.initiator().finish(second, at=NOW)) == "handshake.state"
    assert code_of(lambda: parties.responder().receive(third, at=NOW)) == "handshake.step"
    assert code_of(lambda: parties.responder().session) == "handshake.state"
    initiator = parties.initiator()
    initiator.start(NONCE)
    assert code_of(lambda: initiator.start(NONCE)) == "handshake.state"


def test_a_message_spliced_from_another_session_is_refused() -> None:
    """Message 3 of one session does not fit another, whichever parts are exchanged."""
    parties = pair()
    _, responder, _ = parties.three()
    _, _, foreign = replace(parties, session_id=b"t" * 16, nonce=b"q" * 32).three()
    assert code_of(lambda: responder.receive(foreign, at=NOW)) == "handshake.session"
    _, responder, _ = parties.three()
    assert code_of(lambda: responder.receive(edited(foreign, session=SESSION), at=NOW)) == "document.nonce"
    _, responder, _ = parties.three()
    _, _, foreign = replace(parties, session_id=b"t" * 16).three()
    assert code_of(lambda: responder.receive(edited(foreign, session=SESSION), at=NOW)) == "handshake.session"
    _, responder, _ = parties.three()
    _, _, foreign = parties.three()
    assert code_of(lambda: responder.receive(foreign, at=NOW)) == "handshake.responder_document"


def test_an_acceptance_of_another_session_is_refused() -> None:
    """Message 4 names the session; a refusal is one."""
    initiator, responder, third = pair().three()
    fourth = responder.receive(third, at=NOW)
    assert code_of(lambda: initiator.finish(edited(fourth, session=b"t" * 16), at=NOW)) == "handshake.session"
    initiator, responder, _ = pair().three()
    assert code_of(lambda: initiator.finish(responder.refusal(), at=NOW)) == "handshake.not_accepted"


# --- keys and certificates ---


def test_a_certificate_of_another_key_is_refused() -> None:
    """The document binds the key; a certificate beside it that has another is somebody else's."""
    parties = pair()
    stranger = SimulatedEnclave(PLATFORM, name="stranger")
    initiator, responder, second = parties.two()
    swapped = edited(second, certificate=stranger.certificate)
    assert code_of(lambda: initiator.receive(swapped, at=NOW)) == "document.public_key"
    initiator, responder, third = parties.three()
    swapped = edited(third, certificate=stranger.certificate)
    assert code_of(lambda: responder.receive(swapped, at=NOW)) == "document.public_key"


def test_another_certificate_of_the_same_key_is_refused() -> None:
    """Whoever is in between cannot choose the names and the validity that get pinned."""
    parties = pair()
    initiator, responder, second = parties.two()
    parties.enclave.channel.subject = "host 0"
    forged = edited(second, certificate=parties.enclave.channel.sign())
    assert code_of(lambda: initiator.receive(forged, at=NOW)) == "handshake.certificate"
    _, responder, third = pair().three()
    parties.host.channel.not_after += timedelta(days=300)
    forged = edited(third, certificate=parties.host.channel.sign())
    assert code_of(lambda: responder.receive(forged, at=NOW)) == "handshake.certificate"


def test_certificates_of_other_makers_are_taken() -> None:
    """A channel certificate made by a common library, with a key of any kind, opens a session."""
    parties = pair()
    for side, key in ((parties.enclave, ed25519.Ed25519PrivateKey.generate()), (parties.host, P256)):
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"channel {side.name}")])
        builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(NOW - timedelta(hours=1)).not_valid_after(NOW + timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("enclave")]), critical=False)
        hashed = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        side.certificate = builder.sign(key, hashed).public_bytes(Encoding.DER)
    mine, theirs = parties.run()
    assert (mine.own_certificate, mine.peer_certificate) == (theirs.peer_certificate, theirs.own_certificate)


def test_the_handshake_does_not_lean_on_its_judge() -> None:
    """With a judge that checks nothing, nonce and key binding are still demanded."""
    parties = replace(pair(), judge_enclave=lax, judge_host=lax)
    stranger = SimulatedEnclave(PLATFORM, name="stranger")
    initiator, _, second = parties.two()
    swapped = edited(second, certificate=stranger.certificate)
    assert code_of(lambda: initiator.receive(swapped, at=NOW)) == "handshake.key_binding"
    other = parties.initiator()
    other.start(b"o" * 32)
    assert code_of(lambda: other.receive(second, at=NOW)) == "handshake.nonce"


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("handshake.certificate_authority", {"authority": True}),
        ("handshake.certificate_authority", {"authority": None}),
        ("handshake.certificate_authority", {"usage": (0, 5)}),
        ("handshake.certificate_validity", {"not_after": NOW - timedelta(seconds=1)}),
        ("handshake.certificate_validity", {"not_before": NOW + timedelta(seconds=1)}),
        ("certificate.version", {"version": b""}),
    ],
)
def test_a_channel_certificate_has_one_form(code: str, changes: dict[str, Any]) -> None:
    """An authority's certificate would let its holder make others; an old one would open no channel."""
    parties = pair()
    initiator, _, second = parties.two()
    for name, value in changes.items():
        setattr(parties.enclave.channel, name, value)
    forged = edited(second, certificate=parties.enclave.channel.sign())
    assert code_of(lambda: initiator.receive(forged, at=NOW)) == code
    parties = pair()
    _, responder, third = parties.three()
    for name, value in changes.items():
        setattr(parties.host.channel, name, value)
    forged = edited(third, certificate=parties.host.channel.sign())
    assert code_of(lambda: responder.receive(forged, at=NOW)) == code


def test_ones_own_bad_certificate_is_noticed_at_home() -> None:
    """A side refuses to begin with a certificate that the other would refuse."""
    parties = pair()
    parties.enclave.channel.authority = True
    parties.enclave.certificate = parties.enclave.channel.sign()
    assert code_of(lambda: parties.responder().receive(hello(NONCE), at=NOW)) == "handshake.certificate_authority"


# --- kinds, roots, times ---


def test_each_side_demands_its_kind_of_document() -> None:
    """A host's document does not make an enclave, nor the reverse."""
    parties = replace(pair(peer=SimulatedEnclave), judge_host=host_judge())
    _, responder, third = parties.three()
    assert code_of(lambda: responder.receive(third, at=NOW)) == "document.is_enclave_document"
    parties = replace(pair(), judge_host=enclave_judge())
    _, responder, third = parties.three()
    assert code_of(lambda: responder.receive(third, at=NOW)) == "document.is_host_document"


def test_another_root_is_refused_by_both() -> None:
    """A platform of one's own vouches for nobody else."""
    elsewhere = SimulatedPlatform(at=NOW, name="elsewhere")
    parties = pair()
    parties.enclave.platform = elsewhere
    initiator, _, second = parties.two()
    assert code_of(lambda: initiator.receive(second, at=NOW)) == "path.root"
    parties = pair()
    parties.host.platform = elsewhere
    _, responder, third = parties.three()
    assert code_of(lambda: responder.receive(third, at=NOW)) == "path.root"


def test_debug_needs_the_word_in_the_judge() -> None:
    """An enclave in debug mode is a peer only for a judge that says so by its long name."""
    parties = pair()
    parties.enclave.pcrs = {**{index: bytes(48) for index in range(16)}, 16: RELEASE.pcrs[16]}
    parties.judge_enclave = enclave_judge(measurements=InsecureAnyMeasurement())
    initiator, _, second = parties.two()
    assert code_of(lambda: initiator.receive(second, at=NOW)) == "document.debug"
    parties.judge_enclave = enclave_judge(measurements=InsecureAnyMeasurement(), insecure_allow_debug=True)
    assert parties.run()[0].peer.debug is True


def test_a_slow_handshake_is_refused() -> None:
    """A minute after it began, a handshake is over."""
    initiator, responder, third = pair().three()
    late = NOW + DEADLINE + timedelta(seconds=1)
    assert code_of(lambda: responder.receive(third, at=late)) == "handshake.timeout"
    initiator, responder, third = pair().three()
    fourth = responder.receive(third, at=NOW + DEADLINE)
    assert code_of(lambda: initiator.finish(fourth, at=late)) == "handshake.timeout"


def test_a_document_about_to_end_opens_no_session() -> None:
    """A leaf or certificate with less life than the margin is of no use, whoever's it is."""
    parties = pair()
    parties.enclave.channel.not_after = NOW + MARGIN
    parties.enclave.certificate = parties.enclave.channel.sign()
    initiator, _, second = parties.two()
    assert code_of(lambda: initiator.receive(second, at=NOW)) == "handshake.expires"
    parties = pair()
    parties.host.edit = lambda draft: setattr(draft.path["leaf"], "not_after", NOW + MARGIN)
    initiator, _, second = parties.two()
    assert code_of(lambda: initiator.receive(second, at=NOW)) == "handshake.expires"


# --- form ---


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("handshake.size", bytes(MESSAGE_LIMIT + 1)),
        ("handshake.message", b""),
        ("handshake.message", hello(NONCE) + b"\0"),
        ("handshake.message", cbor.encode([])),
        ("handshake.message", cbor.encode({})),
        ("handshake.message", edited(hello(NONCE), label="another")),
        ("handshake.message", edited(hello(NONCE), nonce=b"short")),
        ("handshake.message", edited(hello(NONCE), extra=1)),
        ("handshake.message", without(hello(NONCE), "nonce")),
        ("handshake.message", edited(hello(NONCE), version=True)),
        ("handshake.message", edited(hello(NONCE), step=True)),
        ("handshake.message", b"\xbf" + hello(NONCE)[1:] + b"\xff"),
        ("handshake.version", edited(hello(NONCE), version=2)),
        ("handshake.step", edited(hello(NONCE), step=3)),
        ("handshake.step", without(hello(NONCE), "step")),
    ],
)
def test_a_malformed_message_is_refused(code: str, message: bytes) -> None:
    """One encoding, exactly the fields of the step, bounded before it is read."""
    responder = pair().responder()
    assert code_of(lambda: responder.receive(message, at=NOW)) == code
    assert code_of(lambda: responder.receive(hello(NONCE), at=NOW)) == "handshake.failed"


def test_a_wrong_caller_is_told_so() -> None:
    """Short nonces, long names and short digests are errors of the caller."""
    with pytest.raises(ValueError, match="32 bytes"):
        hello(b"short")
    with pytest.raises(ValueError, match="16 bytes"):
        replace(pair(), session_id=b"").responder()
    with pytest.raises(ValueError, match="nonce 32"):
        replace(pair(), nonce=b"n" * 31).responder()
    for chain, digest, party in (
        ("", CONFIGURATION, "p"),
        ("c", b"", "p"),
        ("c", CONFIGURATION, "p" * 65),
        ("ç", CONFIGURATION, "p"),
        ("c", CONFIGURATION, "p\n"),
    ):
        with pytest.raises(ValueError, match=r"characters|48 bytes"):
            Terms(chain, digest, party)


SECOND = pair().responder().receive(hello(NONCE), at=NOW)
PARTIES = pair()
_THIRD_INITIATOR = PARTIES.initiator()
_THIRD_INITIATOR.start(NONCE)
THIRD = _THIRD_INITIATOR.receive(SECOND, at=NOW)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_mutated_answer_is_refused(data: st.DataObject) -> None:
    """No changed byte of message 2 survives, wherever it is."""
    mutated = bytearray(SECOND)
    mutated[data.draw(st.integers(0, len(mutated) - 1))] ^= data.draw(st.integers(1, 255))
    initiator = PARTIES.initiator()
    initiator.start(NONCE)
    assert code_of(lambda: initiator.receive(bytes(mutated), at=NOW)) in RULES


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_mutated_third_message_is_refused(data: st.DataObject) -> None:
    """The responder that made message 2 anew takes no message 3 made for another of its documents, changed or not."""
    mutated = bytearray(THIRD)
    mutated[data.draw(st.integers(0, len(mutated) - 1))] ^= data.draw(st.integers(0, 255))
    responder = PARTIES.responder()
    responder.receive(hello(NONCE), at=NOW)
    assert code_of(lambda: responder.receive(bytes(mutated), at=NOW)) in RULES
