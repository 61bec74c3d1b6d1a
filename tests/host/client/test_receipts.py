"""Receipts: made from one node, judged with no node, and worth nothing once anything in them is exchanged."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cipherkeep_attestation.cli.main import main
from cipherkeep_attestation.eif import configuration_pcr
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.nitro.verify import Measurements, TrustRoot
from cipherkeep_attestation.receipts.judging import Evidence, Trust, lead
from cipherkeep_attestation.receipts.offline import PLAN, Audited, audit, genesis_of
from cipherkeep_attestation.receipts.receipt import MAX_RECEIPT, Receipt, Registered
from cipherkeep_attestation.receipts.trust import read_toml, write_toml
from cipherkeep_attestation.statements import layout, request
from cipherkeep_attestation.statements.answer import Answer, unverified
from cipherkeep_attestation.statements.governance import Release
from cipherkeep_attestation.trace import State, Trace
from cipherkeep_host.client import receipts
from cipherkeep_host.client.receipts import make_receipt
from cipherkeep_host.contracts.fhevm import answering, registering, requesting
from cipherkeep_host.contracts.fhevm.records import number
from cipherkeep_host.errors import HostError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.host.client.conftest import Setting, setting
from tests.simulators.attestation import PCRS, SimulatedPlatform
from tests.simulators.contract import RELEASE
from tests.simulators.coprocessor import SimulatedCoprocessors
from tests.simulators.governance import SimulatedGovernance


def root_of(setting: Setting) -> TrustRoot:
    return TrustRoot(setting.world.platform.root().certificate_der, "simulated")


def archived(setting: Setting) -> Trust:
    return replace(setting.trust, max_age=None)


def judged(setting: Setting, receipt: Receipt, **other: Any) -> Audited:
    """The verdict of somebody who trusts what the setting trusts, whenever he looks."""
    how: dict[str, Any] = {"trust": archived(setting), "enclave_root": root_of(setting), "measurements": None}
    how["now"] = setting.now + timedelta(days=400)
    return audit(Receipt.decode(receipt.encode()), **{**how, **other})


def refused(setting: Setting, receipt: Receipt, **other: Any) -> str:
    with pytest.raises(EvidenceError) as refusal:
        judged(setting, receipt, **other)
    return refusal.value.code


async def answered(setting: Setting, *values: int) -> Receipt:
    """The receipt of a public decryption."""
    found = setting.answered(setting.world.public(*range(1, len(values) + 1)), *values)
    return await make_receipt(setting.node, found.counter, trust=setting.trust)


# --- what a receipt shows ---


async def test_a_receipt_shows_answer_image_and_configuration(one: Setting) -> None:
    """More than a year later, with no node: what was asked, what was answered, which image held the key."""
    receipt = await answered(one, 42, 7)
    trace = Trace()
    found = judged(one, receipt, trace=trace)
    assert [(name, value) for _, name, value in found.verified.values] == [("uint64", 42), ("uint64", 7)]
    (holder,) = found.holders
    party = one.world.parties[0]
    assert holder.voucher.signer == party.signer
    assert holder.release == RELEASE.name
    assert holder.attestation.pcrs[0] == PCRS[0]
    assert holder.configuration == party.configuration
    assert found.key_id == one.world.key_id and found.terms == one.terms
    assert found.registered_later == ()
    states = {check.code: check.state for check in trace.checks(PLAN)}
    waived = {"receipt.old_header", "receipt.policy"}
    assert {code for code, state in states.items() if state is not State.PASSED} == waived


async def test_a_receipt_of_a_user_decryption_names_the_user(one: Setting) -> None:
    """Who asked, and that the payload is hers alone to open."""
    found = one.answered(one.world.user(1))
    receipt = await make_receipt(one.node, found.counter, trust=one.trust)
    asked = judged(one, receipt).verified.asked
    assert getattr(asked, "user", None) == one.world.alice.address


async def test_a_receipt_of_a_key_generation_needs_no_other_key(one: Setting) -> None:
    """The key's own request is the evidence for its terms."""
    receipt = await make_receipt(one.node, 1, trust=one.trust)
    assert receipt.key is None
    assert judged(one, receipt).key_id == one.world.key_id


