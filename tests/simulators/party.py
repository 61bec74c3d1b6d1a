"""Parties as the chain sees them: they register with any document and answer anything.

party = SimulatedParty("alpha", 1, platform, configuration)
party.register(block_height=9, block_hash=…)                       # an honest registration
party.register(…, edit=lambda draft: draft.fields["pcrs"].update({0: bytes(48)}))       # debug mode
party.public_answer(request_id, request, values=[7], head=(10, hash))
party.answer(core, head=…, sequence=3)                             # whatever a core may say
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from cipherkeep_attestation.chain.light import LightRoot
from cipherkeep_attestation.eif import configuration_pcr
from cipherkeep_attestation.statements import eip712, fhevm
from cipherkeep_attestation.statements.answer import Answer, Context, Core, answer_hash
from cipherkeep_attestation.statements.configuration import Configuration, Genesis, KeyService
from cipherkeep_attestation.statements.governance import KeyTerms
from cipherkeep_attestation.statements.material import PUBLIC_KEY, SERVER_KEY, GeneratedKey, Material
from cipherkeep_attestation.statements.registration import Claims, Registration
from cipherkeep_attestation.statements.request import KEYGEN, Keygen, PublicDecrypt, UserDecrypt

from tests.simulators.attestation import PCRS, Draft, SimulatedPlatform
from tests.simulators.coprocessor import TERMS, address, secp256k1
from tests.simulators.governance import ed25519, public

MATERIAL = (
    Material(PUBLIC_KEY, bytes(31) + b"\1", 33_018, bytes(31) + b"\3"),
    Material(SERVER_KEY, bytes(31) + b"\2", 60_000_000, bytes(31) + b"\4"),
)


def configuration(
    name: str, *, genesis: Genesis, platform: SimulatedPlatform, chain_id: str, header: bytes, instance: str = "one"
) -> Configuration:
    """What an honest enclave of this party is measured with."""
    insecure = ("insecure_allow_all",) if genesis.insecure_allow_all else ()
    root = platform.root().certificate_der
    return Configuration(
        root=LightRoot(chain_id, 1, header),
        instance=instance,
        genesis=genesis,
        party=name,
        kms=KeyService("arn:aws:kms:us-east-1:1:key/1", "kms.local", b"ca"),
        enclave_root=root,
        host_root=root,
        host_measurements=(bytes(32),),
        insecure=insecure,
    )


class SimulatedParty:
    """One enclave with its keys; `index` is the party's on the chain."""

    def __init__(self, name: str, index: int, platform: SimulatedPlatform, configured: Configuration) -> None:
        self.name = name
        self.index = index
        self.platform = platform
        self.configuration = configured
        self.evidence = ed25519(f"evidence {name}")
        self.signing = secp256k1(f"signing {name}")
        self.manifest = (1, hashlib.sha256(f"manifest {name} 1".encode()).digest())
        self.sequence = 0
        self.previous = bytes(32)

    @property
    def signer(self) -> bytes:
        return address(self.signing)

    def claims(self, block_height: int, **other: Any) -> Claims:
        made = Claims(
            self.configuration.instance,
            self.name,
            public(self.evidence),
            self.signing.public_key.format(),
            self.configuration.encode(),
            block_height,
            self.manifest,
        )
        return replace(made, **other)

    def register(
        self,
        block_height: int,
        block_hash: bytes,
        *,
        edit: Callable[[Draft], object] = lambda draft: None,
        claims: Claims | None = None,
        pcrs: dict[int, bytes] | None = None,
        at: Any = None,
        **other: Any,
    ) -> bytes:
        """A registration; `other` replaces claims, `edit` changes the document before its platform signs it."""
        made = claims or self.claims(block_height, **other)
        measured = pcrs or {**PCRS, 16: configuration_pcr(hashlib.sha384(made.configuration).digest())}
        draft = self.platform.draft(
            at=at, pcrs=measured, nonce=block_hash, public_key=made.evidence_key, user_data=made.user_data()
        )
        edit(draft)
        return Registration(made, draft.sign()).sign(self.evidence)

    # --- answers ---

    def answer(self, core: Core, head: tuple[int, bytes], **other: Any) -> bytes:
        """A signed answer with this core; `other` replaces fields of the context."""
        self.sequence += 1
        context = Context(
            self.index,
            head[0],
            head[1],
            self.configuration.digest(),
            hashlib.sha256(self.name.encode()).digest()[:16],
            self.sequence,
            self.previous,
            self.manifest,
        )
        signed = Answer(core, replace(context, **other)).sign(self.evidence)
        self.previous = answer_hash(signed)
        return signed

    def public_core(
        self, identity: bytes, asked: PublicDecrypt, values: Sequence[int], terms: KeyTerms = TERMS, **other: Any
    ) -> Core:
        """The core of an honest answer to a public decryption; `other` replaces fields behind the signature."""
        words = fhevm.decrypted_result(values)
        struct = fhevm.public_decryption([item.handle for item in asked.ciphertexts], words, asked.extra_data)
        return self._core(identity, asked, {"decrypted": words}, terms.decryption.digest(struct), other)

    def user_core(
        self, identity: bytes, asked: UserDecrypt, payload: bytes | None = None, terms: KeyTerms = TERMS, **other: Any
    ) -> Core:
        """The core of an answer to a user; every party's payload differs."""
        sealed = payload or b"sealed by " + self.name.encode()
        handles = [item.handle for item in asked.ciphertexts]
        extra = fhevm.answered_extra_data(asked.extra_data)
        struct = fhevm.user_decryption_response(asked.public_key, handles, sealed, extra)
        return self._core(identity, asked, {"payload": sealed}, terms.decryption.digest(struct), other)

    def _core(
        self,
        identity: bytes,
        asked: PublicDecrypt | UserDecrypt,
        result: dict[str, Any],
        digest: bytes,
        other: dict[str, Any],
    ) -> Core:
        digests = tuple(item.digest for item in asked.ciphertexts)
        signatures = {"eip712": eip712.sign(digest, self.signing)}
        core = Core(identity, asked.operation, asked.key_id, digests, None, result, signatures)
        return replace(core, **other)

    def keygen_core(
        self,
        identity: bytes,
        asked: Keygen,
        material: Sequence[Material] = MATERIAL,
        terms: KeyTerms = TERMS,
        **other: Any,
    ) -> Core:
        """The core of an answer to a key generation; `other` replaces fields behind the signature."""
        made = GeneratedKey(terms.parameters, tuple(material))
        struct = made.struct_hash(preparation=hashlib.sha256(asked.statement).digest(), key_id=identity)
        signatures = {"eip712": eip712.sign(terms.decryption.digest(struct), self.signing)}
        return replace(Core(identity, KEYGEN, identity, (), None, made.to_map(), signatures), **other)

    def refusal_core(self, identity: bytes, asked: PublicDecrypt | UserDecrypt, code: str) -> Core:
        """The core of a refusal."""
        digests = tuple(item.digest for item in asked.ciphertexts)
        return Core(identity, asked.operation, asked.key_id, digests, code, None, {})
