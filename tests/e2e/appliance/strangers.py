"""Clients that are not ours, as oracles: Zama's node-tfhe and node-tkms, and eth-account for typed data."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cipherkeep_attestation.receipts.judging import Verified
from cipherkeep_attestation.statements import request
from cipherkeep_attestation.statements.binding import Ciphertext, Grant
from cipherkeep_attestation.statements.governance import KeyTerms
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_keys.datatypes import PublicKey
from eth_utils.address import to_checksum_address

FOLDER = Path(__file__).resolve().parents[2] / "thirdparty"
SECONDS = 300.0  # proving in WebAssembly takes 15 to 60
_DOMAIN = [
    {"name": "name", "type": "string"},
    {"name": "version", "type": "string"},
    {"name": "chainId", "type": "uint256"},
    {"name": "verifyingContract", "type": "address"},
]


def run(script: str, *arguments: str, order: object = None) -> Any:
    """A script of the strangers: JSON in, JSON out."""
    done = subprocess.run(
        ["node", script, *arguments], cwd=FOLDER, input=json.dumps(order).encode(), capture_output=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-600:]
    return json.loads(done.stdout)


def encrypt(
    folder: Path, *, public_key: bytes, crs: bytes, metadata: bytes, values: Sequence[tuple[str, int]]
) -> bytes:
    """A proven list of values of node-tfhe's types, made by node-tfhe."""
    files = {"publicKey": folder / "public-key", "crs": folder / "crs", "out": folder / "list"}
    files["publicKey"].write_bytes(public_key)
    files["crs"].write_bytes(crs)
    order = {name: str(path) for name, path in files.items()}
    rows = [{"type": name, "value": str(value)} for name, value in values]
    run("encrypt.js", order={**order, "metadata": metadata.hex(), "values": rows})
    return files["out"].read_bytes()


def keypair() -> dict[str, str]:
    """A user's ML-KEM key pair, made by node-tkms: {publicKey, secretKey}, in hexadecimal."""
    found: dict[str, str] = run("user_decrypt.js", "keypair")
    return found


def open_answer(verified: Verified, *, terms: KeyTerms, user: str, pair: dict[str, str], signers: list[str]) -> Any:
    """What node-tkms makes of a user decryption with its verification on: [{value, fheType}]."""
    asked = verified.asked
    assert isinstance(asked, request.UserDecrypt)
    assert verified.core.result is not None
    domain = terms.decryption
    contract = to_checksum_address(domain.verifying_contract)
    order = {
        "signers": signers,
        "client": user,
        "request": {
            "client_address": user,
            "enc_key": pair["publicKey"],
            "ciphertext_handles": [item.handle.hex() for item in asked.ciphertexts],
            "eip712_verifying_contract": contract,
        },
        "domain": {
            "name": domain.name,
            "version": domain.version,
            "chain_id": list(domain.chain_id.to_bytes(32, "big")),
            "verifying_contract": contract,
            "salt": None,
        },
        "responses": [
            {
                "signature": verified.core.signatures["eip712"].hex(),
                "payload": verified.core.result["payload"].hex(),
                "extra_data": "",
            }
        ],
        **pair,
    }
    return run("user_decrypt.js", "open", order=order)


def numbers(opened: Any) -> list[tuple[int, int]]:
    """(type, value) of what node-tkms opened; its integers are big-endian."""
    return [(item["fheType"], int.from_bytes(bytes.fromhex(item["value"]), "big")) for item in opened]


def party_address(signing_key: str) -> str:
    """The address of a party's registered key (compressed SEC1, hexadecimal), by eth-keys."""
    return PublicKey.from_compressed_bytes(bytes.fromhex(signing_key)).to_checksum_address()


def _domain(chain_id: int, contract: bytes) -> dict[str, object]:
    checksummed = to_checksum_address(contract)
    return {"name": "Decryption", "version": "1", "chainId": chain_id, "verifyingContract": checksummed}


def public_signer(
    *, chain_id: int, contract: bytes, handles: Sequence[bytes], result: bytes, extra_data: bytes, signature: bytes
) -> str:
    """Who signed a public decryption, by eth-account, from the typed data of fhEVM's Decryption contract."""
    message = encode_typed_data(
        full_message={
            "types": {
                "EIP712Domain": _DOMAIN,
                "PublicDecryptVerification": [
                    {"name": "ctHandles", "type": "bytes32[]"},
                    {"name": "decryptedResult", "type": "bytes"},
                    {"name": "extraData", "type": "bytes"},
                ],
            },
            "primaryType": "PublicDecryptVerification",
            "domain": _domain(chain_id, contract),
            "message": {"ctHandles": list(handles), "decryptedResult": result, "extraData": extra_data},
        }
    )
    return str(Account.recover_message(message, signature=signature))


def user_request(
    *,
    secret: bytes,
    chain_id: int,
    contract: bytes,
    key_id: bytes,
    ciphertexts: Sequence[Ciphertext],
    public_key: bytes,
    contracts: Sequence[bytes],
    start: int,
    days: int = 1,
    grants: tuple[Grant, ...] = (),
) -> request.UserDecrypt:
    """A user's request, signed by eth-account with the typed data of fhEVM's clients."""
    extra_data = b"\x00"
    message = encode_typed_data(
        full_message={
            "types": {
                "EIP712Domain": _DOMAIN,
                "UserDecryptRequestVerification": [
                    {"name": "publicKey", "type": "bytes"},
                    {"name": "contractAddresses", "type": "address[]"},
                    {"name": "startTimestamp", "type": "uint256"},
                    {"name": "durationDays", "type": "uint256"},
                    {"name": "extraData", "type": "bytes"},
                ],
            },
            "primaryType": "UserDecryptRequestVerification",
            "domain": _domain(chain_id, contract),
            "message": {
                "publicKey": public_key,
                "contractAddresses": [to_checksum_address(item) for item in contracts],
                "startTimestamp": start,
                "durationDays": days,
                "extraData": extra_data,
            },
        }
    )
    account = Account.from_key(secret)
    signature = bytes(account.sign_message(message).signature)
    user = bytes.fromhex(account.address[2:])
    return request.UserDecrypt(
        key_id=key_id,
        ciphertexts=tuple(ciphertexts),
        user=user,
        public_key=public_key,
        contracts=tuple(contracts),
        start=start,
        days=days,
        extra_data=extra_data,
        signature=signature,
        grants=grants,
    )


def address(secret: bytes) -> str:
    """The address of a key, by eth-account."""
    return str(Account.from_key(secret).address)
