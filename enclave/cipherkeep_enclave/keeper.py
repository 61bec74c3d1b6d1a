"""The only place where ledger, vault and operations meet: what one enclave does, without the wire.

Order of use: `advance` until the head is current, `freshen`, `open`, `register`, then `advance`, `show_inbox` and
`process` for each block. Every call may be repeated. All of it runs on one event loop; threads only compute.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from cipherkeep_attestation.errors import EvidenceError, Malformed
from cipherkeep_attestation.statements.answer import Core
from cipherkeep_attestation.statements.configuration import Configuration
from cipherkeep_attestation.statements.layout import InboxEntry
from cipherkeep_attestation.statements.material import Material
from cipherkeep_attestation.statements.registration import Claims, Registration
from cipherkeep_attestation.statements.request import KEYGEN, Keygen, PublicDecrypt, UserDecrypt
from cipherkeep_wire.errors import ServiceError
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cipherkeep_enclave.engine import MaterialFolder
from cipherkeep_enclave.engine import keys as engine
from cipherkeep_enclave.ledger import Ledger
from cipherkeep_enclave.ledger.inboxes import ShownInbox
from cipherkeep_enclave.limits import DEFAULT, EnclaveLimits
from cipherkeep_enclave.logs import logger
from cipherkeep_enclave.operations import answers, keygen
from cipherkeep_enclave.operations.answers import AnswerChain
from cipherkeep_enclave.operations.setting import RefusedRequest, Setting
from cipherkeep_enclave.vault import KeyRecord, Vault
from cipherkeep_enclave.vault.aws_kms import KeyWrapper
from cipherkeep_enclave.vault.records import SECRET_BYTES
from cipherkeep_enclave.vault.vault import HeldKey, StoredObject

Attest = Callable[[bytes, bytes, bytes], bytes]  # nonce, public key, user data → document
Result = TypeVar("Result")
_SECRET_LABEL = b"cipherkeep/vault-secret/v1"
_STEPS_AT_ONCE = 16  # light blocks judged between two looks at other calls


@dataclass(frozen=True, slots=True)
class Body:
    """A request as the host hands it over."""

    counter: int
    body: bytes
    ciphertexts: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request: a signed answer, or the code of an error, which is no vote."""

    counter: int
    answer: bytes = b""
    code: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class VaultUpdate:
    """What the host must store durably before it sends anything on."""

    manifest: bytes
    objects: Sequence[StoredObject] = field(repr=False)


