"""How an enclave becomes the holder of a party's keys, and every way in which it must not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cipherkeep_attestation import cbor, cose
from cipherkeep_attestation.chain.light import LightRoot
from cipherkeep_attestation.statements import layout
from cipherkeep_attestation.statements.configuration import Configuration, KeyService
from cipherkeep_attestation.statements.registration import measurements_digest
from cipherkeep_host.contracts.fhevm import closing, registering
from cipherkeep_host.contracts.fhevm.limits import LIMITS
from cipherkeep_host.contracts.fhevm.records import number
from cipherkeep_host.contracts.interface import ContractRefusal, ContractState

from tests.simulators.attestation import PCRS, Draft, SimulatedPlatform
from tests.simulators.contract import RELEASE, SENDER, START, Outcome, World
from tests.simulators.coprocessor import secp256k1
from tests.simulators.governance import ed25519, public
from tests.simulators.party import SimulatedParty


@pytest.fixture
def admitted(tmp_path: Path) -> Iterator[World]:
    """Releases are set, the parties alpha and beta are admitted, nobody has registered."""
    made = World(tmp_path / "state", parties=2)
    assert made.govern(made.governance.set_releases(RELEASE)) == "ok"
    for party in made.parties:
        assert made.govern(made.governance.admit(party.name, party.configuration.digest())) == "ok"
    yield made
    made.state.close()


def attempt(world: World, **how: Any) -> str:
    party = world.parties[0]
    return world.register(party, world.honest_registration(party, **how))


def test_a_registration_fills_the_record(admitted: World) -> None:
    """Keys, configuration, measurements and manifest stand in the party's record."""
    party = admitted.parties[0]
    signed = admitted.honest_registration(party)
    assert admitted.register(party, signed) == "ok"
    record = admitted.party_record(1)
    assert record.name == "alpha"
    assert record.evidence_key == public(party.evidence)
    assert record.signing_key == party.signing.public_key.format()
    assert record.configuration == party.configuration.digest()
    assert record.measurements == measurements_digest({index: PCRS[index] for index in (0, 1, 2)})
    assert record.registration == hashlib.sha256(signed).digest()
    assert (record.manifest_serial, record.manifest) == party.manifest


def test_a_party_that_nobody_admitted_cannot_register(admitted: World) -> None:
    """The name must be on the list."""
    omega = SimulatedParty("omega", 3, admitted.platform, admitted.configured("omega"))
    assert admitted.register(omega, admitted.honest_registration(omega)) == "fhevm.party_unknown"


def test_without_releases_nobody_registers(bare: World) -> None:
    """Governance must have listed an image first."""
    bare.govern(bare.governance.admit("alpha"))
    assert attempt(bare) == "registration.no_releases"


# --- the configuration ---

ATTACKS: dict[str, dict[str, Any]] = {
    "key service": {"kms": KeyService("arn:aws:kms:us-east-1:6:key/6", "kms.local", b"ca")},
    "its certificate": {"kms": KeyService("arn:aws:kms:us-east-1:1:key/1", "kms.local", b"mallory's")},
    "hosts' root": {"host_root": b"mallory's"},
    "hosts": {"host_measurements": (b"\x66" * 32,)},
    "settings": {"insecure": ("insecure_allow_all", "insecure_test_parameters")},
}


@pytest.mark.parametrize("what", ATTACKS)
def test_who_registers_first_with_a_configuration_of_his_own_is_refused(admitted: World, what: str) -> None:
    """A genuine enclave of a listed image with the attacker's configuration fixes no keys; the party's still does."""
    honest = admitted.parties[0]
    mallory = SimulatedParty("alpha", 1, admitted.platform, replace(honest.configuration, **ATTACKS[what]))
    mallory.evidence, mallory.signing = ed25519("mallory"), secp256k1("mallory")
    before = admitted.party_record(1)
    assert admitted.register(mallory, admitted.honest_registration(mallory)) == "fhevm.registration_configuration"
    assert admitted.party_record(1) == before
    assert admitted.register(honest, admitted.honest_registration(honest)) == "ok"


