"""How governance decides on the chain."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements import governance, layout
from cipherkeep_attestation.statements.layout import Control
from cipherkeep_enclave.limits import DEFAULT
from cipherkeep_host.contracts.fhevm import Fhevm, governing
from cipherkeep_host.contracts.fhevm.limits import LIMITS
from cipherkeep_host.contracts.interface import ContractState

from tests.simulators.attestation import PCRS
from tests.simulators.contract import RELEASE, World
from tests.simulators.coprocessor import TERMS
from tests.simulators.governance import SimulatedGovernance, ed25519


def test_the_control_leaf_stands_from_genesis(bare: World) -> None:
    """Before the first statement it says that there are none."""
    assert bare.control() == Control()


def test_statements_stand_in_state_under_their_numbers(bare: World) -> None:
    """Each statement is kept as it was signed, and the leaf chains them all."""
    made = [bare.governance.admit("alpha"), bare.governance.set_releases(RELEASE), bare.governance.lift(bytes(32))]
    expected = Control()
    for serial, statement in enumerate(made, 1):
        assert bare.govern(statement) == "ok"
        expected = expected.after(statement)
        assert bare.value(layout.STATEMENTS, serial) == statement
        assert bare.control() == expected
    chained = bytes(32)
    for statement in made:
        chained = hashlib.sha256(chained + hashlib.sha256(statement).digest()).digest()
    assert (expected.serial, expected.statements) == (3, chained)


def test_several_statements_fit_one_block(bare: World) -> None:
    """Each is judged after the one before it."""
    statements = [bare.governance.admit(name) for name in ("alpha", "beta")]
    outcomes = bare.block(*[("govern", {"statement": statement}) for statement in statements])
    assert [outcome.value for outcome in outcomes] == [{"serial": 1}, {"serial": 2}]


@pytest.mark.parametrize("serial", [2, 3, 1 << 40])
def test_no_number_is_skipped(bare: World, serial: int) -> None:
    """A statement that is not the next one is refused."""
    assert bare.govern(bare.governance.admit("alpha", serial=serial)) == "governance.serial"
    assert bare.control() == Control()


def test_a_statement_takes_effect_once(bare: World) -> None:
    """A replayed statement has a number that was used."""
    statement = bare.governance.admit("alpha")
    assert bare.govern(statement) == "ok"
    assert bare.govern(statement) == "governance.serial"


def test_k_minus_one_signatures_decide_nothing(bare: World) -> None:
    """One of three where two must sign."""
    statement = bare.governance.admit("alpha", signers=bare.governance.keys[:1])
    assert bare.govern(statement) == "governance.quorum"


def test_a_stranger_decides_nothing(bare: World) -> None:
    """A foreign key beside two governors refuses the whole, so that nobody can make other bytes of a statement."""
    keys = [*bare.governance.keys[:2], ed25519("stranger")]
    assert bare.govern(bare.governance.admit("alpha", signers=keys)) == "governance.stranger"


def test_one_governor_twice_is_one(bare: World) -> None:
    """The same key and signature again is malformed."""
    key = bare.governance.keys[0]
    assert bare.govern(bare.governance.admit("alpha", signers=[key, key])) == "governance.signature_order"


def test_a_statement_of_another_instance_is_refused(bare: World) -> None:
    """The same governors decide for each instance apart, and for each set of genesis parameters."""
    other = bare.governance.admit("alpha", instance="two")
    assert bare.govern(other) == "governance.instance"
    bare.governance.serial = 0
    same_name = bare.governance.admit("alpha", genesis=bytes(32))
    assert bare.govern(same_name) == "governance.instance"


def test_a_configuration_is_admitted_once(bare: World) -> None:
    """The same admission again is refused and does not count, and an earlier configuration may come back."""
    one, two = b"\x01" * 48, b"\x02" * 48
    assert bare.govern(bare.governance.admit("alpha", one)) == "ok"
    assert bare.govern(bare.governance.admit("alpha", one)) == "fhevm.party_exists"
    bare.governance.serial = 1
    for configuration in (two, one):
        assert bare.govern(bare.governance.admit("alpha", configuration)) == "ok"
        assert bare.party_record(1).configuration == configuration
    assert bare.control().serial == 3
    assert bare.value(layout.PARTIES, 2) is None


def test_a_name_has_one_place(bare: World) -> None:
    """The second party comes after the first, however often that was admitted."""
    assert bare.govern(bare.governance.admit("alpha")) == "ok"
    assert bare.govern(bare.governance.admit("alpha")) == "fhevm.party_exists"
    bare.governance.serial = 1
    assert bare.govern(bare.governance.admit("beta")) == "ok"
    assert [bare.party_record(index).name for index in (1, 2)] == ["alpha", "beta"]


def test_parties_have_an_end(bare: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit nobody is admitted."""
    monkeypatch.setattr(governing, "LIMITS", replace(LIMITS, parties=1))
    assert bare.govern(bare.governance.admit("alpha")) == "ok"
    assert bare.govern(bare.governance.admit("beta")) == "fhevm.parties_full"
    bare.governance.serial = 1
    assert bare.govern(bare.governance.admit("alpha", b"\x01" * 48)) == "ok"  # it takes no room