async def test_every_party_that_answered_is_shown(four: Setting) -> None:
    """Three of four: each with its registration."""
    receipt = await answered(four, 5)
    assert len(judged(four, receipt).holders) == 3
    for missing in range(3):
        fewer = tuple(item for at, item in enumerate(receipt.registrations) if at != missing)
        assert refused(four, replace(receipt, registrations=fewer)) == "receipt.registration"


async def test_an_unanswered_request_has_no_receipt(one: Setting) -> None:
    """Neither has one that nobody knows."""
    found = one.world.ask(one.world.public(1))
    one.world.block()
    with pytest.raises(HostError) as refusal:
        await make_receipt(one.node, found.counter, trust=one.trust)
    assert refusal.value.code == "client.not_final"
    with pytest.raises(HostError):
        await make_receipt(one.node, 99, trust=one.trust)


async def test_a_receipt_is_one_encoding(one: Setting) -> None:
    """It reads back as it was, and its bytes are those of its meaning."""
    receipt = await answered(one, 5)
    data = receipt.encode()
    assert Receipt.decode(data) == receipt
    assert len(data) < 20_000
    for wrong in (data + b"\0", data[:-1], b"", b"\xa0", b"\xff" * 40):
        with pytest.raises(EvidenceError):
            Receipt.decode(wrong)


# --- what a receipt cannot be made to show ---


def _request(receipt: Receipt, **changes: Any) -> Receipt:
    return replace(receipt, request=replace(receipt.request, **changes))


def _blocks(receipt: Receipt, blocks: tuple[Any, ...]) -> Receipt:
    assert receipt.key is not None
    return replace(receipt, request=replace(receipt.request, blocks=blocks), key=replace(receipt.key, blocks=blocks))


def _registered(receipt: Receipt, **changes: Any) -> Receipt:
    first, *rest = receipt.registrations
    return replace(receipt, registrations=(replace(first, **changes), *rest))


def _without(receipt: Receipt, height: int) -> Receipt:
    return _blocks(receipt, tuple(block for block in receipt.blocks if block.header.height != height))


def _head(evidence: Evidence | None) -> int:
    assert evidence is not None
    return unverified(evidence.answers[0][1]).context.head_height


def _flipped(value: bytes) -> bytes:
    return value[:-1] + bytes((value[-1] ^ 1,))


