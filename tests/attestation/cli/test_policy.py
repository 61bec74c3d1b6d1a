"""`policy init`, `lint` and `sign`: what is written is whole, and what is signed is what was signed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cipherkeep_attestation.policy import read_policy
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.attestation.cli.running import INDEX, VECTORS, Files, audit, policy, release
from tests.simulators.attestation import PCRS

KEY = Ed25519PrivateKey.from_private_bytes(b"1" * 32)
PUBLIC = KEY.public_key().public_bytes_raw().hex()
IMAGE = [item for index in (0, 1, 2) for item in ("--pcr", f"{index}={PCRS[index].hex()}")]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def pem(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_what_init_writes_lint_accepts(files: Files) -> None:
    """From measurements, every key stands there with a comment; the result is strict."""
    done = audit("policy", "init", *IMAGE, "--version", "1.0.0")
    found = read_policy(done.out.encode())
    assert done.code == 0
    assert ([entry.version for entry in found.releases], found.nonce_demanded) == (["1.0.0"], True)
    assert (found.insecure_allow_debug, found.unknown_fields) == (False, "refuse")
    assert all("#" in line for line in done.lines()[:10] if "=" in line and "format" not in line)
    linted = audit("policy", "lint", files.write("made.toml", done.out))
    assert linted.code == 0
    assert linted.lines()[-1] == "accepted: policy: 1 release"


def test_init_does_not_write_a_policy_that_demands_nothing(files: Files) -> None:
    """Without measurements, with some of them, or those of a debug enclave: nothing is written."""
    target = files.folder / "new.toml"
    debug = next(VECTORS / entry["file"] for entry in INDEX if entry["debug"])
    for given in ([], IMAGE[:2], ["--document", debug]):
        done = audit("policy", "init", *given, "--output", target)
        assert (done.code, done.out, target.exists()) == (2, "", False)
        assert "cannot write a policy: policy." in done.err
    for wrong in ("0", "0=00", "32=" + "00" * 48, "x=" + "00" * 48):
        assert audit("policy", "init", "--pcr", wrong).code == 2
    assert audit("policy", "init", *IMAGE, "--pcr", f"0={'09' * 48}").code == 2


def test_init_says_that_a_document_was_not_judged(files: Files) -> None:
    """What a document claims is copied with a warning beside it, and never over a file that is there."""
    target = files.folder / "new.toml"
    document = VECTORS / INDEX[-1]["file"]
    assert audit("policy", "init", "--document", document, "--output", target).code == 0
    assert "that nobody has judged" in target.read_text()
    before = target.read_text()
    assert audit("policy", "init", *IMAGE, "--output", target).code == 2
    assert target.read_text() == before
    host = files.write("host.bin", files.platform.document(kind="host"))
    made = audit("policy", "init", "--document", host)
    assert (made.code, read_policy(made.out.encode()).kind) == (0, "host")


def test_a_version_cannot_smuggle_keys_into_a_policy(files: Files) -> None:
    """Quotes and line ends in --version are text, or nothing is written."""
    done = audit("policy", "init", *IMAGE, "--version", 'a"b')
    assert read_policy(done.out.encode()).releases[0].version == 'a"b'
    assert audit("policy", "init", *IMAGE, "--version", 'x"\ninsecure_allow_debug = true\n#').code == 2


def test_lint_refuses_with_code_and_hint(files: Files) -> None:
    """The exit code is 1, the verdict the same for people and as JSON."""
    path = files.write("empty.toml", policy(" "))
    done = audit("policy", "lint", path)
    assert (done.code, "refused: policy: policy.no_measurements" in done.lines()) == (1, True)
    said = audit("policy", "lint", path, "--json").json()
    assert (said["accepted"], said["code"]) == (False, "policy.no_measurements")
    assert audit("policy", "lint", files.folder / "missing").code == 2


def test_lint_warns_of_overlapping_windows_and_of_none(files: Files) -> None:
    """Warnings do not refuse; with --at they speak of that time."""
    path = files.write("two.toml", policy(release("1", not_after="2026-08-01T00:00:00Z"), release("2")))
    done = audit("policy", "lint", path, "--json").json()
    assert done["accepted"] is True
    assert any("overlap" in warning for warning in done["warnings"])
    old = files.write("old.toml", policy(release(not_after="2026-01-01T00:00:00Z")))
    at = ("--at", "2026-07-01T00:00:00Z")
    assert any("in its window" in line for line in audit("policy", "lint", old, *at).lines())


def test_a_signed_policy_is_judged_by_its_key(files: Files) -> None:
    """By its 32 bytes or as PEM; a changed policy, another key and a missing signature are refused."""
    key = files.write("key.pem", pem(KEY))
    public = files.write("public.pem", KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    done = audit("policy", "sign", files.policy, "--key", key)
    assert done.code == 0
    assert PUBLIC in done.out
    assert "PRIVATE" not in done.out
    for named in (PUBLIC, public):
        assert audit("policy", "lint", files.policy, "--policy-key", named).code == 0
        assert files.honest("--policy-key", named).code == 0
    stranger = Ed25519PrivateKey.from_private_bytes(b"2" * 32).public_key().public_bytes_raw().hex()
    assert "policy.signature" in audit("policy", "lint", files.policy, "--policy-key", stranger).out
    assert "policy.signature" in files.honest("--policy-key", stranger).out
    files.write("policy.toml", files.policy.read_text() + "#\n")
    assert files.honest("--policy-key", PUBLIC).code == 1
    (files.folder / "policy.toml.sig").unlink()
    assert "policy.unsigned" in files.honest("--policy-key", PUBLIC).out


def test_a_signature_that_nobody_asked_about_is_mentioned(files: Files) -> None:
    """Its presence alone proves nothing, and the verdict says so."""
    files.write("policy.toml.sig", b"anything")
    done = files.honest()
    assert done.code == 0
    assert any("was not judged: name its key" in line for line in done.lines())


def test_only_a_policy_is_signed_and_only_by_ed25519(files: Files) -> None:
    """What lint would refuse is not signed, and no other key signs."""
    key, other = files.write("key.pem", pem(KEY)), files.write("ec.pem", pem(ec.generate_private_key(ec.SECP256R1())))
    assert audit("policy", "sign", files.write("bad.toml", "x"), "--key", key).code == 2
    for wrong in (other, files.document, files.folder / "missing"):
        assert audit("policy", "sign", files.policy, "--key", wrong).code == 2
    assert not (files.folder / "bad.toml.sig").exists()
    for wrong_key in ("00", str(other), str(files.document)):
        assert audit("policy", "lint", files.policy, "--policy-key", wrong_key).code == 2


def test_a_policy_that_is_none_judges_nothing(files: Files) -> None:
    """`document verify` understands no malformed policy: exit code 2, the policy's code on standard error."""
    done = files.honest(policy=files.write("bad.toml", policy(insecure_allow_debugs="true")))
    assert (done.code, done.out) == (2, "")
    assert "policy.unknown_key" in done.err
    pipe = files.folder / "pipe"
    os.mkfifo(pipe)
    assert files.honest(policy=pipe).code == 2
