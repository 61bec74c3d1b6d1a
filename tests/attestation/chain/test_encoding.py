"""The one encoding of the chain's messages, its hash tree, and agreement with an encoder written independently."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cipherkeep_attestation.chain import merkle, protobuf
from cipherkeep_attestation.chain.header import Header, LightBlock, Timestamp, vote_sign_bytes
from cipherkeep_attestation.chain.protobuf import Kind
from cipherkeep_attestation.errors import EvidenceError, Malformed
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulators.chain import ABSENT, COMMIT, NIL, SimulatedChain, tree_root

KINDS = {1: Kind.VARINT, 2: Kind.BYTES, 3: Kind.MESSAGE, 4: Kind.OPTIONAL, 5: Kind.REPEATED}


@given(st.lists(st.binary(max_size=40), max_size=70))
def test_the_tree_is_that_of_the_rfc(leaves: list[bytes]) -> None:
    """Bottom up gives the same root as the recursive definition."""
    assert merkle.root(leaves) == tree_root(leaves)


@given(st.integers(0, (1 << 64) - 1), st.binary(max_size=20), st.binary(max_size=20), st.lists(st.binary(max_size=9)))
def test_what_is_written_is_read(number: int, data: bytes, inner: bytes, items: list[bytes]) -> None:
    """All kinds of fields come back, and the bytes are the only ones for these values."""
    encoded = (
        protobuf.put_integer(1, number)
        + protobuf.put_bytes(2, data)
        + protobuf.put_message(3, inner)
        + b"".join(protobuf.put_message(5, item) for item in items)
    )
    assert protobuf.decode(encoded, KINDS) == {1: number, 2: data, 3: inner, 4: None, 5: items}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("", "protobuf.missing_field"),
        ("1a", "protobuf.truncated"),
        ("1a01", "protobuf.truncated"),
        ("0880", "protobuf.truncated"),
        ("08001a00", "protobuf.default_value"),
        ("12001a00", "protobuf.default_value"),
        ("0881001a00", "protobuf.integer"),  # longer than needed
        ("08ffffffffffffffffff021a00", "protobuf.integer"),  # 65 bits
        ("08ffffffffffffffffffff011a00", "protobuf.integer"),
        ("8800011a00", "protobuf.integer"),  # a field number longer than needed
        ("1a001a00", "protobuf.repeated_field"),
        ("1a000801", "protobuf.field_order"),
        ("1a003200", "protobuf.unknown_field"),
        ("0a00", "protobuf.wire_type"),
        ("1a00ff", "protobuf.truncated"),
        ("1affffffffffffffff7f", "protobuf.truncated"),  # a length far beyond the end
    ],
)
def test_other_encodings_are_refused(data: str, code: str) -> None:
    """What a lenient reader would take for the same message is none."""
    with pytest.raises(EvidenceError) as refused:
        protobuf.decode(bytes.fromhex(data), KINDS)
    assert refused.value.code == code


def test_a_chain_id_is_text() -> None:
    """A name that is not UTF-8 is no name, whoever signed it."""
    chain = SimulatedChain(1)
    name = chain.drafts[0].header["chain_id"].encode()
    for wrong in (b"\xff" * len(name), b"\xed\xa0\x80".ljust(len(name), b"x")):
        with pytest.raises(EvidenceError) as refused:
            LightBlock.decode(chain.encoded(1).replace(name, wrong))
        assert refused.value.code == "protobuf.text"


@pytest.mark.parametrize("version", [-1, 1 << 64])
def test_an_application_version_has_64_bits(version: int) -> None:
    """Whoever makes a header has the bound that the encoding has."""
    header = SimulatedChain(1).light_block(1).header
    for edge in (0, (1 << 64) - 1):
        assert replace(header, app_version=edge).hash()
    with pytest.raises(EvidenceError) as refused:
        replace(header, app_version=version)
    assert refused.value.code == "lightclient.app_version"


@settings(max_examples=400)
@given(st.binary(max_size=60))
def test_whatever_is_read_has_one_encoding(data: bytes) -> None:
    """Bytes are refused, or are exactly what writing their values gives."""
    try:
        found = protobuf.decode(data, KINDS)
    except EvidenceError:
        return
    optional = protobuf.optional(found, 4)
    again = (
        protobuf.put_integer(1, protobuf.integer(found, 1))
        + protobuf.put_bytes(2, protobuf.octets(found, 2))
        + protobuf.put_message(3, protobuf.octets(found, 3))
        + (b"" if optional is None else protobuf.put_message(4, optional))
        + b"".join(protobuf.put_message(5, item) for item in protobuf.repeated(found, 5))
    )
    assert again == data


def test_integers_that_do_not_fit_are_not_written() -> None:
    """Wrapping around would give two values the same bytes."""
    for value in (1 << 64, -(1 << 63) - 1):
        with pytest.raises(OverflowError):
            protobuf.varint(value)


@pytest.mark.parametrize("validators", [1, 4, 9])
def test_blocks_agree_with_an_independent_encoder(validators: int) -> None:
    """Header hash, set hash, vote bytes and the block's own bytes are those of a simulator that shares no code."""
    chain = SimulatedChain(validators)
    chain.produce()
    chain.produce()
    votes = [(COMMIT, NIL, ABSENT)[index % 3] for index in range(validators)]
    data = chain.forge(height=2, votes=votes)
    block = LightBlock.decode(data)
    draft = chain.drafts[1]
    assert block.encode() == data
    assert block.header.hash() == draft.hash()
    assert block.validators.hash() == draft.header["validators_hash"]
    for slot, validator in zip(block.commit.signatures, draft.validators, strict=True):
        if slot.signature:
            validator.key.public_key().verify(slot.signature, vote_sign_bytes(chain.chain_id, block.commit, slot))


