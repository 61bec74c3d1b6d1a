"""`document verify` and `document show`: one verdict, every rule with its word, nothing believed unjudged."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cipherkeep_attestation.eif import configuration_pcr
from cipherkeep_attestation.nitro.rules import rules
from cipherkeep_attestation.nitro.verify import aws_root
from cipherkeep_attestation.statements.configuration import Configuration, Genesis
from cipherkeep_attestation.statements.governance import Governors
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.attestation.cli.running import AT, INDEX, NONCE, NOW, VECTORS, Files, audit, policy, release
from tests.simulators import party
from tests.simulators.attestation import PCRS, Draft, SimulatedPlatform


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def states(out: str) -> dict[str, str]:
    """Word of each rule by its code, from the lines for people."""
    found = {}
    for line in out.splitlines():
        for word in ("passed", "failed", "not judged", "not demanded"):
            if line.startswith(f"  {word} "):
                found[line[2:].removeprefix(word).split()[0]] = word
    return found


def test_an_honest_document_is_accepted_with_every_rule_on_its_line(files: Files) -> None:
    """All rules that the policy demands passed, the others say that they were not demanded, and the exit code is 0."""
    done = files.honest()
    assert done.code == 0, done.out
    found = states(done.out)
    assert found.keys() == rules("enclave").keys()
    assert {code for code, word in found.items() if word != "passed"} == {"document.public_key", "document.user_data"}
    assert done.lines()[-1] == "accepted: document: enclave of release 1.0.0, at 2026-07-01T12:00:00.000Z"
    for index in range(16):
        assert any(line.startswith(f"  PCR{index} ") for line in done.lines())
    leaf = next(line for line in done.lines() if line.startswith("  leaf"))
    assert "2026-07-01 11:30:00Z to 2026-07-01 14:30:03Z" in leaf
    assert "\x1b" not in done.out


# An encoding is read and a path judged piece by piece: a rule of these has passed only once it has for every piece.
_TOGETHER = ("encoding.", "path.", "certificate.")
REFUSED: list[tuple[str, Callable[[Draft], Any]]] = [
    ("encoding.trailing", lambda draft: setattr(draft, "payload", lambda payload: payload + b"\0")),
    ("document.fields", lambda draft: draft.fields.update(extra=1)),
    ("document.pcr_length", lambda draft: draft.fields["pcrs"].update({0: bytes(32)})),
    ("path.expired", lambda draft: setattr(draft.path["leaf"], "not_after", NOW - timedelta(seconds=1))),
    ("path.signature", lambda draft: setattr(draft.path["leaf"], "signer", draft.path["zonal"].key)),
    ("document.signature", lambda draft: setattr(draft, "signature", lambda _: bytes(96))),
    ("document.too_old", lambda draft: draft.fields.update(timestamp=round(NOW.timestamp() * 1000) - 300_001)),
    ("document.from_future", lambda draft: draft.fields.update(timestamp=round(NOW.timestamp() * 1000) + 60_001)),
    ("document.debug", lambda draft: draft.fields["pcrs"].update({0: bytes(48)})),
    ("document.pcr_mismatch", lambda draft: draft.fields["pcrs"].update({1: b"\x09" * 48})),
    ("document.nonce", lambda draft: draft.fields.update(nonce=b"m" * 32)),
]


@pytest.mark.parametrize(("code", "edit"), REFUSED, ids=[code for code, _ in REFUSED])
def test_a_refusal_names_its_rule_and_judges_nothing_after_it(
    files: Files, code: str, edit: Callable[[Draft], Any]
) -> None:
    """One rule failed; those before it passed; none after it claims to have been judged; the hint says what to do."""
    draft = files.platform.draft(nonce=NONCE)
    edit(draft)
    done = files.honest(document=files.write("lie.bin", draft.sign()))
    assert done.code == 1
    found = states(done.out)
    order = list(rules("enclave"))
    assert [name for name, word in found.items() if word == "failed"] == [code]
    before = order[: order.index(code)]
    assert {found[name] for name in before if not name.startswith(_TOGETHER)} == {"passed"}
    assert {found[name] for name in order[order.index(code) + 1 :]} == {"not judged"}
    assert found["document.size"] == "passed"
    assert f"refused: document: {code}" in done.lines()
    assert any(line.startswith("  What to look at: ") for line in done.lines())


def test_a_refusal_shows_what_was_claimed_and_marks_it(files: Files) -> None:
    """Document, path and PCRs stand there as claims, beside the release that comes nearest; a cut one shows nothing."""
    other = release("0.9.0", dict.fromkeys((0, 1, 2), b"*" * 48))
    near = release("1.1.0", {**{index: PCRS[index] for index in (0, 1)}, 2: b"\x09" * 48})
    path = files.write("two.toml", policy(other, near))
    done = files.honest(policy=path)
    assert (done.code, "refused: document: document.pcr_mismatch" in done.lines()) == (1, True)
    claimed = "(claimed, and refused)"
    for title in (
        f"document {claimed}",
        f"certificate path {claimed}",
        f"measurements {claimed}, beside release 1.1.0",
    ):
        assert title in done.lines()
    at = next(index for index, line in enumerate(done.lines()) if line.startswith("  PCR2 "))
    assert f"differs       {PCRS[2].hex()}" in done.lines()[at]
    assert done.lines()[at + 1].split() == ["expected", "09" * 48]
    said = files.honest("--json", policy=path).json()
    assert (said["accepted"], said["standing"], said["nearest_release"]) == (False, "claimed, and refused", "1.1.0")
    assert (said["pcrs"]["2"], said["expected"]["2"]) == (PCRS[2].hex(), "09" * 48)
    assert said["path"][0]["sha256"] == hashlib.sha256(files.root.read_bytes()).hexdigest()
    assert said["document"]["nonce"] == NONCE.hex()
    cut = files.honest("--json", document=files.write("cut.bin", files.document.read_bytes()[:-1])).json()
    assert (cut["accepted"], "pcrs" in cut, "document" in cut, "path" in cut) == (False, False, False, False)


def test_a_refusal_shows_certificates_that_cannot_be_read(files: Files) -> None:
    """By their digest, and as what they are."""
    draft = files.platform.draft(nonce=NONCE)
    draft.fields["certificate"] = b"no certificate"
    done = files.honest(document=files.write("odd.bin", draft.sign()))
    digest = hashlib.sha256(b"no certificate").hexdigest()
    assert (done.code, f"unreadable  sha256 {digest}" in done.out) == (1, True)


def test_a_contradiction_shows_what_was_demanded(files: Files) -> None:
    """--pcr stands beside the release as what is expected."""
    said = files.honest("--pcr", f"0={'08' * 48}", "--json").json()
    assert (said["code"], said["expected"]["0"], said["pcrs"]["0"]) == (
        "policy.contradiction",
        "08" * 48,
        PCRS[0].hex(),
    )


def test_a_public_key_may_be_demanded(files: Files) -> None:
    """The document must bind exactly this key, named by a file in DER or PEM."""
    key = ec.derive_private_key(7, ec.SECP384R1()).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    bound = files.write("bound.bin", files.platform.document(nonce=NONCE, public_key=der))
    for content in (der, pem):
        done = files.honest("--public-key", files.write("key", content), document=bound)
        assert (done.code, states(done.out)["document.public_key"]) == (0, "passed")
        assert "refused: document: document.public_key" in files.honest("--public-key", files.folder / "key").lines()
    another = ec.derive_private_key(8, ec.SECP384R1()).public_key()
    path = files.write("another", another.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    assert files.honest("--public-key", path, document=bound).code == 1
    for wrong in (b"", der[:-1], pem + pem, b"junk\n" + pem, files.root.read_bytes(), bytes(10_000)):
        assert files.honest("--public-key", files.write("wrong", wrong), document=bound).code == 2
    assert files.honest("--public-key", files.folder / "missing", document=bound).code == 2


def test_now_may_be_said_and_must_be(files: Files) -> None:
    """`--at now` looks at the clock; nothing else does."""
    platform = SimulatedPlatform(at=datetime.now(UTC))
    root = files.write("root.der", platform.root().certificate_der)
    path = files.write("now.bin", platform.document(nonce=NONCE))
    common = ("document", "verify", path, "--root", root, "--policy", files.policy, "--nonce", NONCE.hex())
    assert audit(*common, "--at", "now").code == 0
    assert audit(*common).code == 2


def test_the_verdict_as_json_says_the_same(files: Files) -> None:
    """One object, with the checks, the path and the measurements; a refusal has code, sentence, hint and source."""
    said = files.honest("--json").json()
    assert (said["accepted"], said["code"], said["warnings"][:1]) == (
        True,
        None,
        ["release 1.0.0: without pcr16 any configuration passes, insecure settings included"],
    )
    assert said["pcrs"] == {str(index): value.hex() for index, value in PCRS.items()}
    assert said["compared"] == [0, 1, 2]
    assert said["path"][0]["sha256"] == hashlib.sha256(files.root.read_bytes()).hexdigest()
    assert len(said["checks"]) == len(rules("enclave"))
    refused = files.verify("--at", AT, "--nonce", "00", "--json")
    said = refused.json()
    assert (refused.code, said["accepted"], said["code"]) == (1, False, "document.nonce")
    assert said["hint"]
    assert said["source"]


@pytest.mark.parametrize("entry", INDEX, ids=lambda entry: entry["file"][:8] + entry["sha256"][:6])
def test_authentic_documents_are_accepted_under_a_policy_made_for_them(files: Files, entry: dict[str, Any]) -> None:
    """What `policy init` writes from a document accepts it at its time; of a debug enclave it cannot be written."""
    path = VECTORS / entry["file"]
    written = files.folder / "made.toml"
    made = audit("policy", "init", "--document", path, "--output", written)
    if entry["debug"]:
        assert (made.code, written.exists()) == (2, False)
        return
    assert made.code == 0
    written.write_text(written.read_text().replace('"demanded"', '"insecure_any"'))
    common = (path, "--root", "aws", "--policy", written, "--at")
    done = audit("document", "verify", *common, entry["timestamp"].replace("+00:00", "Z"))
    assert done.code == 0, done.out
    assert audit("document", "verify", *common, "2019-11-01T00:00:00Z").code == 1
    assert audit("document", "verify", path, "--root", files.root, *common[3:], entry["timestamp"]).code == 1


def test_pem_and_der_roots_are_the_same_root(files: Files) -> None:
    """A root is known by its bytes, in whichever form they came."""
    pem = x509.load_der_x509_certificate(aws_root().certificate_der).public_bytes(Encoding.PEM)
    entry = INDEX[-1]
    made = files.folder / "made.toml"
    audit("policy", "init", "--document", VECTORS / entry["file"], "--output", made)
    made.write_text(made.read_text().replace('"demanded"', '"insecure_any"'))
    for root in (files.write("aws.pem", pem), files.write("aws.der", aws_root().certificate_der)):
        done = audit(
            "document", "verify", VECTORS / entry["file"], "--root", root, "--policy", made, "--at", entry["timestamp"]
        )
        assert done.code == 0, done.out
    for wrong in (pem + pem, pem[:-40], b"", b"\x30\x80", b"0" * 20_000):
        done = audit(
            "document", "verify", files.document, "--root", files.write("wrong", wrong), "--policy", made, "--at", AT
        )
        assert done.code == 2


def test_own_timestamp_is_loud(files: Files) -> None:
    """Judging at the document's own time has a long name, and both verdicts carry the warning."""
    done = files.verify("--insecure-own-timestamp", "--nonce", NONCE.hex())
    assert done.code == 0
    assert any(line.startswith("warning: INSECURE") for line in done.lines())
    refused = files.verify("--insecure-own-timestamp", "--nonce", "00", "--json").json()
    assert "INSECURE" in " ".join(refused["warnings"])
    assert files.verify("--insecure-own-timestamp", "--at", AT, "--nonce", "00").code == 2
    assert files.verify("--nonce", "00").code == 2


