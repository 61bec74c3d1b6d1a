"""Every statement has one encoding, and its reader takes exactly that.

For each kind: what is written is read back; whatever bytes a reader accepts, it would have written itself; and a map
with a field missing, added or of another type is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from cipherkeep_attestation import cbor
from cipherkeep_attestation.chain.light import LightRoot
from cipherkeep_attestation.errors import EvidenceError, Malformed
from cipherkeep_attestation.statements import layout, request
from cipherkeep_attestation.statements.answer import REFUSALS, Context, Core
from cipherkeep_attestation.statements.binding import Ciphertext, Grant
from cipherkeep_attestation.statements.configuration import MAX_CONFIGURATION, Configuration, Genesis, KeyService
from cipherkeep_attestation.statements.eip712 import Domain
from cipherkeep_attestation.statements.governance import (
    GRANTED_USERS,
    INSECURE_ALLOW_ALL,
    Coprocessors,
    Governors,
    KeyTerms,
    Release,
    Releases,
)
from cipherkeep_attestation.statements.manifest import KEY, MAX_MANIFEST, ROOT, Manifest, SealedObject
from cipherkeep_attestation.statements.registration import Claims
from cipherkeep_attestation.statements.request import Keygen, Origin, PublicDecrypt, UserDecrypt
from hypothesis import given, settings
from hypothesis import strategies as st


def raw(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


def some(least: int, most: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=least, max_size=most)


def words(most: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(codec="utf-8"), min_size=1, max_size=most)


def many(strategy: st.SearchStrategy[Any], least: int = 0, most: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, min_size=least, max_size=most).map(tuple)


def distinct(strategy: st.SearchStrategy[Any], key: Callable[[Any], Any] = lambda item: item) -> Any:
    return st.lists(strategy, min_size=1, max_size=4, unique_by=key).map(tuple)


numbers = st.integers(0, (1 << 63) - 1)
positive = st.integers(1, (1 << 63) - 1)
digest = raw(32)

domains = st.builds(Domain, words(64), words(16), numbers, raw(20))
governors = distinct(digest).flatmap(lambda keys: st.builds(Governors, st.just(keys), st.integers(1, len(keys))))
coprocessors = distinct(raw(20)).flatmap(lambda keys: st.builds(Coprocessors, st.just(keys), st.integers(1, len(keys))))
releases = st.builds(Releases, many(st.builds(Release, words(64), raw(48), raw(48), raw(48)), 1))
terms = st.builds(KeyTerms, words(96), st.just(INSECURE_ALLOW_ALL), st.just(GRANTED_USERS), numbers, raw(20), domains)
ciphertexts = st.builds(Ciphertext, digest, st.integers(0, 255), st.integers(0, 255), digest, raw(20), many(raw(65)))
batches = distinct(ciphertexts, lambda item: item.handle)
grants = st.builds(Grant, digest, raw(20), st.integers(0, 1 << 62), raw(65))
origins = st.builds(Origin, numbers, raw(20), numbers)
requests = st.one_of(
    st.builds(Keygen, some(1, 300)),
    st.builds(PublicDecrypt, digest, batches, some(0, 40), st.none() | origins),
    st.builds(
        UserDecrypt,
        digest,
        batches,
        raw(20),
        some(1, 40),
        many(raw(20), 1),
        st.integers(0, 1 << 62),
        st.integers(1, 365),
        some(0, 40),
        raw(65),
        many(grants),
    ),
)
genesis = st.builds(
    Genesis, governors, many(some(1, 40), 1), st.integers(1, 1000), st.integers(1, 1 << 32), st.booleans()
)


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    agreed = draw(genesis)
    cleartext, any_host = draw(st.booleans()), draw(st.booleans())
    insecure = {
        "insecure_allow_all": agreed.insecure_allow_all,
        "insecure_cleartext": cleartext,
        "insecure_any_host_measurement": any_host,
        "insecure_test_parameters": draw(st.booleans()),
    }
    kms = None if cleartext else KeyService(draw(words(256)), draw(words(253)), draw(some(1, 40)))
    return Configuration(
        LightRoot(draw(words(50)), draw(positive), draw(digest)),
        draw(words(64)),
        agreed,
        draw(words(64)),
        kms,
        draw(some(1, 40)),
        draw(some(1, 40)),
        () if any_host else draw(many(digest, 1)),
        tuple(sorted(name for name, on in insecure.items() if on)),
    )


claims = st.builds(Claims, words(64), words(64), digest, raw(33), some(1, 80), positive, st.tuples(positive, digest))
sealed = st.builds(SealedObject, st.sampled_from([ROOT, KEY]), digest, digest)
manifests = st.builds(Manifest, words(64), positive, positive, distinct(sealed, lambda item: (item.kind, item.id)))
inboxes = st.lists(st.tuples(positive, digest, digest), min_size=1, max_size=4, unique_by=lambda row: row[0]).map(
    lambda rows: layout.Inbox(tuple(layout.InboxEntry(*row) for row in sorted(rows)))
)
records = st.builds(
    layout.RequestRecord,
    digest,
    digest,
    words(32),
    positive,
    st.sampled_from([layout.PENDING, layout.FINAL, layout.EXPIRED, layout.REFUSED]),
    st.none() | digest,
    many(st.tuples(positive, digest)),
)
parties = st.builds(
    layout.PartyRecord,
    words(64),
    st.none() | digest,
    st.none() | raw(33),
    raw(48),
    st.none() | digest,
    st.none() | digest,
    numbers,
    st.none() | digest,
)
equivocations = st.builds(layout.Equivocation, positive, digest, st.integers(1, 1000), digest, digest)
results = st.dictionaries(words(32), st.binary(max_size=20) | words(5) | numbers | st.none(), max_size=4)
cores = st.builds(
    lambda refused, code, result, **rest: Core(
        refusal=code if refused else None, result=None if refused else result, **rest
    ),
    st.booleans(),
    st.sampled_from(sorted(REFUSALS)),
    results,
    id=digest,
    operation=words(32),
    key_id=st.none() | digest,
    digests=many(digest),
    signatures=st.dictionaries(words(32), some(1, 70), max_size=3),
)
contexts = st.builds(
    Context,
    st.integers(1, 1000),
    positive,
    digest,
    raw(48),
    raw(16),
    positive,
    digest,
    st.tuples(positive, digest),
)


@dataclass(frozen=True)
class Codec:
    """A kind of statement: how values of it are made, written and read."""

    values: st.SearchStrategy[Any]
    write: Callable[[Any], bytes]
    read: Callable[[bytes], Any]


def own(values: st.SearchStrategy[Any], kind: Any) -> Codec:
    return Codec(values, lambda value: value.encode(), kind.decode)


def mapped(values: st.SearchStrategy[Any], of_map: Callable[[object], Any]) -> Codec:
    return Codec(values, lambda value: cbor.encode(value.to_map()), lambda data: of_map(cbor.decode(data)))


CODECS: dict[str, Codec] = {
    "ciphertext": mapped(ciphertexts, Ciphertext.of_map),
    "claims": own(claims, Claims),
    "configuration": own(configurations(), Configuration),
    "context": mapped(contexts, Context.of_map),
    "control": own(st.builds(layout.Control, numbers, digest), layout.Control),
    "coprocessors": mapped(coprocessors, Coprocessors.of_map),
    "core": own(cores, Core),
    "domain": mapped(domains, Domain.of_map),
    "equivocation": own(equivocations, layout.Equivocation),
    "genesis": own(genesis, Genesis),
    "governors": mapped(governors, Governors.of_map),
    "grant": mapped(grants, Grant.of_map),
    "inbox": own(inboxes, layout.Inbox),
    "manifest": own(manifests, Manifest),
    "party record": own(parties, layout.PartyRecord),
    "releases": mapped(releases, Releases.of_map),
    "request": Codec(requests, lambda value: value.encode(), request.decode),
    "request record": own(records, layout.RequestRecord),
    "terms": mapped(terms, KeyTerms.of_map),
}
every = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())


@every
@settings(max_examples=40, deadline=None)
@given(draw=st.data())
def test_what_is_written_is_read_back(codec: Codec, draw: st.DataObject) -> None:
    """Reading is the inverse of writing."""
    value = draw.draw(codec.values)
    assert codec.read(codec.write(value)) == value


@every
@settings(max_examples=60, deadline=None)
@given(draw=st.data(), place=st.integers(0, 1 << 16), change=st.binary(max_size=3), gap=st.integers(0, 3))
def test_whatever_is_read_would_have_been_written(
    codec: Codec, draw: st.DataObject, place: int, change: bytes, gap: int
) -> None:
    """A reader that accepts damaged bytes has read a value whose only encoding they are."""
    data = codec.write(draw.draw(codec.values))
    place %= len(data)
    damaged = data[:place] + change + data[place + gap :]
    try:
        value = codec.read(damaged)
    except EvidenceError:
        return
    assert codec.write(value) == damaged


@every
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=120))
def test_noise_is_refused(codec: Codec, data: bytes) -> None:
    """Bytes that mean nothing end in an `EvidenceError`, never in another exception."""
    with pytest.raises(EvidenceError):
        codec.read(data)


def broken_maps(value: Any) -> list[Any]:
    """The same map with a field missing, a field added, and each field of a type that no field has."""
    if not isinstance(value, dict):
        return [{}, None, [], [[]], [None], 7]
    found: list[Any] = [{**value, "zz": 0}, {**value, "": None}, list(value), None]
    for name in value:
        found.append({key: item for key, item in value.items() if key != name})
        found.append({**value, name: {1: {2: 3}}})
        found.append({**value, name: -1})
        found.append({**value, name: not value[name] if isinstance(value[name], bool) else True} | {"zz": 1})
    return found


@every
@settings(max_examples=15, deadline=None)
@given(draw=st.data())
def test_missing_unknown_and_wrong_fields_are_refused(codec: Codec, draw: st.DataObject) -> None:
    """A map has exactly its fields, each of its own type."""
    data = codec.write(draw.draw(codec.values))
    for broken in broken_maps(cbor.decode(data)):
        with pytest.raises(EvidenceError):
            codec.read(cbor.encode(broken))


@every
@settings(max_examples=15, deadline=None)
@given(draw=st.data())
def test_other_encodings_of_the_same_are_refused(codec: Codec, draw: st.DataObject) -> None:
    """Bytes after the item, a tag around it, or an indefinite length are not what was written."""
    data = codec.write(draw.draw(codec.values))
    for other in (data + b"\x00", b"\xc1" + data, data[:-1], b""):
        with pytest.raises(Malformed) as refusal:
            codec.read(other)
        assert refusal.value.code.startswith("encoding.") or refusal.value.code == "request.operation"


@settings(max_examples=40, deadline=None)
@given(value=inboxes)
def test_an_inbox_is_in_the_order_of_its_counters(value: layout.Inbox) -> None:
    """Equal or falling counters are refused: a request stands in one place."""
    rows = [[entry.counter, entry.id, entry.digest] for entry in value.entries]
    for wrong in ([*rows, rows[-1]], rows[::-1] if len(rows) > 1 else [*rows, *rows]):
        with pytest.raises(Malformed) as refusal:
            layout.Inbox.decode(cbor.encode(wrong))
        assert refusal.value.code == "request.inbox_order"


def test_an_inbox_has_an_end() -> None:
    """1000 requests are read, one more is not, and neither is none."""
    rows = [[counter, bytes(32), bytes(32)] for counter in range(1, 1002)]
    assert len(layout.Inbox.decode(cbor.encode(rows[:1000])).entries) == 1000
    for wrong in (rows, []):
        with pytest.raises(Malformed):
            layout.Inbox.decode(cbor.encode(wrong))


def test_a_manifest_names_each_object_once() -> None:
    """Two rows about one object could be read as two versions."""
    twice = Manifest("alpha", 1, 1, (SealedObject(KEY, bytes(32), bytes(32)), SealedObject(KEY, bytes(32), b"1" * 32)))
    with pytest.raises(Malformed) as refusal:
        Manifest.decode(twice.encode())
    assert refusal.value.code == "manifest.duplicate"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"insecure": ("insecure_everything",)}, "configuration.insecure"),
        ({"insecure": ("insecure_cleartext", "insecure_allow_all")}, "configuration.insecure"),
        ({"insecure": ("insecure_allow_all", "insecure_allow_all")}, "configuration.insecure"),
        ({"kms": None}, "configuration.kms"),
        ({"insecure": ("insecure_allow_all", "insecure_cleartext")}, "configuration.kms"),
        ({"host_measurements": ()}, "configuration.host_measurements"),
        ({"insecure": ("insecure_allow_all", "insecure_any_host_measurement")}, "configuration.host_measurements"),
        ({"insecure": ()}, "configuration.allow_all"),
    ],
)
def test_a_configuration_does_not_contradict_itself(change: dict[str, Any], code: str) -> None:
    """What is unsafe is named, what is named is meant, and genesis agrees."""
    fields: dict[str, Any] = {
        "root": LightRoot("chain", 1, bytes(32)),
        "instance": "one",
        "genesis": Genesis(Governors((bytes(32),), 1), (b"root",), 1, 10, True),
        "party": "alpha",
        "kms": KeyService("arn", "host", b"ca"),
        "enclave_root": b"root",
        "host_root": b"root",
        "host_measurements": (bytes(32),),
        "insecure": ("insecure_allow_all",),
    }
    assert Configuration.decode(Configuration(**fields).encode()) == Configuration(**fields)
    with pytest.raises(Malformed) as refusal:
        Configuration(**{**fields, **change})
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("read", "limit"), [(Configuration.decode, MAX_CONFIGURATION), (Manifest.decode, MAX_MANIFEST)]
)
def test_size_comes_first(read: Callable[[bytes], Any], limit: int) -> None:
    """What is larger than is ever read is not looked at."""
    with pytest.raises(Malformed) as refusal:
        read(bytes(limit + 1))
    assert refusal.value.code == "encoding.size"


RECORD = layout.RequestRecord(bytes(32), bytes(32), "keygen", 1, layout.FINAL, bytes(32), ((1, bytes(32)),))
MANIFEST = Manifest("alpha", 1, 1, (SealedObject(ROOT, bytes(32), bytes(32)),))


@pytest.mark.parametrize(
    ("data", "field", "read"),
    [
        (RECORD.encode(), "answers", layout.RequestRecord.decode),
        (MANIFEST.encode(), "objects", Manifest.decode),
    ],
)
def test_rows_have_their_length(data: bytes, field: str, read: Callable[[bytes], Any]) -> None:
    """A row with an item more, an item less, or that is no row is refused."""
    value: Any = cbor.decode(data)
    row = value[field][0]
    for wrong in ([*row, 0], row[:-1], [], None, {"row": row}):
        with pytest.raises(Malformed) as refusal:
            read(cbor.encode({**value, field: [wrong]}))
        assert refusal.value.code == "encoding.schema"


def test_the_codes_of_refusals_in_answers_are_frozen() -> None:
    """They are votes: a code that vanished would make old answers unreadable."""
    assert {"key.unknown", "key.retired", "authorisation", "binding", "ciphertext.type", "poison"} <= set(REFUSALS)
