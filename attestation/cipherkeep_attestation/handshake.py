"""The only place that knows the attested handshake: two state machines, bytes in and bytes out, no I/O and no clock.

    initiator                                        responder (always an enclave)
    start(nonce)                 ── 1 nonce ──────►  receive(1) makes a document over that nonce
    receive(2) judges, answers   ◄─ 2 document ────
                                 ── 3 document ────► receive(3) judges; `session` is there
    finish(4) gives the session  ◄─ 4 accepted ────

Each side's document binds the key of its own channel certificate and the other's nonce, and says in `user_data` what
it was made for: its role, the session, and the certificate by its SHA-384. The responder's names party, chain and
configuration; the initiator's names the responder's document by its SHA-384. So a document serves one role, in one
session, towards one peer. The session is the pair of certificates: whoever runs the channel pins both and lets
nothing else through.

Channel certificates are self-signed X.509 of version 3 that say CA:FALSE, at most 2 KiB, made for one boot.
Nothing is kept between handshakes; a machine that has refused anything refuses everything after it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Refused, Stale
from cipherkeep_attestation.handshake_messages import (
    CERTIFICATE_FIELD,
    CERTIFICATE_LIMIT,
    DIGEST_BYTES,
    DOCUMENT_FIELD,
    MESSAGE_LIMIT,
    NONCE_BYTES,
    SESSION_BYTES,
    SESSION_FIELD,
    Judge,
    ResponderStatement,
    Terms,
    channel_certificate,
    hello,
    judge_peer,
    judge_responder,
    make_message,
    make_user_data,
    read_message,
    read_user_data,
)
from cipherkeep_attestation.nitro.certificate import Certificate, read_certificate
from cipherkeep_attestation.nitro.document import Kind, decode
from cipherkeep_attestation.nitro.verify import (
    Attestation,
    InsecureAnyMeasurement,
    Measurements,
    Policy,
    TrustRoot,
    verify,
    verify_host,
)

__all__ = [
    "CERTIFICATE_LIMIT",
    "CLOCK_DRIFT",
    "DEADLINE",
    "MARGIN",
    "MESSAGE_LIMIT",
    "NONCE_BYTES",
    "SESSION_BYTES",
    "Attest",
    "Initiator",
    "Judge",
    "Responder",
    "ResponderStatement",
    "Session",
    "Terms",
    "channel_certificate",
    "hello",
    "judge_responder",
    "judge_with",
]

DEADLINE = timedelta(seconds=60)  # from a side's first message to its last
CLOCK_DRIFT = timedelta(minutes=1)  # by which the clocks of host and enclave may differ
MARGIN = timedelta(minutes=5)  # a session ends this long before the first of its documents and certificates


class Attest(Protocol):
    """Whatever makes documents: the client of an NSM, or a host's NitroTPM."""

    def __call__(self, *, nonce: bytes, public_key: bytes, user_data: bytes) -> bytes:
        """A fresh document over these three."""


def judge_with(
    *,
    root: TrustRoot,
    kind: Kind,
    measurements: tuple[Measurements, ...] | InsecureAnyMeasurement,
    max_age: timedelta,
    clock_drift: timedelta = CLOCK_DRIFT,
    insecure_allow_debug: bool = False,
) -> Judge:
    """A judge that takes one kind of document under one root and policy; nonce and key are the handshake's."""
    judged_by = {"enclave": verify, "host": verify_host}[kind]

    def judge(document: bytes, *, nonce: bytes, public_key: bytes, at: datetime) -> Attestation:
        policy = Policy(
            measurements=measurements,
            nonce=nonce,
            public_key=public_key,
            max_age=max_age,
            clock_drift=clock_drift,
            insecure_allow_debug=insecure_allow_debug,
        )
        return judged_by(document, root=root, policy=policy, at=at)

    return judge


