"""One round over a running appliance: encrypt, compute, decrypt twice, verify, and sum up.

What a stranger would use checks it: values are encrypted by Zama's node-tfhe, and the user's answer is opened by Zama's
node-tkms, with verification on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import coincurve
from cipherkeep_attestation.receipts.judging import Key, Verified
from cipherkeep_attestation.statements import eip712, fhevm, layout
from cipherkeep_attestation.statements.binding import Ciphertext
from cipherkeep_host import leash
from cipherkeep_host.cli import evidence, output
from cipherkeep_host.cli.session import Session, address_of, open_session
from cipherkeep_host.cli.values import CONTRACT
from cipherkeep_host.client.user_decryption import UserKey
from cipherkeep_host.coprocessor import handles
from cipherkeep_host.errors import HostError
from cipherkeep_host.process import parse_address
from cipherkeep_host.store.client import StoreClient

from tools.demo.telling import Wrong, say, step

ROOT = Path(__file__).resolve().parent.parent.parent
STRANGERS = ROOT / "tests" / "thirdparty"
NODE_SECONDS = 300  # proving takes 15 to 60 seconds in WebAssembly


async def stranger(script: str, *arguments: str, order: object = None) -> Any:
    """Run one of the strangers' scripts: JSON in, JSON out. `Wrong` with what it says when it refuses."""
    node = shutil.which("node")
    if node is None:
        raise Wrong("Node.js, which runs the strangers' clients, is not on this machine any more.")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), node, script, *arguments),
        cwd=STRANGERS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is ours to pass on
    )
    try:
        async with asyncio.timeout(NODE_SECONDS):
            out, err = await process.communicate(json.dumps(order).encode())
    except TimeoutError:
        raise Wrong(f"The stranger's client did not end within {NODE_SECONDS} s.") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a session of its own is a group of its own
            await process.wait()
    if process.returncode != 0:
        raise Wrong(f"The stranger's client refused: {err.decode(errors='replace').strip()[-400:]}")
    return json.loads(out)


async def encrypt_by_stranger(
    session: Session, key: Key, values: list[tuple[str, int]], user: bytes, folder: Path
) -> list[Ciphertext]:
    """Encrypt with node-tfhe under the published key, and have the coprocessor bind the values."""
    async with StoreClient(parse_address(session.environment.store)) as store:
        string = await session.client.reference_string()
        paths = {"publicKey": folder / "public-key", "crs": folder / "crs"}
        await store.get_to_file(key.piece("public_key").digest, paths["publicKey"], limit=1 << 20)
        await store.get_to_file(string, paths["crs"], limit=64 << 20)
    metadata = handles.metadata(contract=CONTRACT, user=user, acl=key.terms.acl, chain_id=key.terms.host_chain_id)
    names = {"bool": "bool", "uint64": "u64", "uint160": "u160"}
    order = {
        **{name: str(path) for name, path in paths.items()},
        "out": str(folder / "list"),
        "metadata": metadata.hex(),
        "values": [{"type": names[name], "value": str(value)} for name, value in values],
    }
    await stranger("encrypt.js", order=order)
    data = await asyncio.to_thread((folder / "list").read_bytes)
    return await session.client.bind(key.id, data, [name for name, _ in values], user=user, contract_address=CONTRACT)


async def open_by_stranger(verified: Verified, key: Key, pair: dict[str, str], user: bytes) -> list[int]:
    """Open a user decryption with node-tkms, verification on."""
    assert verified.core.result is not None
    asked: Any = verified.asked
    domain = key.terms.decryption
    contract = eip712.checksum(domain.verifying_contract)
    order = {
        "signers": [eip712.checksum(voucher.signer) for voucher in verified.vouchers],
        "client": eip712.checksum(user),
        "request": {
            "client_address": eip712.checksum(user),
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
                "extra_data": fhevm.answered_extra_data(asked.extra_data).hex(),
            }
        ],
        **pair,
    }
    opened = await stranger("user_decrypt.js", "open", order=order)
    return [int(item["value"], 16) for item in opened]


def expect(found: object, wanted: object, what: str) -> None:
    """`Wrong` unless they are equal."""
    if found != wanted:
        raise Wrong(f"{what}: {found} instead of {wanted}.")