def test_a_registered_party_cannot_change_its_configuration(world: World) -> None:
    """Neither with its own keys: governance admits the new configuration first."""
    party, before = world.parties[0], world.party_record(1)
    party.configuration = replace(party.configuration, host_root=b"another")
    assert world.register(party, world.honest_registration(party)) == "fhevm.registration_configuration"
    assert world.party_record(1) == before


def test_a_configuration_that_was_not_admitted_does_not_enter_the_pool(admitted: World) -> None:
    """It is judged before a block has to carry it."""
    party = admitted.parties[0]
    view, message = ContractState(admitted.state.begin(admitted.height + 1), "one"), {"party": "alpha"}
    registering.check(view, {**message, "registration": admitted.honest_registration(party)})
    party.configuration = replace(party.configuration, host_root=b"another")
    with pytest.raises(ContractRefusal) as refusal:
        registering.check(view, {**message, "registration": admitted.honest_registration(party)})
    assert refusal.value.code == "fhevm.registration_configuration"


def readmit(world: World, configured: Configuration) -> str:
    return world.govern(world.governance.admit("alpha", configured.digest()))


def test_another_admission_makes_the_registration_lapse(world: World) -> None:
    """Configuration replaced, keys, measurements and manifest kept: the party votes once it registers with the new."""
    party, before = world.parties[0], world.party_record(1)
    old, new = party.configuration, replace(party.configuration, host_root=b"another")
    assert readmit(world, new) == "ok"
    assert world.party_record(1) == replace(before, configuration=new.digest(), registration=None)
    assert world.register(party, world.honest_registration(party)) == "fhevm.registration_configuration"
    party.configuration = new
    signed = world.honest_registration(party)
    assert world.register(party, signed) == "ok"
    registered = replace(before, configuration=new.digest(), registration=hashlib.sha256(signed).digest())
    assert world.party_record(1) == registered
    party.configuration = old
    assert world.register(party, world.honest_registration(party)) == "fhevm.registration_configuration"


def test_another_admission_before_any_registration(admitted: World) -> None:
    """A slip of governance is corrected by the next statement; the index is that of the first."""
    party = admitted.parties[0]
    wrong, right = party.configuration, replace(party.configuration, host_root=b"right")
    assert readmit(admitted, right) == "ok"
    assert admitted.party_record(1).configuration == right.digest()
    assert admitted.value(layout.PARTIES, 3) is None
    assert admitted.register(party, admitted.honest_registration(party)) == "fhevm.registration_configuration"
    party.configuration = right
    assert admitted.register(party, admitted.honest_registration(party)) == "ok"
    assert wrong != right


def test_another_admission_frees_no_keys(world: World) -> None:
    """The new configuration's enclave must open the party's vault: other keys are refused for ever."""
    party = world.parties[0]
    party.configuration = replace(party.configuration, host_root=b"another")
    assert readmit(world, party.configuration) == "ok"
    party.evidence, party.signing = ed25519("new"), secp256k1("new")
    assert world.register(party, world.honest_registration(party)) == "fhevm.registration_keys"
    assert world.party_record(1).registration is None


def test_a_release_in_force_does_not_end_such_a_lapse(world: World) -> None:
    """Only the registration does: listing its image again does not."""
    assert readmit(world, replace(world.parties[0].configuration, host_root=b"another")) == "ok"
    assert world.govern(world.governance.set_releases(RELEASE)) == "ok"
    assert world.party_record(1).registration is None