@dataclass(frozen=True, slots=True)
class Session:
    """Two attested channel keys. Pin both certificates; whatever is still open at `expires` must be renewed."""

    session_id: bytes
    own_certificate: bytes = field(repr=False)  # DER
    peer_certificate: bytes = field(repr=False)  # DER
    peer: Attestation
    initiator_document: bytes = field(repr=False)  # SHA-384 of the document in message 3, as it came
    expires: datetime  # UTC; five minutes before the first document or certificate ends


def _agree(said: Terms, expected: Terms) -> None:
    if said.chain_id != expected.chain_id:
        raise Refused("handshake.chain", said.chain_id)
    if said.configuration_digest != expected.configuration_digest:
        raise Refused("handshake.configuration", said.configuration_digest.hex())
    if said.party != expected.party:
        raise Refused("handshake.party", said.party)


class _State(Enum):
    NEW = "new"
    WAITING = "waiting for the peer's document"
    SENT = "waiting to be accepted"
    DONE = "done"
    FAILED = "failed"


def _expiry(own: Certificate, peer: Certificate, document: bytes, attestation: Attestation, at: datetime) -> datetime:
    """When a session must have been renewed; both sides come to the same time."""
    own_leaf = read_certificate(decode(document, expected=None).certificate)
    first = min(own.not_after, peer.not_after, own_leaf.not_after, attestation.not_after)
    if first - MARGIN <= at:
        raise Stale("handshake.expires", f"at {first:%Y-%m-%d %H:%M:%S}Z")
    return first - MARGIN


# --- the two machines ---


class _Machine:
    """The order of things: each step once, and none after a failure."""

    def __init__(self, *, certificate: bytes, attest: Attest, judge: Judge, terms: Terms) -> None:
        self._own = read_certificate(certificate, CERTIFICATE_LIMIT)
        self._attest = attest
        self._judge = judge
        self._terms = terms
        self._state = _State.NEW
        self._began: datetime | None = None

    @contextmanager
    def _step(self, due: _State, then: _State, at: datetime | None = None) -> Iterator[None]:
        if self._state is _State.FAILED:
            raise Refused("handshake.failed")
        try:
            if self._state is not due:
                raise Refused("handshake.state", self._state.value)
            if at is not None:
                self._began = self._began or at
                if at - self._began > DEADLINE:
                    raise Stale("handshake.timeout")
            yield
        except BaseException:
            self._state = _State.FAILED
            raise
        self._state = then


class Initiator(_Machine):
    """The side that connects: start(nonce) → message 1, receive(message 2) → message 3, finish(message 4) → Session.

    `certificate` is its own channel certificate (DER), `judge` decides on the responder, `terms` are what the responder
    must be. Raises `EvidenceError` with a code of `handshake.…`, or the judge's.
    """

    def __init__(self, *, certificate: bytes, attest: Attest, judge: Judge, terms: Terms) -> None:
        super().__init__(certificate=certificate, attest=attest, judge=judge, terms=terms)
        self._nonce = b""
        self._session: Session | None = None

    def start(self, nonce: bytes) -> bytes:
        """Message 1. `nonce` is 32 bytes that nobody could foresee."""
        with self._step(_State.NEW, _State.WAITING):
            self._nonce = nonce
            return hello(nonce)

    def receive(self, message: bytes, *, at: datetime) -> bytes:
        """Judge message 2 and answer with message 3."""
        with self._step(_State.WAITING, _State.SENT, at):
            own = channel_certificate(self._own.der, at=at)
            said = judge_responder(message, nonce=self._nonce, judge=self._judge, at=at, own_spki=own.spki)
            _agree(said.terms, self._terms)
            document = self._attest(
                nonce=said.nonce,
                public_key=own.spki,
                user_data=make_user_data("initiator", own, session=said.session_id, responder=said.document_digest),
            )
            peer = read_certificate(said.certificate, CERTIFICATE_LIMIT)
            self._session = Session(
                session_id=said.session_id,
                own_certificate=own.der,
                peer_certificate=peer.der,
                peer=said.attestation,
                initiator_document=hashlib.sha384(document).digest(),
                expires=_expiry(own, peer, document, said.attestation, at),
            )
            return make_message(3, session=said.session_id, document=document, certificate=own.der)

    def finish(self, message: bytes, *, at: datetime) -> Session:
        """Take message 4; the session is good if the responder accepted."""
        with self._step(_State.SENT, _State.DONE, at):
            content = read_message(message, 4, session=SESSION_FIELD, accepted=cbor.boolean)
            session = self._session
            if session is None or content["session"] != session.session_id:
                raise Refused("handshake.session")
            if not content["accepted"]:
                raise Refused("handshake.not_accepted")
            return session