def test_no_byte_of_a_block_can_be_left_out_or_changed_unseen() -> None:
    """Cut anywhere a block is refused; with a byte changed it is refused or is another block."""
    chain = SimulatedChain(2)
    data = chain.encoded(1)
    for cut in range(len(data)):
        with pytest.raises(EvidenceError):
            LightBlock.decode(data[:cut])
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 0x40
        try:
            block = LightBlock.decode(bytes(changed))
        except EvidenceError:
            continue
        assert block.encode() == bytes(changed)


@given(st.datetimes())
def test_times_come_back(at: datetime) -> None:
    """A datetime and the chain's form of it are one time, before 1970 too."""
    at = at.replace(tzinfo=UTC)
    stamp = Timestamp.of(at)
    assert stamp.datetime == at
    assert Timestamp.decode(stamp.encode()) == stamp


def test_unauthenticated_fields_are_refused() -> None:
    """Priorities, proposer and total of a set are in no hash: a block that carries them is not read (ASA-2024-009)."""
    chain = SimulatedChain(1)
    validator = chain.validators[0]
    with_priority = validator.encode() + protobuf.put_integer(4, 5)
    signed = protobuf.put_message(1, chain.drafts[0].encode_header())
    signed += protobuf.put_message(2, chain.drafts[0].encode_commit())
    for validators in (
        protobuf.put_message(1, with_priority),
        protobuf.put_message(1, validator.encode()) + protobuf.put_message(2, validator.encode()),
        protobuf.put_message(1, validator.encode()) + protobuf.put_integer(3, 10),
    ):
        with pytest.raises(EvidenceError) as refused:
            LightBlock.decode(protobuf.put_message(1, signed) + protobuf.put_message(2, validators))
        assert refused.value.code == "lightclient.unauthenticated_field"


def test_a_chain_id_that_is_no_text_is_refused() -> None:
    """Bytes that are not UTF-8 where a protobuf text belongs."""
    chain = SimulatedChain(1, "some-chain")
    encoded = chain.drafts[0].encode_header()
    assert Header.decode(encoded).chain_id == "some-chain"
    with pytest.raises(Malformed) as refusal:
        Header.decode(encoded.replace(b"some-chain", b"some\xffchain"))
    assert refusal.value.code == "protobuf.text"