def test_a_demanded_pcr_narrows_every_release(files: Files) -> None:
    """--pcr adds to the policy; what contradicts every release is refused, what is no PCR is not understood."""
    document = files.write("locked.bin", files.platform.document(nonce=NONCE, pcrs={**PCRS, 16: b"\x07" * 48}))
    assert files.honest("--pcr", f"16={'07' * 48}", document=document).code == 0
    assert "document.pcr_mismatch" in files.honest("--pcr", f"16={'08' * 48}", document=document).out
    contradiction = files.honest("--pcr", f"0={'08' * 48}", document=document)
    assert (contradiction.code, "policy.contradiction" in contradiction.out) == (1, True)
    for wrong in (
        "16",
        "=00",
        "x=00",
        "32=" + "00" * 48,
        "16=00",
        "16=" + "zz" * 48,
        "-1=" + "00" * 48,
        "٣=" + "00" * 48,
    ):
        assert files.honest("--pcr", wrong).code == 2, wrong
    assert files.honest("--pcr", f"3={'00' * 48}", "--pcr", f"3={'00' * 48}").code == 2


def test_a_release_is_accepted_in_its_window_only(files: Files) -> None:
    """An old release matches until its end and is refused by name after it, with its own code."""
    old = release("0.9.0", not_after="2026-07-01T12:00:01Z")
    new = release("1.0.0", {**dict.fromkeys((0, 1, 2), b"*" * 48)}, not_before="2026-06-01T00:00:00Z")
    path = files.write("window.toml", policy(old, new))
    assert files.honest(policy=path).code == 0
    done = files.verify("--json", "--at", "2026-07-01T12:00:01Z", "--nonce", NONCE.hex(), policy=path).json()
    assert (done["code"], done["accepted"]) == ("document.release_window", False)
    assert "0.9.0: until 2026-07-01 12:00:01Z" in done["message"]


