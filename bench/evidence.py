"""The only place that measures how long evidence takes to be judged: documents, headers, proofs, handshakes.

Everything runs in this process. Documents, headers and handshakes are new every time; what repeats in a warm document
is what repeats on hardware, the certificates above its signature.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from cipherkeep_attestation.chain import state
from cipherkeep_attestation.chain.header import LightBlock
from cipherkeep_attestation.chain.light import LightClient
from cipherkeep_attestation.chain.state import StateProof
from cipherkeep_attestation.eif import configuration_pcr
from cipherkeep_attestation.handshake import Initiator, Responder, Terms, judge_with
from cipherkeep_attestation.nitro.verify import InsecureAnyMeasurement, Policy, TrustRoot, verify
from cipherkeep_host.emulated import pki
from cipherkeep_host.emulated.documents import sign_document
from cipherkeep_host.emulated.pki import Pki
from cipherkeep_host.emulated.tpm import HostAttestor

from bench.figures import Row, timed
from tests.simulators.attestation import IMAGE, SimulatedEnclave, SimulatedPlatform
from tests.simulators.chain import SimulatedChain

GROUP = "evidence"
DOCUMENT_MS, STEP_MS = 3, 1  # targets of the design
_AGE = timedelta(minutes=5)
_MODULE = "i-0123456789abcdef0-enc0123456789abcdef"
_DOCUMENTS, _STEPS = 200, 400
_REQUESTS = 4096  # in the tree that proofs are made in


def _now() -> datetime:
    return datetime.now(UTC)


def run() -> list[Row]:
    """Measure all of it; about five seconds."""
    return [*_documents(), *_steps(1, STEP_MS), *_steps(4, None), *_proofs()]


class _Module:
    """An enclave's module with today's hardware shape of documents, whose path of certificates stays, as AWS's does."""

    def __init__(self, state: Path, configuration: bytes) -> None:
        self._pki = Pki(state, module_id=_MODULE, clock=_now)
        zero = bytes(48)
        self._pcrs = {
            **{index: IMAGE.pcrs.get(index, zero) for index in range(16)},
            16: configuration_pcr(configuration),
        }

    def attest(self, *, nonce: bytes, public_key: bytes | None = None, user_data: bytes | None = None) -> bytes:
        return sign_document(
            self._pki.credentials(),
            module_id=_MODULE,
            kind="pcrs",
            pcrs=self._pcrs,
            at=_now(),
            public_key=public_key,
            user_data=user_data,
            nonce=nonce,
        )


def _documents() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="ck-") as folder:
        state = Path(folder)
        pki.create(state)
        return [*_judged(state), _handshake(state)]


def _judged(state: Path) -> list[Row]:
    module, root, now = _Module(state, bytes(48)), pki.emulated_root(state), _now()
    platform = SimulatedPlatform(at=now)
    nonces = [os.urandom(32) for _ in range(_DOCUMENTS + 1)]
    warm = iter([(nonce, module.attest(nonce=nonce)) for nonce in nonces])
    cold = iter([(nonce, platform.document(nonce=nonce)) for nonce in nonces])

    def judge(made: Iterator[tuple[bytes, bytes]], trusted: TrustRoot) -> None:
        nonce, document = next(made)
        policy = Policy(measurements=(IMAGE,), nonce=nonce, public_key=None, max_age=_AGE)
        verify(document, root=trusted, policy=policy, at=_now())

    name = "attestation document judged"
    return [
        timed(GROUP, f"{name}, warm", "ms", _DOCUMENTS, lambda: judge(warm, root), target=DOCUMENT_MS),
        timed(GROUP, f"{name}, no certificate seen before", "ms", _DOCUMENTS, lambda: judge(cold, platform.root())),
    ]


def _handshake(state: Path) -> Row:
    configuration, platform, root = b"\7" * 48, SimulatedPlatform(at=_now()), pki.emulated_root(state)
    terms = Terms("chain", configuration, "party")
    module, tpm = _Module(state, configuration), HostAttestor(state)
    judges = {
        "enclave": judge_with(root=root, kind="enclave", measurements=(IMAGE,), max_age=_AGE),
        "host": judge_with(root=root, kind="host", measurements=InsecureAnyMeasurement(), max_age=_AGE),
    }
    certificates = [SimulatedEnclave(platform, name=name).certificate for name in ("host", "enclave")]

    def shake() -> None:
        asking = Initiator(certificate=certificates[0], attest=tpm.attest, judge=judges["enclave"], terms=terms)
        answering = Responder(
            certificate=certificates[1],
            attest=module.attest,
            judge=judges["host"],
            terms=terms,
            session_id=os.urandom(16),
            nonce=os.urandom(32),
        )
        document = answering.receive(asking.start(os.urandom(32)), at=_now())
        asking.finish(answering.receive(asking.receive(document, at=_now()), at=_now()), at=_now())

    return timed(GROUP, "handshake, both sides, documents made and judged", "ms", 50, shake)


def _steps(validators: int, target: float | None) -> list[Row]:
    chain = SimulatedChain(validators)
    client = LightClient(
        chain.root(), trusting_period=timedelta(days=3653), clock_drift=timedelta(minutes=1), skipping=True
    )
    client.anchor(chain.light_block(1), now=chain.now)
    for _ in range(2 * _STEPS + 4):
        chain.produce()
    encoded = {height: chain.encoded(height) for height in range(2, chain.height + 1)}
    adjacent, skipping = count(2), count(_STEPS + 6, 2)

    def step(heights: count[int]) -> None:
        client.step(LightBlock.decode(encoded[next(heights)]), now=chain.now)

    name = f"light-client step, {validators} validator{'s' * (validators > 1)}"
    return [
        timed(GROUP, f"{name}, adjacent", "ms", _STEPS, lambda: step(adjacent), target=target),
        timed(GROUP, f"{name}, skipping", "ms", _STEPS // 4, lambda: step(skipping), target=target),
    ]


def _proofs() -> list[Row]:
    chain = SimulatedChain(1, state={"fhevm/requests": {}, "fhevm/control": {1: b"leaf"}})
    values = {key: key.to_bytes(200, "big") for key in range(1, _REQUESTS + 1)}
    chain.produce(changes={"fhevm/requests": values})
    chain.produce()
    key = _REQUESTS // 3
    present = chain.prove("fhevm", "requests", key).encode()
    absent = chain.prove_absent("fhevm", "requests", _REQUESTS + 1).encode()
    app_hash = chain.app_hash()

    def show() -> None:
        proof = StateProof.decode(present)
        state.verify_present(app_hash, instance="fhevm", collection="requests", key=key, value=values[key], proof=proof)

    def miss() -> None:
        proof = StateProof.decode(absent)
        state.verify_absent(app_hash, instance="fhevm", collection="requests", key=_REQUESTS + 1, proof=proof)

    return [
        timed(GROUP, f"two-op proof of presence, {_REQUESTS} requests", "ms", 500, show),
        timed(GROUP, "two-op proof of absence", "ms", 500, miss),
    ]
