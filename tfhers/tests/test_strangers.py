"""Zama's node-tfhe 1.7.0 encrypts under our key and proves with our reference string."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from insecure_keys import Keys

import tfhers

THIRD_PARTY = Path(__file__).parents[2] / "tests" / "thirdparty"
METADATA = bytes(range(92))
VALUES = [("u64", 2**64 - 3), ("bool", 1), ("u160", 0xDEADBEEF << 128), ("u8", 255)]
OURS = {"bool": "bool", "u8": "uint8", "u64": "uint64", "u160": "uint160"}


@pytest.fixture(scope="module")
def strangers_list(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("node-tfhe") / "list"
    order = {
        "publicKey": str(keys.public_file),
        "crs": str(keys.crs_file),
        "out": str(out),
        "metadata": METADATA.hex(),
        "values": [{"type": name, "value": str(value)} for name, value in VALUES],
    }
    command = ["node", str(THIRD_PARTY / "encrypt.js")]
    subprocess.run(command, input=json.dumps(order).encode(), check=True, capture_output=True, timeout=300)
    return out.read_bytes()


def test_what_a_stranger_encrypts_decrypts_here(keys: Keys, strangers_list: bytes) -> None:
    """A number, a truth value and an address from another client go through proof, expansion and packing."""
    expanded = tfhers.verify_and_expand(strangers_list, keys.public, keys.crs, METADATA, keys.server)
    packed = tfhers.compress(expanded, keys.server)
    found = [keys.client.decrypt_packed(packed, index=index) for index in range(len(VALUES))]
    assert found == [(OURS[name], value) for name, value in VALUES]
    with pytest.raises(tfhers.ProofError):
        tfhers.verify(strangers_list, keys.public, keys.crs, METADATA[::-1])