def test_an_authoriser_must_be_allowed_by_genesis(tmp_path: Path) -> None:
    """No number of signatures makes an insecure authoriser work where the genesis does not name it."""
    world = World(tmp_path / "state", parties=0, insecure_allow_all=False)
    assert world.govern(world.governance.keygen(TERMS)) == "fhevm.authoriser"
    world.state.close()


def test_keys_have_an_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit no key generation is decided, also while earlier ones are not final. A vault holds as many."""
    assert LIMITS.keys == DEFAULT.keys
    monkeypatch.setattr(governing, "LIMITS", replace(LIMITS, keys=2))
    assert world.govern(world.governance.keygen(TERMS)) == "ok"
    assert world.govern(world.governance.keygen(TERMS)) == "fhevm.keys_full"


def test_only_known_keys_are_retired_and_once(world: World) -> None:
    """A statement about no key is refused, and so is a second one about the same."""
    assert world.govern(world.governance.retire(bytes(32))) == "fhevm.key_unknown"
    world.governance.serial -= 1
    assert world.govern(world.governance.retire(world.key_id)) == "ok"
    assert world.govern(world.governance.retire(world.key_id)) == "fhevm.key_retired"


def test_dropping_a_release_marks_its_parties(world: World) -> None:
    """The record says that the registration lapsed; keys, measurements and manifest stay as evidence."""
    before = world.party_record(1)
    other = replace(RELEASE, name="v2", pcr0=b"\x11" * 48)
    assert world.govern(world.governance.set_releases(other)) == "ok"
    assert world.party_record(1) == replace(before, registration=None)


@pytest.mark.parametrize("field", ["pcr0", "pcr1", "pcr2"])
def test_a_release_is_all_three_measurements(world: World, field: str) -> None:
    """A release that shares two of three keeps no registration alive."""
    change: dict[str, Any] = {field: b"\x11" * 48}
    other = replace(RELEASE, **change)
    assert world.govern(world.governance.set_releases(other)) == "ok"
    assert world.party_record(1).registration is None


def test_adding_a_release_lapses_nobody(world: World) -> None:
    """During an upgrade both releases are listed."""
    before = world.party_record(1)
    assert world.govern(world.governance.set_releases(replace(RELEASE, pcr0=b"\x11" * 48), RELEASE)) == "ok"
    assert world.party_record(1) == before


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (governance.ADMIT_PARTY, {}),
        (governance.ADMIT_PARTY, {"name": "a"}),
        (governance.ADMIT_PARTY, {"configuration": bytes(48)}),
        (governance.ADMIT_PARTY, {"name": "", "configuration": bytes(48)}),
        (governance.ADMIT_PARTY, {"name": "a", "configuration": bytes(32)}),
        (governance.ADMIT_PARTY, {"name": "a", "configuration": None}),
        (governance.ADMIT_PARTY, {"name": "a", "configuration": bytes(48), "more": 1}),
        (governance.SET_COPROCESSORS, {"signers": [], "threshold": 1}),
        (governance.SET_COPROCESSORS, {"signers": [bytes(20)], "threshold": 0}),
        (governance.SET_RELEASES, {"releases": []}),
        (governance.RETIRE_KEY, {"key_id": bytes(31)}),
        (governance.LIFT_FREEZE, {"conflict": None}),
        (governance.KEYGEN, {**TERMS.to_map(), "public_decrypt": "allow_all"}),
        ("set_prices", {}),
    ],
)
def test_signed_nonsense_is_refused(bare: World, kind: str, body: dict[str, object]) -> None:
    """Governors can sign anything; what has no meaning does not get a number."""
    assert bare.govern(bare.governance.statement(kind, body)) == "encoding.schema"
    assert bare.control() == Control()


def test_a_set_that_cannot_agree_is_refused(bare: World) -> None:
    """A threshold above the number of signers, or a signer twice."""
    too_many = {"signers": [bytes(20)], "threshold": 2}
    twice = {"signers": [bytes(20), bytes(20)], "threshold": 1}
    for body in (too_many, twice):
        assert bare.govern(bare.governance.statement("set_coprocessors", body, serial=1)) == "governance.coprocessors"


def test_genesis_parameters_that_are_none_stop_the_start(bare: World) -> None:
    """A chain whose instance has malformed parameters does not begin."""
    block = bare.state.begin(bare.height + 1)
    with pytest.raises(EvidenceError):
        Fhevm.create(ContractState(block, "one"), b"\xa0")


def test_the_simulated_image_is_what_the_release_names() -> None:
    """The governors of these tests list the platform's measurements."""
    assert SimulatedGovernance().genesis.governors.threshold == 2
    assert RELEASE.pcr0 == PCRS[0]