LIES: dict[str, tuple[Callable[[Receipt], Receipt], set[str]]] = {
    "another answer": (
        lambda r: _request(r, answers=((1, r.key.answers[0][1]),)),  # type: ignore[union-attr]
        {"receipt.answer"},
    ),
    "no answer": (lambda r: _request(r, answers=()), {"receipt.answer"}),
    "no party": (lambda r: _request(r, parties=()), {"receipt.party"}),
    "another body": (lambda r: _request(r, body=r.request.body + b"\0"), {"receipt.body"}),
    "another record": (
        lambda r: _request(r, record=replace(r.request.record, value=r.key.record.value)),  # type: ignore[union-attr]
        {"proof.value"},
    ),
    "another counter": (
        lambda r: _request(r, record=replace(r.request.record, key=r.request.record.key + 1)),
        {"proof.key"},
    ),
    "no key": (lambda r: replace(r, key=None), {"receipt.not_a_key"}),
    "itself as its key": (lambda r: replace(r, key=r.request), {"receipt.not_a_key", "receipt.answer"}),
    "no way to the header": (lambda r: _blocks(r, r.blocks[:1]), {"proof.root", "proof.value"}),
    "no root": (lambda r: _blocks(r, r.blocks[1:]), {"lightclient.root"}),
    "blocks in another order": (lambda r: _blocks(r, r.blocks[::-1]), {"receipt.form"}),
    "a block twice": (lambda r: _blocks(r, (r.blocks[0], *r.blocks)), {"receipt.form"}),
    "no block of the registration": (
        lambda r: _without(r, r.registrations[0].height),
        {"lightclient.height_unknown"},
    ),
    "no header of the answer": (lambda r: _without(r, _head(r.request)), {"receipt.head"}),
    "no header of the key's answer": (lambda r: _without(r, _head(r.key)), {"receipt.head"}),
    "no statements": (lambda r: replace(r, statements=()), {"governance.log"}),
    "the newest statement left out": (lambda r: replace(r, statements=r.statements[:-1]), {"governance.log"}),
    "the first statement left out": (lambda r: replace(r, statements=r.statements[1:]), {"governance.log"}),
    "statements in another order": (lambda r: replace(r, statements=r.statements[::-1]), {"governance.log"}),
    "a statement twice": (lambda r: replace(r, statements=(*r.statements, r.statements[-1])), {"governance.log"}),
    "another value for the control leaf": (
        lambda r: replace(r, control=replace(r.control, value=layout.Control(1, bytes(32)).encode())),
        {"proof.value"},
    ),
    "another place for the control leaf": (lambda r: replace(r, control=replace(r.control, key=2)), {"receipt.form"}),
    "no registration": (lambda r: replace(r, registrations=()), {"receipt.registration"}),
    "a registration of another height": (
        lambda r: _registered(r, height=r.registrations[0].height - 200 if r.registrations[0].height > 200 else 1),
        {"registration.block"},
    ),
    "a registration from before its block": (lambda r: _registered(r, height=1), {"registration.block"}),
    "a registration by nobody": (
        lambda r: _registered(r, registration=_flipped(r.registrations[0].registration)),
        {"receipt.registration"},
    ),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_receipt_with_something_exchanged_is_refused(one: Setting, lie: str) -> None:
    """Whatever is left out, moved or swapped, something else does not fit any more."""
    edit, codes = LIES[lie]
    receipt = await answered(one, 5)
    with pytest.raises(EvidenceError) as refusal:
        judged(one, edit(receipt))
    assert refusal.value.code in codes


async def test_statements_belong_to_the_last_header(one: Setting) -> None:
    """An earlier control leaf, with the statements it counts, does not stand under a newer header."""
    earlier = await answered(one, 5)
    assert one.world.govern(one.world.governance.set_coprocessors(one.world.coprocessors.policy)) == "ok"
    one.world.block()
    later = await make_receipt(one.node, earlier.request.record.key, trust=one.trust)
    assert len(later.statements) == len(earlier.statements) + 1
    assert refused(one, replace(later, control=earlier.control, statements=earlier.statements)) == "proof.root"


async def test_what_is_trusted_decides(one: Setting) -> None:
    """Another chain, instance, genesis, root of enclaves, or age: the same receipt shows nothing."""
    receipt, trust = await answered(one, 5), archived(one)
    other_root = TrustRoot(SimulatedPlatform(at=one.now, name="other").root().certificate_der, "another")
    governors = replace(trust.genesis, governors=SimulatedGovernance(n=5, k=3).governors)
    cases: dict[str, dict[str, Any]] = {
        "lightclient.root": {"trust": replace(trust, root=replace(trust.root, header_hash=bytes(32)))},
        "lightclient.chain_id": {"trust": replace(trust, root=replace(trust.root, chain_id="other"))},
        "governance.instance": {"trust": replace(trust, genesis=governors)},
        "path.root": {"enclave_root": other_root},
        "receipt.old_header": {"trust": one.trust},
        "lightclient.trust_expired": {"now": one.now + timedelta(days=3651)},
        "lightclient.time_future": {"now": one.now - timedelta(days=1)},
    }
    for code, how in cases.items():
        assert refused(one, receipt, **how) == code


async def test_ones_own_policy_is_demanded_too(one: Setting) -> None:
    """The governors' release is not enough for whoever names images; one of several, in its window, is."""
    receipt = await answered(one, 5)
    pcr16 = configuration_pcr(one.world.parties[0].configuration.digest())
    good = Measurements({0: PCRS[0], 1: PCRS[1], 2: PCRS[2], 16: pcr16})
    bad = Measurements({0: bytes(47) + b"\1", 1: PCRS[1], 2: PCRS[2]})
    over = Measurements(good.pcrs, not_after=one.now - timedelta(days=1))
    judged(one, receipt, measurements=(bad, good))
    for measurements in ((bad,), (over,)):
        assert refused(one, receipt, measurements=measurements) == "receipt.policy"


async def test_statements_need_enough_governors(one: Setting) -> None:
    """One of two keys, for the same decision."""
    receipt = await answered(one, 5)
    strangers = SimulatedGovernance(roots=one.trust.genesis.enclave_roots)
    strangers.keys = strangers.keys[:1]
    few = strangers.set_coprocessors(one.world.coprocessors.policy, serial=1)
    assert refused(one, replace(receipt, statements=(few, *receipt.statements[1:]))) == "governance.quorum"


async def test_a_fork_that_was_noted_is_said(one: Setting) -> None:
    """The answer is from before, or was given by an enclave that was not shown the leaf: whoever reads must know."""
    receipt = await answered(one, 5)
    assert judged(one, receipt).fork is None
    world = one.world
    fork = world.chain.fork_at(world.height - 1)
    fork.produce(1)
    body = {"held": world.chain.encoded(world.height), "other": fork.encoded(world.height)}
    assert world.block(("report_fork", body))[0].code == "ok"
    world.block()
    later = await make_receipt(one.node, receipt.request.record.key, trust=one.trust)
    assert judged(one, later).fork is not None


# --- validators who leave out a check of the contract ---


def lenient(monkeypatch: pytest.MonkeyPatch, module: Any, *checks: str) -> None:
    """The contract as a lying validator runs it."""
    for check in checks:
        monkeypatch.setattr(module, check, lambda *_: None)


async def test_an_answer_names_a_header_of_this_chain(one: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between request and proofs, and by its hash: an answer under a fork, or under no header, is not this chain's."""
    lenient(monkeypatch, answering, "_check_head")
    party, world = one.world.parties[0], one.world
    for place, (head, code) in enumerate(
        [
            (lambda asked: (asked + 1, b"\xee" * 32), "receipt.fork"),
            (lambda asked: (asked, world.hash(asked)), "receipt.head"),
            (lambda asked: (asked + 100, world.hash(1)), "receipt.head"),
            (lambda asked: (10**9, bytes(32)), "receipt.head"),
        ],
        1,
    ):
        asked = world.public(place)
        found = world.ask(asked)
        at = world.height
        world.block()
        voted = party.answer(party.public_core(found.id, asked, [7]), head(at))
        assert world.vote([voted]) == ["final"]
        world.block()
        monkeypatch.setattr(receipts.answer, "unverified", lambda data, at=at, lie=voted: named(data, lie, at + 1))
        receipt = await make_receipt(one.node, found.counter, trust=one.trust)
        assert refused(one, receipt) == code


def named(data: bytes, lie: bytes, height: int) -> Answer:
    """The answer as if it named a header that there is, so that a receipt can be made of it."""
    found = unverified(data)
    return replace(found, context=replace(found.context, head_height=height)) if data == lie else found


async def test_an_answer_under_another_configuration_is_refused(one: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """The enclave was started with another one since it registered, or lies about it."""
    lenient(monkeypatch, answering, "_check_enclave")
    asked = one.world.public(1)
    found = one.world.ask(asked)
    one.world.block()
    (party,) = one.world.parties
    answer = party.answer(party.public_core(found.id, asked, [7]), one.world.head, configuration=bytes(48))
    assert one.world.vote([answer]) == ["final"]
    one.world.block()
    assert refused(one, await make_receipt(one.node, found.counter, trust=one.trust)) == "receipt.configuration"


async def test_a_record_with_an_id_of_its_own_is_refused(one: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids bind chain, instance, counter and content: validators cannot give a request another one."""
    theirs = SimpleNamespace(**{**vars(request), "request_id": lambda **_: b"\x11" * 32})
    monkeypatch.setattr(requesting, "request", theirs)
    assert refused(one, await answered(one, 5)) == "receipt.id"


def test_no_block_shows_nothing(one: Setting) -> None:
    """Not even the trust root."""
    with pytest.raises(EvidenceError) as refusal:
        lead(one.trust.root, (), now=one.now)
    assert refusal.value.code == "receipt.no_header"


async def test_a_party_with_another_configuration_than_admitted_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image is released and PCR16 fits; but governors signed for other hosts, roots and settings."""
    lenient(monkeypatch, registering, "_check_admitted")
    lenient(monkeypatch, answering, "_check_enclave")
    made = setting(tmp_path / "state")
    party = made.world.parties[0]
    party.configuration = replace(
        party.configuration,
        insecure=(*party.configuration.insecure, "insecure_any_host_measurement"),
        host_measurements=(),
    )
    assert made.world.register(party, made.world.honest_registration(party)) == "ok"
    receipt = await answered(made, 5)
    assert refused(made, receipt) == "receipt.admission"
    made.world.state.close()


async def test_an_admitted_configuration_names_a_root_of_the_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its enclave would take documents of a root that the genesis does not list."""
    lenient(monkeypatch, registering, "_check_roots")
    made = setting(tmp_path / "state")
    party, world = made.world.parties[0], made.world
    stranger = SimulatedPlatform(at=made.now, name="other").root().certificate_der
    party.configuration = replace(party.configuration, enclave_root=stranger)
    assert world.govern(world.governance.admit(party.name, party.configuration.digest())) == "ok"
    assert world.register(party, world.honest_registration(party)) == "ok"
    assert refused(made, await answered(made, 5)) == "receipt.admission"
    world.state.close()


async def test_a_receipt_is_judged_by_the_decisions_that_its_reader_names(one: Setting) -> None:
    """A later set of coprocessors did not sign the binding; by the decisions before it, the answer holds."""
    found = one.answered(one.world.public(1), 5)
    others = SimulatedCoprocessors(name="newer")
    assert one.world.govern(one.world.governance.set_coprocessors(others.policy)) == "ok"
    one.world.block()
    receipt = await make_receipt(one.node, found.counter, trust=one.trust)
    count = len(receipt.statements)
    assert refused(one, receipt) in ("binding.quorum", "binding.stranger")
    before = judged(one, receipt, decided=count - 1)
    assert (before.decisions.control.serial, before.statements) == (count - 1, count)
    assert refused(one, receipt, decided=count) in ("binding.quorum", "binding.stranger")
    assert refused(one, receipt, decided=1) == "receipt.not_a_key"
    for none in (0, -1, count + 1):
        assert refused(one, receipt, decided=none) == "receipt.decided"


async def test_a_party_that_registers_anew_makes_older_answers_say_so(one: Setting) -> None:
    """Its keys are the same; which image used them for the answer is not shown, and that is said."""
    found = one.answered(one.world.public(1), 5)
    party = one.world.parties[0]
    assert one.world.register(party, one.world.honest_registration(party)) == "ok"
    one.world.block()
    receipt = await make_receipt(one.node, found.counter, trust=one.trust)
    assert judged(one, receipt).registered_later == ("alpha",)


async def test_a_lapsed_registration_shows_no_image(one: Setting) -> None:
    """Once governors drop the image, the record pins no registration: a receipt from before is needed."""
    found = one.answered(one.world.public(1), 5)
    before = await make_receipt(one.node, found.counter, trust=one.trust)
    statement = one.world.governance.set_releases(Release("v2", bytes(48), PCRS[1], PCRS[2]))
    assert one.world.govern(statement) == "ok"
    one.world.block()
    after = await make_receipt(one.node, found.counter, trust=one.trust)
    assert refused(one, after) in ("receipt.registration", "registration.no_releases")
    judged(one, before)


async def test_another_partys_registration_does_not_stand_in(four: Setting) -> None:
    """Registrations are pinned by each party's own record."""
    receipt = await answered(four, 5)
    first, second, third = receipt.registrations
    swapped = (
        Registered(first.party, second.height, second.registration),
        Registered(second.party, first.height, first.registration),
        third,
    )
    assert refused(four, replace(receipt, registrations=swapped)) == "receipt.registration"


async def test_the_contract_keeps_each_partys_newest_registration(one: Setting) -> None:
    """The index has the height of the block and the bytes whose digest the record pins."""
    data = one.world.index("registrations", number(1))
    assert data is not None
    record = one.world.party_record(1)
    assert hashlib.sha256(data[8:]).digest() == record.registration
    party = one.world.parties[0]
    registered = one.world.honest_registration(party)
    assert one.world.register(party, registered) == "ok"
    assert one.world.index("registrations", number(1)) == number(one.world.height) + registered


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One receipt for many mutations."""
    import asyncio

    from tests.host.client.conftest import setting

    made = setting(tmp_path_factory.mktemp("world") / "state")
    receipt = asyncio.run(answered(made, 5))
    yield made, receipt.encode()
    made.world.state.close()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7), cut=st.booleans())
def test_no_changed_byte_passes(sample: Any, position: int, bit: int, cut: bool) -> None:
    """One bit flipped anywhere, or the end cut off: refused with a code, and nothing else happens.

    The exception: an answer to a nil vote's place, of which a single validator's chain has none.
    """
    made, data = sample
    changed = bytearray(data)
    at = position % len(changed)
    changed[at] ^= 1 << bit
    mutated = bytes(changed[:at]) if cut else bytes(changed)
    with pytest.raises(EvidenceError):
        audit(
            Receipt.decode(mutated),
            trust=archived(made),
            enclave_root=root_of(made),
            measurements=None,
            now=made.now,
        )


# --- the command ---


def files(folder: Path, setting: Setting, receipt: Receipt, *, digest_only: bool = False) -> list[str]:
    """A receipt and a trust file beside it."""
    (folder / "receipt.cbor").write_bytes(receipt.encode())
    (folder / "root.der").write_bytes(root_of(setting).certificate_der)
    trust = setting.trust
    text = write_toml(trust.root, trust.instance, trust.genesis, enclave_root="aws", comment="test")
    text = text.replace('"aws"', '"root.der"')
    if digest_only:
        text = "\n".join(line for line in text.splitlines() if not line.startswith("genesis ="))
    (folder / "trust.toml").write_text(text)
    return [str(folder / "receipt.cbor"), "--trust", str(folder / "trust.toml"), "--at", setting.now.isoformat()]


@pytest.mark.parametrize("digest_only", [False, True])
async def test_the_command_says_what_was_asked_and_what_held_the_key(
    one: Setting, tmp_path: Path, capsys: pytest.CaptureFixture[str], digest_only: bool
) -> None:
    """Every rule has its line; the genesis may be in the trust file, or only its digest."""
    receipt = await answered(one, 42)
    given_ = files(tmp_path, one, receipt, digest_only=digest_only)
    assert main(["answer", "verify", *given_]) == 0
    text = capsys.readouterr().out
    assert "uint64 42" in text and PCRS[0].hex() in text and "failed" not in text
    assert main(["answer", "verify", *given_, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accepted"] and found["answer"]["values"] == ["uint64 42"]
    assert found["parties"][0]["release"] == RELEASE.name
    assert found["answer"]["ciphertext digests"] == [one.world.ciphertext(1).digest.hex()]


async def test_the_command_shows_where_a_receipt_fails(
    one: Setting, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rule that failed says so, those before it passed, those behind it are not judged."""
    receipt = await answered(one, 42)
    assert main(["answer", "verify", *files(tmp_path, one, replace(receipt, registrations=()))]) == 1
    text = capsys.readouterr().out
    assert "  passed " in text and "  failed " in text and "  not judged " in text
    assert "receipt.registration" in text
    (tmp_path / "receipt.cbor").write_bytes(b"no receipt")
    given_ = files(tmp_path, one, receipt)
    (tmp_path / "receipt.cbor").write_bytes(b"\xa0")
    assert main(["answer", "verify", *given_]) == 1
    assert main(["answer", "verify", *given_[:-2]]) == 2
    assert "--at now" in capsys.readouterr().err
    (tmp_path / "receipt.cbor").write_bytes(receipt.encode() + bytes(MAX_RECEIPT))
    assert main(["answer", "verify", *given_, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["code"] == "encoding.size"
    (tmp_path / "trust.toml").write_text((tmp_path / "trust.toml").read_text().split("[enclave]")[0])
    assert main(["answer", "verify", *given_]) == 2


async def test_a_root_in_the_trust_file_is_exactly_one_certificate(one: Setting, tmp_path: Path) -> None:
    """Two certificates one after the other, or anything inside the base64 that is none, are not the first one."""
    given_ = files(tmp_path, one, await answered(one, 42))
    text = ssl.DER_cert_to_PEM_cert(root_of(one).certificate_der)
    trust = (tmp_path / "trust.toml").read_text()
    for root, code in (
        (text, 0),
        (text + text, 2),
        (text.replace("MII", "M!II", 1), 2),
        (text.replace("\n", "\n-\n", 1), 2),
        (text + "more", 2),
    ):
        (tmp_path / "trust.toml").write_text(trust.replace('"root.der"', f'"""\n{root}"""'))
        assert main(["answer", "verify", *given_]) == code, root


async def test_a_policy_in_the_trust_file_is_demanded(
    one: Setting, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The policy file beside the trust file names the images."""
    given_ = files(tmp_path, one, await answered(one, 42))
    rows = "".join(f'pcr{index} = "{PCRS[index].hex()}"\n' for index in (0, 1, 2))
    head = 'format = 1\nkind = "enclave"\nmax_age_seconds = 300\nnonce = "demanded"\n\n[[release]]\nversion = "1"\n'
    (tmp_path / "policy.toml").write_text(head + rows)
    with (tmp_path / "trust.toml").open("a") as file:
        file.write('policy = "policy.toml"\n')
    assert main(["answer", "verify", *given_]) == 0
    (tmp_path / "policy.toml").write_text(head + rows.replace(PCRS[0].hex(), "11" * 48))
    capsys.readouterr()
    assert main(["answer", "verify", *given_, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["code"] == "receipt.policy"
    (tmp_path / "policy.toml").write_text(head)
    assert main(["answer", "verify", *given_]) == 2


async def test_a_genesis_known_by_digest_comes_from_the_receipt(one: Setting) -> None:
    """It has that digest, or it is not taken."""
    receipt = await answered(one, 5)
    assert genesis_of(receipt, one.trust.genesis.digest()) == one.trust.genesis
    with pytest.raises(EvidenceError) as refusal:
        genesis_of(receipt, bytes(32))
    assert refusal.value.code == "configuration.genesis"


def test_trust_files_are_read_as_they_are_written(one: Setting) -> None:
    """What `dev trust` writes names chain, instance, genesis and root."""
    trust = one.trust
    text = write_toml(trust.root, trust.instance, trust.genesis, enclave_root="aws", comment="one line")
    found = read_toml(text.encode())
    assert (found.root, found.max_header_age) == (trust.root, None)
    assert found.instance is not None and found.instance.genesis == trust.genesis
    assert found.enclave is not None and found.enclave.root == "aws"
    for wrong in (
        text.replace('name = "fhevm"', "").replace(f'name = "{trust.instance}"', ""),
        text.replace(trust.genesis.digest().hex(), "00" * 32),
        text.replace("header_hash", "header_hush"),
        text.replace("height = 1", "height = true"),
        text.replace("[enclave]", "[enclaves]"),
        text + "\x00",
    ):
        with pytest.raises(EvidenceError) as refusal:
            read_toml(wrong.encode())
        assert refusal.value.code == "trust.form"
    assert isinstance(one.now, datetime) and layout.PARTIES
