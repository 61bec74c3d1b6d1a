"""Files that hold one secret key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cipherkeep_host import key_files
from cipherkeep_host.errors import HostError

ED25519 = (
    key_files.make_ed25519,
    key_files.load_ed25519,
    key_files.ensure_ed25519,
    lambda key: key.private_bytes_raw(),
)
SECP256K1 = (key_files.make_secp256k1, key_files.load_secp256k1, key_files.ensure_secp256k1, lambda key: key.secret)
each_curve = pytest.mark.parametrize(
    ("make", "load", "ensure", "secret"), (ED25519, SECP256K1), ids=("ed25519", "secp256k1")
)


@each_curve
def test_a_key_file_is_made_once_and_for_its_owner(
    make: Any, load: Any, ensure: Any, secret: Any, tmp_path: Path
) -> None:
    """Mode 0600 from the first moment, never over another file, and the same key when it is read."""
    path = tmp_path / "keys" / "key"
    key = make(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert secret(load(path)) == secret(key)
    with pytest.raises(HostError) as refused:
        make(path)
    assert refused.value.code == "process.key_file"
    assert secret(load(path)) == secret(key)
    assert secret(ensure(path)) == secret(key)
    assert secret(ensure(tmp_path / "other")) == secret(load(tmp_path / "other"))


@each_curve
def test_a_key_file_that_others_can_read_is_refused_and_its_content_never_shown(
    make: Any, load: Any, ensure: Any, secret: Any, tmp_path: Path
) -> None:
    """Readable by others, malformed, not text, or missing: one code, and no digit of the key in the message."""
    path = tmp_path / "key"
    digits = secret(make(path)).hex()
    path.chmod(0o640)
    for one in (load, ensure):
        with pytest.raises(HostError) as refused:
            one(path)
        assert refused.value.code == "process.key_file"
    contents = (b"", b"00" * 31, b"zz" * 32, b"\xff\xfe", digits.encode() + b"00", digits.encode() + b" " * 200)
    for content in contents:
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(HostError) as refused:
            load(path)
        assert refused.value.code == "process.key_file"
        assert digits[:16] not in str(refused.value)
        assert refused.value.__cause__ is None
    path.unlink()
    with pytest.raises(HostError):
        load(path)


def test_a_number_outside_of_the_curve_is_no_key(tmp_path: Path) -> None:
    """Zero and the group's order are 64 digits and no keys."""
    order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
    for number in ("0" * 64, order):
        path = tmp_path / number
        path.write_text(number)
        path.chmod(0o600)
        with pytest.raises(HostError) as refused:
            key_files.load_secp256k1(path)
        assert refused.value.code == "process.key_file"