# --- the document ---


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda d: d.fields["pcrs"].update({0: bytes(48), 1: bytes(48), 2: bytes(48)}), "document.debug"),
        (lambda d: d.fields["pcrs"].update({0: bytes(48)}), "document.debug"),
        (lambda d: d.fields["pcrs"].update({0: b"\x66" * 48}), "document.pcr_mismatch"),
        (lambda d: d.fields["pcrs"].update({2: b"\x66" * 48}), "document.pcr_mismatch"),
        (lambda d: d.fields["pcrs"].update({16: b"\x66" * 48}), "document.pcr_mismatch"),
        (lambda d: d.fields["pcrs"].update({16: bytes(48)}), "document.pcr_mismatch"),
        (lambda d: d.fields["pcrs"].pop(16), "document.pcr_mismatch"),
        (lambda d: d.fields.update(nonce=b"\x66" * 32), "document.nonce"),
        (lambda d: d.fields.update(nonce=None), "document.nonce"),
        (lambda d: d.fields.update(public_key=b"\x66" * 32), "document.public_key"),
        (lambda d: d.fields.update(user_data=b"\x66" * 32), "registration.user_data"),
        (lambda d: d.fields.update(user_data=None), "registration.user_data"),
        (lambda d: d.fields.update(timestamp=d.fields["timestamp"] - 400_000), "document.too_old"),
        (lambda d: d.fields.update(timestamp=d.fields["timestamp"] + 400_000), "document.from_future"),
        (lambda d: setattr(d.path["leaf"], "not_after", START), "path.expired"),
        (lambda d: setattr(d, "signature", lambda signature: bytes(96)), "document.signature"),
        (lambda d: d.fields.update(nitrotpm_pcrs=d.fields.pop("pcrs")), "document.is_host_document"),
    ],
)
def test_a_document_that_does_not_prove_the_enclave_is_refused(
    admitted: World, edit: Callable[[Draft], object], code: str
) -> None:
    """Debug mode, another image, a wrong PCR16, old, foreign or forged documents register nobody."""
    assert attempt(admitted, edit=edit) == code
    assert admitted.party_record(1).registration is None


def test_a_document_under_another_root_is_refused(admitted: World) -> None:
    """Only the roots that genesis names count, however well-formed the rest is."""
    party = admitted.parties[0]
    party.platform = SimulatedPlatform(at=START, name="elsewhere")
    assert admitted.register(party, admitted.honest_registration(party)) == "path.root"


def test_a_registration_ages(admitted: World) -> None:
    """The document's time and the block's are at most five minutes apart."""
    party = admitted.parties[0]
    old = party.register(admitted.height, admitted.hash(admitted.height), at=admitted.now - timedelta(seconds=302))
    assert admitted.register(party, old) == "document.too_old"
    early = party.register(admitted.height, admitted.hash(admitted.height), at=admitted.now + timedelta(seconds=303))
    assert admitted.register(party, early) == "document.from_future"


# --- the block it names ---


def test_the_block_must_be_recent(admitted: World) -> None:
    """A block that is 100 old serves, one more does not, nor does one that is still to come."""
    party = admitted.parties[0]
    admitted.skip(110)

    def over(height: int) -> str:
        return admitted.register(party, party.register(height, admitted.hash(height), at=admitted.now))

    assert over(admitted.height + 1 - 101) == "registration.block"
    assert over(admitted.height + 1) == "registration.block"
    assert over(admitted.height + 5) == "registration.block"
    assert over(admitted.height + 1 - 100) == "ok"


def test_the_hash_must_be_that_blocks(admitted: World) -> None:
    """The hash of another recent block, or of a fork, is the wrong nonce."""
    party = admitted.parties[0]
    signed = party.register(admitted.height, admitted.hash(admitted.height - 1), at=admitted.now)
    assert admitted.register(party, signed) == "document.nonce"