async def round_trip(state: Path | None) -> None:
    """The whole round over a running appliance."""
    async with open_session(state) as session:
        user = coincurve.PrivateKey()
        owner = address_of(user)
        document = await evidence.attestation(session.environment)
        say("  [green]✓[/green] the enclave's attestation document, over a nonce of our own")
        keys = await session.client.keys()
        if not keys:
            raise Wrong("The chain has no key yet.")
        key = keys[0]
        say("  [green]✓[/green] the key's record, proven from the chain's first header on")

        amount = secrets.randbelow(1 << 40) + 1
        values = [("uint64", amount), ("bool", 1), ("uint160", int.from_bytes(owner, "big"))]
        what = "three values encrypted and proven by Zama's node-tfhe, verified and bound here"
        with tempfile.TemporaryDirectory(prefix="ck-demo-") as folder:
            async with step(what, 30):
                bound = await encrypt_by_stranger(session, key, values, owner, Path(folder))
        wanted = [item.handle for item in bound]
        async with step("the uint64 added to itself, homomorphically", 5):
            doubled = await session.client.compute(key.id, "add", [wanted[0], wanted[0]], owner=user)

        async with step("public decryption through the chain", 2):
            asked = await session.client.request_public_decrypt(key.id, [*wanted, doubled.handle])
            opened = await session.client.wait(asked.id)
        opened_in = await answered_in(session, opened)
        got = [value for _, _, value in opened.values]
        expect(got, [*(value for _, value in values), 2 * amount], "The public decryption gave other values")

        pair = await stranger("user_decrypt.js", "keypair")
        async with step("user decryption through the chain, opened and verified by Zama's node-tkms", 3):
            request = await session.client.request_user_decrypt(
                key.id,
                wanted,
                user=user,
                user_key=UserKey(bytes.fromhex(pair["publicKey"]), b""),
                contracts=[CONTRACT],
            )
            private = await session.client.wait(request.id)
            private_in = await answered_in(session, private)
            mine = await open_by_stranger(private, key, pair, owner)
        expect(mine, [value for _, value in values], "The user decryption gave other values")
    summary(document, key, [*bound, doubled], (opened, opened_in), (private, private_in), owner)


async def answered_in(session: Session, verified: Verified) -> int:
    """The block that brought the answer: the first after which the node's state has it.

    The node's word, within what is proven: the request's block, and the header that has the answer.
    """
    for height in range(verified.height, verified.header.height - 1):
        with contextlib.suppress(HostError):  # only the last few states can be had
            shown = await session.node.prove(session.trust.instance, layout.REQUESTS, verified.counter, height=height)
            if shown.value is not None and layout.RequestRecord.decode(shown.value).state == layout.FINAL:
                return height
    return verified.header.height - 1


def summary(
    document: dict[str, object],
    key: Key,
    ciphertexts: list[Ciphertext],
    public: tuple[Verified, int],
    private: tuple[Verified, int],
    owner: bytes,
) -> None:
    """What was verified, and by whose code. Answers come with the block that brought them."""
    opened, signer = public[0], public[0].vouchers[0]
    names = ("uint64", "bool", "address", "uint64, doubled")
    say()
    say("[bold]What was verified[/bold]")
    output.show_fields(
        "The enclave, by a document that it signed just now",
        {
            "image (PCR0)": document["PCR0 (image)"],
            "kernel (PCR1)": document["PCR1 (kernel)"],
            "application (PCR2)": document["PCR2 (application)"],
            "configuration (PCR16)": document["PCR16 (configuration)"],
            "insecure settings": document["insecure settings"],
            "vouched for by": document["vouched for by"],
        },
    )
    output.show_fields(
        "The key, generated inside it",
        {
            "id": key.id.hex(),
            "parameters": key.terms.parameters,
            **{item.kind.replace("_", " "): f"sha256 {item.digest.hex()}" for item in key.material},
        },
    )
    output.show_fields(
        "The ciphertexts, as the chain and the coprocessor's binding name them",
        {name: f"sha256 {item.digest.hex()}" for name, item in zip(names, ciphertexts, strict=True)},
    )
    output.show_fields(
        "The values",
        {
            "owner": eip712.checksum(owner),
            "uint64": f"{opened.values[0][2]} (doubled while encrypted: {opened.values[3][2]})",
            "bool": bool(opened.values[1][2]),
            "address": eip712.checksum(opened.values[2][2].to_bytes(20, "big")),
        },
    )
    output.show_fields("On the chain", {"public decryption": _heights(*public), "user decryption": _heights(*private)})
    output.show_fields(
        "Signatures, and whose code checked them",
        {
            "public answer": f"PublicDecryptVerification by {eip712.checksum(signer.signer)}: Cipherkeep's client",
            "user answer": f"UserDecryptResponseVerification by {eip712.checksum(signer.signer)}: Zama's node-tkms",
            "both answers": f"evidence key {signer.evidence_key.hex()}: Cipherkeep's client",
            "chain": f"headers up to {private[0].header.height} from header 1 on, proofs under them: "
            "Cipherkeep's client",
        },
    )


def _heights(answer: Verified, answered: int) -> str:
    return f"asked in block {answer.height}, answered in block {answered}, proven under header {answer.header.height}"