def test_a_host_document_needs_a_policy_for_hosts(files: Files) -> None:
    """NitroTPM and enclave documents lead to the same root: the policy says which one it wants."""
    document = files.write("host.bin", files.platform.document(kind="host", nonce=NONCE))
    hosts = files.write("hosts.toml", policy(release("ami-1", {4: PCRS[4], 7: PCRS[7]}), kind='"host"'))
    assert files.honest(document=document, policy=hosts).code == 0
    assert "document.is_host_document" in files.honest(document=document).lines()[-4]
    assert "document.is_enclave_document" in files.honest(policy=hosts).lines()[-4]


def test_unknown_fields_are_ignored_only_where_the_policy_says_so(files: Files) -> None:
    """Then the verdict names them."""
    draft = files.platform.draft(nonce=NONCE)
    draft.fields["future"] = b"x"
    document = files.write("future.bin", draft.sign())
    assert "document.fields" in files.honest(document=document).out
    lax = files.write("lax.toml", policy(unknown_fields='"ignore"'))
    done = files.honest(document=document, policy=lax)
    assert done.code == 0
    assert "warning: fields that are not known were not judged: future" in done.lines()
    draft.fields["nitrotpm_pcrs"] = dict(PCRS)
    assert files.honest(document=files.write("both.bin", draft.sign()), policy=lax).code == 1
    del draft.fields["nitrotpm_pcrs"], draft.fields["nonce"]
    assert files.honest(document=files.write("less.bin", draft.sign()), policy=lax).code == 1


