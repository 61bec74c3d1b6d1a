"""One real round on this machine, told for a newcomer: start, encrypt, compute, decrypt twice, verify, stop.

What a stranger would use checks it: values are encrypted by Zama's node-tfhe, and the user's answer is opened by Zama's
node-tkms, with verification on. Exits 0 only if everything was as it must be. `KEEP=1` leaves the appliance up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import coincurve
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.receipts.judging import Key, Verified
from cipherkeep_attestation.statements import eip712, fhevm
from cipherkeep_attestation.statements.binding import Ciphertext
from cipherkeep_host.appliance.plan import Paths, default_state
from cipherkeep_host.cli import dev, evidence, output
from cipherkeep_host.cli.session import Session, address_of, open_session
from cipherkeep_host.cli.values import CONTRACT
from cipherkeep_host.client.user_decryption import UserKey
from cipherkeep_host.coprocessor import handles
from cipherkeep_host.errors import HostError
from cipherkeep_host.process import parse_address
from cipherkeep_host.store.client import StoreClient

ROOT = Path(__file__).resolve().parent.parent
STRANGERS = ROOT / "tests" / "thirdparty"
NODE_SECONDS = 300  # proving takes 15 to 60 seconds in WebAssembly
say = output.out.print


class Wrong(Exception):
    """Something was not as it must be; the message is a plain sentence."""


@contextlib.contextmanager
def step(what: str, expected: int) -> Iterator[None]:
    """Say that a longer step runs, against how long it usually takes, and how long it took."""
    begun = time.monotonic()
    terminal = output.out.is_terminal
    if not terminal:
        say(f"  … {what} (about {expected} s)")
    with output.out.status(f"{what} (about {expected} s)") if terminal else contextlib.nullcontext():
        yield
    say(f"  [green]✓[/green] {what} [dim]({time.monotonic() - begun:.1f} s)[/dim]")


async def stranger(script: str, *arguments: str, order: object = None) -> Any:
    """Run one of the strangers' scripts: JSON in, JSON out. `Wrong` with what it says when it refuses."""
    process = await asyncio.create_subprocess_exec(
        "node", script, *arguments, cwd=STRANGERS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(NODE_SECONDS):
            out, err = await process.communicate(json.dumps(order).encode())
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
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
        key = (await session.client.keys())[0]
        say("  [green]✓[/green] the key's record, proven from the chain's first header on")

        amount = secrets.randbelow(1 << 40) + 1
        values = [("uint64", amount), ("bool", 1), ("uint160", int.from_bytes(owner, "big"))]
        what = "three values encrypted and proven by Zama's node-tfhe, verified and bound here"
        with tempfile.TemporaryDirectory(prefix="ck-demo-") as folder, step(what, 30):
            bound = await encrypt_by_stranger(session, key, values, owner, Path(folder))
        wanted = [item.handle for item in bound]
        with step("the uint64 added to itself, homomorphically", 5):
            doubled = await session.client.compute(key.id, "add", [wanted[0], wanted[0]], owner=user)

        with step("public decryption through the chain", 2):
            asked = await session.client.request_public_decrypt(key.id, [*wanted, doubled.handle])
            opened = await session.client.wait(asked.id)
        got = [value for _, _, value in opened.values]
        expect(got, [*(value for _, value in values), 2 * amount], "The public decryption gave other values")

        pair = await stranger("user_decrypt.js", "keypair")
        with step("user decryption through the chain, opened and verified by Zama's node-tkms", 3):
            request = await session.client.request_user_decrypt(
                key.id,
                wanted,
                user=user,
                user_key=UserKey(bytes.fromhex(pair["publicKey"]), b""),
                contracts=[CONTRACT],
            )
            private = await session.client.wait(request.id)
            mine = await open_by_stranger(private, key, pair, owner)
        expect(mine, [value for _, value in values], "The user decryption gave other values")
        summary(document, key, [*bound, doubled], opened, private, owner)


def summary(
    document: dict[str, object], key: Key, bound: list[Ciphertext], opened: Verified, private: Verified, owner: bytes
) -> None:
    """What was verified, and by whose code."""
    say()
    output.show_fields(
        "The enclave",
        {
            "image": f"PCR0 {document['PCR0 (image)']}",
            "": f"PCR2 {document['PCR2 (application)']}",
            "configuration": f"PCR16 {document['PCR16 (configuration)']}",
            "insecure settings": document["insecure settings"],
            "vouched for by": document["vouched for by"],
        },
    )
    output.show_fields(
        "The key",
        {
            "id": key.id.hex(),
            "parameters": key.terms.parameters,
            **{item.kind.replace("_", " "): f"sha256 {item.digest.hex()}" for item in key.material},
        },
    )
    signer = opened.vouchers[0]
    output.show_fields(
        "The values",
        {
            "owner": eip712.checksum(owner),
            "ciphertext": f"sha256 {bound[0].digest.hex()}",
            "uint64": f"{opened.values[0][2]} (doubled while encrypted: {opened.values[3][2]})",
            "bool": bool(opened.values[1][2]),
            "address": eip712.checksum(opened.values[2][2].to_bytes(20, "big")),
            "asked and answered": f"in block {opened.height}; answer proven under header {opened.header.height}",
        },
    )
    output.show_fields(
        "Signatures, and whose code checked them",
        {
            "public answer": f"PublicDecryptVerification by {eip712.checksum(signer.signer)}: Cipherkeep's client",
            "user answer": f"UserDecryptResponseVerification by {eip712.checksum(signer.signer)}: Zama's node-tkms",
            "both answers": f"evidence key {signer.evidence_key.hex()}: Cipherkeep's client",
            "chain": f"headers up to {private.header.height} from header 1 on, proofs under them: Cipherkeep's client",
        },
    )


@contextlib.asynccontextmanager
async def appliance(state: Path | None, *, keep: bool) -> AsyncIterator[None]:
    """A running appliance; ended with the context unless it is to be kept."""
    folder = (state or default_state()).absolute()
    command = [sys.executable, "-m", "cipherkeep_host.appliance", "--state", str(folder)]
    command += [] if keep else ["--with-parent"]
    with dev.log_file(Paths(folder, Path("/"))) as log:
        process = await asyncio.to_thread(
            lambda: subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
        )
    done = False
    try:
        await asyncio.to_thread(dev.follow, process)
        yield
        done = True
    finally:
        if not (keep and done):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(process.wait)


async def demo(*, keep: bool) -> None:
    """Start, run, tell, stop."""
    loop, this = asyncio.get_running_loop(), asyncio.current_task()
    assert this is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, this.cancel)
    with tempfile.TemporaryDirectory(prefix="ck-demo-") as folder:
        state = None if keep else Path(folder) / "state"
        say("[bold]Starting a whole party on this machine[/bold] [dim](about 40 s; 15 s longer the first time)[/dim]")
        async with appliance(state, keep=keep):
            say("[bold]One round[/bold]")
            await round_trip(state)
            say()
        if keep:
            say(
                "The appliance stays up. Try:\n"
                "  .venv/bin/cipherkeep dev status\n"
                "  .venv/bin/cipherkeep encrypt uint64:42 bool:true\n"
                "  .venv/bin/cipherkeep decrypt HANDLE\n"
                "  .venv/bin/cipherkeep user-decrypt HANDLE\n"
                "  .venv/bin/cipherkeep attest\n"
                "Stop it with\n"
                "  .venv/bin/cipherkeep dev down"
            )
        else:
            say(
                "All of it was as it must be. Stopped, and nothing is left running.\n"
                "Next: `make demo KEEP=1` leaves the appliance up for you to use."
            )


def main() -> int:
    """0 when all was as it must be, 130 after Ctrl-C, 1 otherwise."""
    try:
        asyncio.run(demo(keep=os.environ.get("KEEP", "0") not in ("", "0")))
    except Wrong as wrong:
        output.err.print(f"[red]✗[/red] {wrong}")
    except (HostError, EvidenceError) as error:
        output.err.print(f"[red]✗[/red] {error.sentence}")
        output.err.print(f"  {error.code}: {error.detail}", markup=False)
        output.err.print(f"  → {error.hint}", markup=False)
    except (asyncio.CancelledError, KeyboardInterrupt):
        output.err.print("Stopped, and nothing is left running.")
        return 130
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