def test_a_block_whose_hash_was_never_told_serves_nobody(admitted: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the engine's word for a block's hash there is no nonce to compare with."""
    told = admitted.context
    with monkeypatch.context() as silent:
        silent.setattr(admitted, "context", lambda *which: replace(told(*which), block_hash=b""))
        admitted.block()
    assert attempt(admitted) == "registration.block"


# --- the claims ---


def test_one_partys_registration_does_not_serve_another(admitted: World) -> None:
    """Alpha's registration sent under beta's name is refused."""
    alpha, beta = admitted.parties
    signed = admitted.honest_registration(alpha)
    outcome = admitted.block(("register", {"party": beta.name, "registration": signed}))[0]
    assert outcome.code == "fhevm.registration_party"


def test_claims_and_configuration_name_the_same_party(admitted: World) -> None:
    """An enclave measured for beta cannot claim to be alpha."""
    beta = admitted.configured("beta").encode()
    assert attempt(admitted, configuration=beta) == "registration.configuration"


def test_another_instances_registration_is_refused(admitted: World) -> None:
    """Neither in the claims nor in the configuration."""
    assert attempt(admitted, instance="two") == "registration.instance"
    other = replace(admitted.configured("alpha"), instance="two").encode()
    assert attempt(admitted, configuration=other) == "registration.configuration"


def test_other_genesis_parameters_are_refused(admitted: World) -> None:
    """An enclave that believes in other governors follows another instance."""
    genesis = replace(admitted.governance.genesis, answers=2)
    other = replace(admitted.configured("alpha"), genesis=genesis).encode()
    assert attempt(admitted, configuration=other) == "registration.configuration"


@pytest.mark.parametrize(
    "root",
    [
        LightRoot("simulated-1", 1, b"\x01" * 32),
        LightRoot("simulated-1", 2, b"\x01" * 32),
        LightRoot("other-1", 1, b"\x01" * 32),
    ],
)
def test_an_enclave_that_follows_another_chain_is_refused(admitted: World, root: LightRoot) -> None:
    """The configuration's trust root is this chain's first header."""
    other = replace(admitted.configured("alpha"), root=root).encode()
    assert attempt(admitted, configuration=other) == "fhevm.registration_root"


def test_an_enclave_that_believes_other_enclaves_is_refused(admitted: World) -> None:
    """The configuration's root for enclaves is one that genesis names."""
    other = replace(admitted.configured("alpha"), enclave_root=b"another").encode()
    assert attempt(admitted, configuration=other) == "fhevm.registration_enclave_root"


def test_the_evidence_key_signs_the_registration(admitted: World) -> None:
    """Whoever has a document but not the key registers nobody."""
    party = admitted.parties[0]
    payload = cose.unverified_payload(admitted.honest_registration(party))
    assert admitted.register(party, cose.sign1(payload, key=ed25519("thief"))) == "cose.signature"


def test_claims_cannot_be_changed_behind_the_document(admitted: World) -> None:
    """The document binds all claims: another signing key in them is refused."""
    party = admitted.parties[0]
    made = cbor.decode(cose.unverified_payload(admitted.honest_registration(party)))
    assert isinstance(made, dict)
    stolen = party.claims(admitted.height, signing_key=secp256k1("thief").public_key.format())
    changed = cose.sign1(cbor.encode({**made, "claims": stolen.encode()}), key=party.evidence)
    assert admitted.register(party, changed) == "registration.user_data"


@pytest.mark.parametrize("key", [bytes(33), b"\x05" + b"\x01" * 32, b"\x02" + b"\xff" * 32])
def test_a_signing_key_must_be_a_point(admitted: World, key: bytes) -> None:
    """33 bytes that are no compressed key are refused."""
    assert attempt(admitted, signing_key=key) == "registration.signing_key"


# --- again ---


def test_an_enclave_may_register_again(world: World) -> None:
    """After a restart: the same keys, the same manifest or a newer one."""
    party = world.parties[0]
    assert world.register(party, world.honest_registration(party)) == "ok"
    party.manifest = (4, b"\x04" * 32)
    assert world.register(party, world.honest_registration(party)) == "ok"
    assert world.party_record(1).manifest_serial == 4


def test_registering_again_ends_a_lapse(world: World) -> None:
    """Once its release is listed again, or with a listed one, a party votes again."""
    other = replace(RELEASE, name="v2", pcr0=b"\x11" * 48)
    world.govern(world.governance.set_releases(other))
    party = world.parties[0]
    assert world.register(party, world.honest_registration(party)) == "document.pcr_mismatch"
    edit = {**PCRS, 0: other.pcr0}
    upgraded = world.honest_registration(party, edit=lambda draft: draft.fields["pcrs"].update(edit))
    assert world.register(party, upgraded) == "ok"
    assert world.party_record(1).registration is not None


@pytest.mark.parametrize("which", ["evidence", "signing"])
def test_keys_never_change(world: World, which: str) -> None:
    """Another key of either kind is refused for ever, also from the same image and configuration."""
    party = world.parties[0]
    before = world.party_record(1)
    setattr(party, which, ed25519("new") if which == "evidence" else secp256k1("new"))
    assert world.register(party, world.honest_registration(party)) == "fhevm.registration_keys"
    assert world.party_record(1) == before


@pytest.mark.parametrize("which", ["evidence", "signing"])
def test_two_parties_do_not_share_a_key(admitted: World, which: str) -> None:
    """One enclave cannot vote twice under two names."""
    alpha, beta = admitted.parties
    assert admitted.register(alpha, admitted.honest_registration(alpha)) == "ok"
    setattr(beta, which, getattr(alpha, which))
    assert admitted.register(beta, admitted.honest_registration(beta)) == "fhevm.registration_key_held"


@pytest.mark.parametrize("serial", [2, 9])
def test_a_first_manifest_has_number_one(admitted: World, serial: int) -> None:
    """A vault that was used before has no first registration."""
    assert attempt(admitted, manifest=(serial, bytes(32))) == "fhevm.manifest"


def test_an_older_vault_is_refused(world: World) -> None:
    """The number of the manifest never falls, and one number means one manifest."""
    party = world.parties[0]
    party.manifest = (4, b"\x04" * 32)
    assert world.register(party, world.honest_registration(party)) == "ok"
    assert attempt(world, manifest=(3, b"\x04" * 32)) == "fhevm.manifest"
    assert attempt(world, manifest=(4, b"\x05" * 32)) == "fhevm.manifest"
    assert attempt(world, manifest=(4, b"\x04" * 32)) == "ok"


# --- freshness ---


MALLORY = b"\x66" * 32


def nonce(world: World, value: bytes, party: str = "alpha", sender: bytes = SENDER) -> Outcome:
    return world.block(("freshness", {"party": party, "nonce": value}, sender))[0]


def test_a_nonce_stands_in_its_senders_place(admitted: World) -> None:
    """The result names the key under which it is proven; the same sender's next one takes its place."""
    key = nonce(admitted, b"\x07" * 32).value["key"]
    assert admitted.value(layout.FRESHNESS, key) == b"\x07" * 32
    other = nonce(admitted, b"\x08" * 32, "beta", MALLORY).value["key"]
    assert other != key
    assert nonce(admitted, b"\x09" * 32).value["key"] == key
    assert admitted.value(layout.FRESHNESS, key) == b"\x09" * 32
    assert admitted.value(layout.FRESHNESS, other) == b"\x08" * 32


def test_whoever_is_first_in_every_block_keeps_no_nonce_out(admitted: World) -> None:
    """Others' nonces, before and after it, in its block and in all that follow, leave a nonce where it is."""
    flood = [("freshness", {"party": "alpha", "nonce": bytes([n]) * 32}, bytes([n]) * 32) for n in range(100, 150)]
    own = ("freshness", {"party": "alpha", "nonce": b"\x07" * 32}, SENDER)
    outcomes = admitted.block(*flood, own, *flood)
    assert {outcome.code for outcome in outcomes} == {"ok"}
    key = outcomes[len(flood)].value["key"]
    for _ in range(3):
        admitted.block(*flood)
        assert admitted.value(layout.FRESHNESS, key) == b"\x07" * 32


def test_a_flood_of_one_sender_adds_no_state(admitted: World) -> None:
    """However often a sender writes, it has one place."""
    keys = {nonce(admitted, bytes([number]) * 32).value["key"] for number in range(20)}
    assert len(keys) == 1


@pytest.mark.parametrize("value", [b"", bytes(31), bytes(33)])
def test_a_nonce_has_32_bytes(admitted: World, value: bytes) -> None:
    """Any other length is refused."""
    assert nonce(admitted, value).code == "encoding.schema"


def test_a_nonce_for_no_party_is_refused(admitted: World) -> None:
    """A name that governance has not admitted is most likely a slip of the pen."""
    assert nonce(admitted, bytes(32), "omega").code == "fhevm.party_unknown"


def test_hashes_of_old_blocks_are_forgotten(admitted: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The contract keeps as many as it says, and no more."""
    monkeypatch.setattr(closing, "LIMITS", replace(LIMITS, block_hashes=128))
    admitted.skip(140)
    kept = [height for height in range(1, admitted.height + 1) if admitted.index("hashes", number(height))]
    assert kept == list(range(admitted.height - 127, admitted.height + 1))