class Responder(_Machine):
    """The side that is connected to: receive(message 1) → message 2, receive(message 3) → message 4, then `session`.

    `session_id` (16 bytes) and `nonce` (32 bytes) are random and of this machine alone; `terms` are its own.
    """

    def __init__(
        self, *, certificate: bytes, attest: Attest, judge: Judge, terms: Terms, session_id: bytes, nonce: bytes
    ) -> None:
        super().__init__(certificate=certificate, attest=attest, judge=judge, terms=terms)
        if len(session_id) != SESSION_BYTES or len(nonce) != NONCE_BYTES:
            raise ValueError("a session id has 16 bytes, a nonce 32")
        self._session_id = session_id
        self._nonce = nonce
        self._document = b""
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """The session, once message 3 has been accepted."""
        if self._session is None:
            raise Refused("handshake.state", self._state.value)
        return self._session

    def receive(self, message: bytes, *, at: datetime) -> bytes:
        """Answer message 1 with message 2, then judge message 3 and answer with message 4."""
        step: Callable[[bytes, datetime], bytes]
        due, then, step = _State.WAITING, _State.DONE, self._accept
        if self._state is _State.NEW:
            due, then, step = _State.NEW, _State.WAITING, self._present
        with self._step(due, then, at):
            return step(message, at)

    def refusal(self) -> bytes:
        """A message 4 that says no, for an initiator that was refused. It tells nothing else."""
        return make_message(4, session=self._session_id, accepted=False)

    def _present(self, message: bytes, at: datetime) -> bytes:
        content = read_message(message, 1, nonce=cbor.raw(NONCE_BYTES))
        own = channel_certificate(self._own.der, at=at)
        self._document = self._attest(
            nonce=content["nonce"],
            public_key=own.spki,
            user_data=make_user_data(
                "responder",
                own,
                session=self._session_id,
                nonce=self._nonce,
                party=self._terms.party,
                chain=self._terms.chain_id,
                configuration=self._terms.configuration_digest,
            ),
        )
        return make_message(2, document=self._document, certificate=own.der)

    def _accept(self, message: bytes, at: datetime) -> bytes:
        content = read_message(
            message, 3, session=SESSION_FIELD, document=DOCUMENT_FIELD, certificate=CERTIFICATE_FIELD
        )
        if content["session"] != self._session_id:
            raise Refused("handshake.session", "of the message")
        own = channel_certificate(self._own.der, at=at)
        peer = channel_certificate(content["certificate"], at=at)
        attestation = judge_peer(content["document"], peer, own.spki, self._nonce, self._judge, at)
        said = read_user_data(attestation, "initiator", peer, session=SESSION_FIELD, responder=cbor.raw(DIGEST_BYTES))
        if said["session"] != self._session_id:
            raise Refused("handshake.session", "of the document")
        if said["responder"] != hashlib.sha384(self._document).digest():
            raise Refused("handshake.responder_document")
        self._session = Session(
            session_id=self._session_id,
            own_certificate=own.der,
            peer_certificate=peer.der,
            peer=attestation,
            initiator_document=hashlib.sha384(content["document"]).digest(),
            expires=_expiry(own, peer, self._document, attestation, at),
        )
        return make_message(4, session=self._session_id, accepted=True)