@pytest.mark.parametrize(
    ("demand", "said", "code"),
    [
        ("absent", None, 0),
        ("absent", b"", 1),
        ("hex:6162", b"ab", 0),
        ("hex:6162", b"abc", 1),
        ("hex:6162", None, 1),
        ("responder", b"\xa0", 1),
        ("responder", None, 1),
        ("responder", b"\xff", 1),
    ],
)
def test_user_data_is_judged_where_the_policy_demands_it(
    files: Files, demand: str, said: bytes | None, code: int
) -> None:
    """Absent, exactly these bytes, or the form of this project's handshake."""
    path = files.write("user.toml", policy(user_data=f'"{demand}"'))
    document = files.write("user.bin", files.platform.document(nonce=NONCE, user_data=said))
    done = files.honest(document=document, policy=path)
    assert done.code == code
    assert ("document.user_data" in done.lines()[-4]) is bool(code)


def test_debug_is_accepted_by_its_long_name_only(files: Files) -> None:
    """Even then the measurements are compared, and the verdict says that the rule was not demanded."""
    zeros = {index: bytes(48) for index in range(16)}
    document = files.write("debug.bin", files.platform.document(nonce=NONCE, pcrs=zeros))
    named = release("debug", {index: bytes(48) for index in (0, 1, 2)})
    allowing = files.write("allowing.toml", policy(named, insecure_allow_debug="true"))
    done = files.honest(document=document, policy=allowing)
    assert (done.code, states(done.out)["document.debug"]) == (0, "not demanded")
    assert any("insecure_allow_debug" in line for line in done.lines() if line.startswith("warning"))
    assert files.honest(document=document).code == 1
    assert files.honest(document=document, policy=files.write("not.toml", policy(named))).code == 2


def test_a_configuration_is_demanded_and_laid_open(files: Files, configuration: Configuration) -> None:
    """--config demands its PCR16, and lists every root and every insecure setting in it."""
    path = files.write("configuration.cbor", configuration.encode())
    right = {**PCRS, 16: configuration_pcr(configuration.digest())}
    document = files.write("configured.bin", files.platform.document(nonce=NONCE, pcrs=right))
    done = files.honest("--config", path, document=document)
    assert done.code == 0, done.out
    for der in (configuration.enclave_root, configuration.host_root):
        assert f"sha256 {hashlib.sha256(der).hexdigest()} (not AWS's)" in done.out
    assert any(line.split("  ")[1:] and line.strip().startswith("insecure settings") for line in done.lines())
    for name in configuration.insecure:
        assert f"warning: the configuration says {name}" in done.lines()
    assert "warning: the configuration trusts a root that is not AWS's: emulated enclaves or hosts" in done.lines()
    other = files.honest("--config", path)
    assert (other.code, "document.pcr_mismatch" in other.out) == (1, True)
    rows = [line for line in done.lines() if line.startswith(("  root of ", "  insecure settings"))]
    assert rows and all(row in other.lines() for row in rows)
    assert files.honest("--config", path, "--json").json()["configuration"]["party"] == configuration.party
    assert files.honest("--config", path, "--pcr", f"16={'00' * 48}", document=document).code == 2
    assert files.honest("--config", files.write("cut", configuration.encode()[:-1]), document=document).code == 2