class Keeper:
    """One enclave."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        boot: bytes,
        nonce: bytes,
        now: Callable[[], datetime],
        kms: KeyWrapper,
        attest: Attest,
        entropy: Callable[[int], bytes],
        material: MaterialFolder,
        limits: EnclaveLimits = DEFAULT,
    ) -> None:
        """`boot` (16 bytes) and `nonce` (32) are drawn at start; `entropy` is what new secrets are made of."""
        self.configuration = configuration
        self.boot = boot
        self.ledger = Ledger(configuration, nonce=nonce, now=now, limits=limits)
        self.vault: Vault | None = None
        self.limits = limits
        self._digest = configuration.digest()
        self._now = now
        self._kms = kms
        self._attest = attest
        self._entropy = entropy
        self._material = material
        self._answers = AnswerChain(configuration=self._digest, boot=boot)
        self._settled: tuple[int, bytes] = (0, b"")  # the newest manifest that the host is known to have stored
        self._advancing = asyncio.Lock()
        self._changing = asyncio.Lock()  # one change of the vault, one key generation at a time
        self._running: dict[tuple[str, bytes], asyncio.Task[Any]] = {}
        self._pool = ThreadPoolExecutor(limits.threads, thread_name_prefix="operations")

    def close(self) -> None:
        """Let the threads end. Nothing else is held that does not end with the process."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def configuration_digest(self) -> bytes:
        """SHA-384 of the measured configuration."""
        return self._digest

    def now(self) -> datetime:
        """The enclave's clock."""
        return self._now()

    # --- the chain ---

    async def advance(
        self, blocks: Sequence[bytes], *, control: bytes, proof: bytes, statements: Sequence[bytes]
    ) -> None:
        """Move the head, then show the control leaf under it; without one, statements wait for the leaf to come."""
        async with self._advancing:
            self.ledger.lift(statements)
            for count, block in enumerate(blocks, 1):
                self.ledger.step(block)
                if count % _STEPS_AT_ONCE == 0:
                    await asyncio.sleep(0)
            if control:
                self.ledger.show_control(control, proof, statements)
            elif statements:
                self.ledger.learn(statements)

    # --- the vault ---

    async def open(
        self, header_height: int, record: bytes, proof: bytes, *, manifest: bytes, objects: Sequence[StoredObject]
    ) -> VaultUpdate | None:
        """Open the vault that the party's record pins; make one, and return it, when the record pins none."""
        async with self._changing:
            found = self.ledger.record(header_height, record, proof)
            pin = None if found.manifest is None else (found.manifest_serial, found.manifest)
            if self.vault is not None:
                return self._opened_again(self.vault, pin)
            if pin is None:
                secret = HKDF(hashes.SHA256(), SECRET_BYTES, None, _SECRET_LABEL).derive(self._entropy(64))
                vault = await Vault.create(self.configuration, self._kms, secret=secret)
            else:
                vault = await Vault.open(self.configuration, self._kms, pin=pin, manifest=manifest, objects=objects)
            if found.evidence_key not in (None, vault.identity.evidence_key):
                raise ServiceError("vault.object_old", "another identity than the registered one")
            self.vault = vault
            self._settled = vault.pin
            logger().info("vault.open", created=pin is None, serial=vault.pin[0], keys=len(vault.keys))
            return self._update(vault) if pin is None else None

    def _opened_again(self, vault: Vault, pin: tuple[int, bytes] | None) -> VaultUpdate | None:
        """A repeat: the vault that was made is handed out again; a record that has caught up is taken note of."""
        if pin is None:
            if self._settled[0] > 1:
                raise ServiceError("service.opened")
            return self._update(vault)
        if vault.keys_at(pin) is None:
            raise ServiceError("service.opened")
        self._settled = max(self._settled, pin)
        return None

    def _update(self, vault: Vault) -> VaultUpdate:
        """The manifest as it is, and every object that the settled one may not name."""
        return VaultUpdate(vault.manifest.encode(), vault.stored(without=vault.keys_at(self._settled) or frozenset()))

    async def register(self, block_height: int) -> tuple[bytes, VaultUpdate]:
        """A registration over the hash of a held header, and the vault that it names."""
        vault = self._open_vault()
        self.ledger.current()
        if not self.ledger.party_index:
            raise ServiceError("service.not_admitted")
        header = self.ledger.header_at(block_height)
        claims = Claims(
            instance=self.configuration.instance,
            party=self.configuration.party,
            evidence_key=vault.identity.evidence_key,
            signing_key=vault.identity.signing_key,
            configuration=self.configuration.encode(),
            block_height=block_height,
            manifest=vault.pin,
        )
        update = self._update(vault)
        document = await asyncio.to_thread(self._attest, header.hash(), vault.identity.evidence_key, claims.user_data())
        return Registration(claims, document).sign(vault.identity.evidence), update

    # --- requests ---

    async def process(self, height: int, bodies: Sequence[Body]) -> tuple[list[Outcome], VaultUpdate | None]:
        """Answer requests of a shown inbox, each by itself. A vault is returned when an answer depends on it."""
        vault = self._open_vault()
        view = self.ledger.current()
        party = self.ledger.party_index
        if not party:
            raise ServiceError("service.not_admitted")
        shown = self.ledger.inbox(height, view)
        setting = Setting(self.configuration, self.ledger.genesis, view, vault, party)
        outcomes: list[Outcome] = []
        keys: list[tuple[int, Core]] = []
        for place, body in enumerate(bodies):
            if place:
                await asyncio.sleep(0)  # between two requests of a batch other calls have their turn
            outcome, core = await self._attempt(shown, body, setting)
            if core is not None and core.operation == KEYGEN and core.result is not None:
                keys.append((place, core))
            elif core is not None:
                outcome = Outcome(body.counter, self._answers.sign(core, setting, self._settled))
            outcomes.append(outcome)
        if not keys:
            return outcomes, None
        # Only answers that travel with the vault name a manifest that the host may not have stored yet; all of one
        # reply name the one manifest in it.
        for place, core in keys:
            outcomes[place] = Outcome(bodies[place].counter, self._answers.sign(core, setting, vault.pin))
        return outcomes, self._update(vault)

    async def _attempt(self, shown: ShownInbox, body: Body, setting: Setting) -> tuple[Outcome, Core | None]:
        """The core of one request, or an outcome that says why there is none."""
        try:
            return Outcome(body.counter), await self._core(shown.entry(body.counter), body, setting)
        except (EvidenceError, ServiceError) as error:
            return Outcome(body.counter, code=error.code, detail=error.detail), None
        except Exception as error:  # noqa: BLE001  (one request's failure is not its neighbours')
            logger().error("request.failed", counter=body.counter, error=type(error).__name__)
            return Outcome(body.counter, code="service.internal", detail=type(error).__name__), None

    async def _core(self, entry: InboxEntry, body: Body, setting: Setting) -> Core:
        request = answers.read(entry, body.body)
        if request is None:
            return answers.unreadable(entry)
        if isinstance(request, Keygen):
            if body.ciphertexts:
                raise Malformed("ledger.ciphertexts", "a key generation has none")
            return await self._keygen(request, entry.id, setting)
        return await self._decrypt(request, body.ciphertexts, entry.id, setting)

    async def _decrypt(
        self, request: PublicDecrypt | UserDecrypt, ciphertexts: Sequence[bytes], request_id: bytes, setting: Setting
    ) -> Core:
        def work() -> Core:
            return answers.decrypt_core(request, ciphertexts, request_id=request_id, setting=setting)

        if len(ciphertexts) <= self.limits.inline_ciphertexts:
            return work()
        return await self._compute(work)

    async def _keygen(self, request: Keygen, request_id: bytes, setting: Setting) -> Core:
        return await self._shared(("key", request_id), lambda: self._make_key(request, request_id, setting))

    async def _make_key(self, request: Keygen, request_id: bytes, setting: Setting) -> Core:
        def work() -> KeyRecord:
            return keygen.generate(request, terms, request_id=request_id, setting=setting, material=self._material)

        async with self._changing:
            try:
                terms = keygen.keygen_terms(request, request_id=request_id, setting=setting, most=self.limits.keys)
            except RefusedRequest as refused:
                return answers.keygen_refusal(request, request_id=request_id, code=refused.code)
            held = setting.vault.key(request_id)
            if held is None:
                begun = self._now()
                held = setting.vault.add(await self._compute(work))
                seconds = round((self._now() - begun).total_seconds(), 1)
                logger().info("key.generated", key_id=request_id.hex(), seconds=seconds)
            return keygen.core(held.record, setting.vault)

    async def _shared(self, name: tuple[str, bytes], work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Do something long once, whoever asks meanwhile and whoever of them leaves: a thread cannot be called off."""
        task = self._running.get(name)
        if task is None:
            task = self._running[name] = asyncio.create_task(work())
            task.add_done_callback(lambda done: self._forget(name, done))
        result: Result = await asyncio.shield(task)
        return result

    def _forget(self, name: tuple[str, bytes], task: asyncio.Task[Any]) -> None:
        self._running.pop(name, None)
        if not task.cancelled():
            task.exception()  # whoever asked may have left: then nobody else takes note of a failure

    async def _compute(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    # --- public material ---

    async def material(self, key_id: bytes, kind: str) -> AsyncIterator[bytes]:
        """The public material of a key, in pieces; made again from the seed when the folder has lost it."""
        vault = self._open_vault()
        held = vault.key(key_id)
        if held is None:
            raise ServiceError("service.unknown_key", key_id.hex())
        wanted = next((part for part in held.record.material if part.kind == kind), None)
        if wanted is None:
            raise ServiceError("service.unknown_kind", kind[:40])
        if not self._material.has(key_id, wanted):
            await self._shared(("material", key_id), lambda: self._make_material(vault, held))
        for chunk in self._material.chunks(key_id, kind, self.limits.material_chunk):
            yield chunk
            await asyncio.sleep(0)

    async def _make_material(self, vault: Vault, held: HeldKey) -> None:
        record = held.record

        def work() -> tuple[Material, ...]:
            parts = engine.public_material(vault.seed(record.key_id), record.terms.parameters)
            return self._material.write(record.key_id, parts)

        async with self._changing:
            if all(self._material.has(record.key_id, part) for part in record.material):
                return
            if await self._compute(work) != record.material:
                raise ServiceError("service.internal", "the seed gives other material")

    # --- inside ---

    def _open_vault(self) -> Vault:
        if self.vault is None:
            raise ServiceError("service.closed")
        return self.vault