@pytest.fixture
def configuration(files: Files) -> Configuration:
    """One with a root that is not AWS's and an insecure setting."""
    root = files.platform.root().certificate_der
    return party.configuration(
        "alpha",
        genesis=Genesis(Governors((bytes(32),), 1), (root,), 1, 100, True),
        platform=files.platform,
        chain_id="demo",
        header=bytes(32),
    )


def test_show_says_in_every_line_that_nothing_was_judged(files: Files) -> None:
    """Even a document that nobody signed is decoded, and every line says what that is worth."""
    draft = files.platform.draft(nonce=NONCE)
    draft.signature = lambda _: bytes(96)
    draft.fields["more"] = 1
    path = files.write("forged.bin", draft.sign())
    done = audit("document", "show", path)
    assert done.code == 0
    assert len(done.lines()) > 25
    assert all(line.startswith("not judged | ") for line in done.lines())
    assert f"not judged | nonce: {NONCE.hex()}" in done.lines()
    said = audit("document", "show", path, "--json").json()
    assert (said["judged"], said["unknown fields"]) == (False, "more")
    assert said["standing"].startswith("not judged")


def test_show_of_what_is_no_document_is_no_verdict(files: Files) -> None:
    """It says that nothing can be decoded, in lines that say that nothing was judged, and uses no word of a verdict."""
    for content in (b"\x84", b"", bytes(1 << 20)):
        path = files.write("no.bin", content)
        done = audit("document", "show", path)
        assert (done.code, len(done.lines())) == (1, 2)
        assert all(line.startswith("not judged | ") for line in done.lines())
        assert done.lines()[0].startswith("not judged | cannot be decoded: ")
        assert "refused" not in done.out and "accepted" not in done.out
        said = audit("document", "show", path, "--json")
        assert (said.code, said.json()["judged"], "cannot be decoded" in said.json()) == (1, False, True)
        assert "accepted" not in said.json()


def test_a_module_id_cannot_write_on_the_terminal(files: Files) -> None:
    """Escape sequences in evidence are refused by the schema, those in a field's name are printed escaped."""
    draft = files.platform.draft(nonce=NONCE)
    draft.fields["\x1b[31mred"] = 1
    done = files.honest(document=files.write("escape.bin", draft.sign()))
    assert done.code == 1
    assert "\x1b" not in done.out
    assert "\\x1b[31mred" in done.out


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--at", "yesterday"),
        ("--at", "2026-07-01"),
        ("--at", "2026-07-01T12:00:00"),
        ("--at", "2026-13-01T12:00:00Z"),
        ("--at", "20260701T120000Z"),
        ("--at", AT, "--nonce", "0"),
        ("--at", AT, "--nonce", "zz"),
        ("--at", AT, "--nonce", ""),
        ("--at", AT, "--nonce", "00 00"),
        ("--at", AT),
        ("--at", AT, "--batch", "-"),
        ("--at", "2026-07-01T12:00:00+01:99", "--nonce", "00"),
        ("--at", "9999-12-31T23:59:59-01:00", "--nonce", "00"),
        ("--at", "0001-01-01T00:00:00+01:00", "--nonce", "00"),
        ("--at", AT, "--nonce", "00", "--polic", "x"),
    ],
)
def test_a_command_that_is_not_understood_is_not_a_verdict(files: Files, arguments: tuple[str, ...]) -> None:
    """Exit code 2, a sentence on standard error, nothing on standard output."""
    done = files.verify(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err


def test_files_that_never_end_are_not_read(files: Files) -> None:
    """A device, a pipe nobody writes to, a folder and a missing file are refused at once."""
    pipe = files.folder / "pipe"
    os.mkfifo(pipe)
    for path in (Path("/dev/zero"), pipe, files.folder, files.folder / "missing", files.folder / "nul\0name"):
        done = files.honest(document=path)
        assert (done.code, done.out) == (2, ""), path
    large = files.honest(document=files.write("large.bin", bytes(1 << 20)))
    assert (large.code, "refused: document: document.size" in large.lines()) == (1, True)
