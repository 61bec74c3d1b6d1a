"""The only place that starts the appliance, in the order in which its parts need one another, and stops it.

    chain → trust root → image measured → configuration → key service → proxy, store → enclave → connector
      → governance: releases, admission, coprocessors → first key → coprocessor

Every step finds what an earlier run left behind: a second start goes on with the same chain, vault and keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import httpx
import structlog
from cipherkeep_attestation.chain.light import LightRoot
from cipherkeep_attestation.statements import governance
from cipherkeep_attestation.statements.configuration import Configuration
from cipherkeep_attestation.statements.governance import Coprocessors, Release, Releases
from cipherkeep_attestation.statements.request import Keygen
from cipherkeep_wire import transport
from cipherkeep_wire.limits import CONFIGURATION_PORT, GRPC_PORT, HANDSHAKE_PORT, KMS_EGRESS_PORT

from cipherkeep_host import durable, key_files
from cipherkeep_host.appliance import enclave, provision
from cipherkeep_host.appliance.children import Children, Program
from cipherkeep_host.appliance.configuring import Parent
from cipherkeep_host.appliance.governance import Council
from cipherkeep_host.appliance.plan import (
    ACL,
    CHAIN_ID,
    DECRYPTION,
    GATEWAY_CHAIN_ID,
    HOST_CHAIN_ID,
    INSTANCE,
    PARTY,
    Environment,
    Paths,
    cache,
    key_terms,
)
from cipherkeep_host.chain.client import ChainClient
from cipherkeep_host.chain.home import Pace
from cipherkeep_host.chain.node import Node
from cipherkeep_host.chain.rpc import RpcClient
from cipherkeep_host.client import contract
from cipherkeep_host.client.node import RpcNode
from cipherkeep_host.coprocessor.signer import Signer
from cipherkeep_host.emulated.launcher import Launcher, Status
from cipherkeep_host.errors import HostError

CRS_BITS = 2048  # inputs of one list, in bits: what today's clients expect
UP = 180.0  # seconds until the connector has brought the enclave up
KEYGEN = 180.0  # seconds until a key is there
RELEASE = "local"
_RECORD = 0.2  # seconds between looks at the process ids
Progress = Callable[[str], None]

log = structlog.get_logger()


class Appliance:
    """All parts of one party, running here."""

    def __init__(self, paths: Paths, *, pace: Pace, say: Progress) -> None:
        self.paths = paths
        self._pace = pace
        self._started = False
        self._tell = say
        self._stage = ""
        self._enclave_restarts = 0
        self._children = Children(paths.logs)
        self._stack = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self.launcher = Launcher(state=paths.emulated, run=paths.run / "vm", images=cache() / "images")
        self.node: Node | None = None
        self.configuration: Configuration | None = None

    async def start(self) -> Environment:
        """Start everything; returns when requests are answered. Whatever fails, `stop` ends what was started."""
        durable.make_folder(self.paths.state)
        durable.make_folder(self.paths.logs)
        durable.make_folder(self.paths.run / "vm" / "host")
        found = provision.keys(self.paths)
        provision.emulators(self.paths)
        parameters = provision.genesis(self.paths, found)

        self._say("chain")
        provision.chain(self.paths, parameters, self._pace)
        self.node = node = Node(self.paths.chain, run=self.paths.run / "chain")
        await node.start()
        await node.wait_ready()
        self._tasks.append(asyncio.create_task(node.supervise()))
        rpc = await self._stack.enter_async_context(RpcClient(node.rpc_address))
        first = await rpc.light_block(1)
        root = LightRoot(CHAIN_ID, 1, first.header.hash())

        self._say("image")
        pcrs = await asyncio.to_thread(self.launcher.measure)
        arn = provision.key_service(self.paths)
        measured = provision.configuration(self.paths, parameters, root, arn)
        if measured.root != root:
            raise HostError("appliance.other_chain", str(self.paths.configuration))
        self.configuration = measured
        provision.release_to(self.paths, arn, pcrs, measured)

        self._say("services")
        await self._start_services()
        self._say("enclave")
        parent = Parent(self._host_socket(CONFIGURATION_PORT), measured, self.paths.emulated)
        await self._stack.enter_async_context(parent)
        status = await self.launcher.launch()
        self._tasks.append(asyncio.create_task(enclave.keep(self.launcher, launched=self._launched_again)))
        await self._start_connector(pcrs)

        self._say("governance")
        chain = ChainClient(rpc, chain_id=CHAIN_ID, key=found.operator)
        council = Council(chain, INSTANCE, parameters.digest(), [found.governor])
        await self._decide(council, pcrs)
        self._say("registration")
        await self._until(UP, self._connector_up, "the connector")

        self._say("key")
        key_id = await self._first_key(council, RpcNode(chain))
        self._say("coprocessor")
        await self._start_coprocessor(key_id)
        self._tasks.append(asyncio.create_task(self._keep_record()))
        environment = self._environment(pcrs, root, status)
        environment.write(self.paths.environment)
        self._stage, self._started = "up", True
        return environment

    def _say(self, stage: str) -> None:
        self._stage = stage
        self._tell(stage)

    def health(self) -> dict[str, object]:
        """How the whole is, for `/healthz`: ready when it has started and none of its processes is missing."""
        processes = self.pids()
        well = self._started and self.launcher.status is not None and None not in processes.values()
        return {
            "ready": well,
            "stage": self._stage,
            "processes": processes,
            "restarts": self.restarts(),
            "launcher": self.launcher.health(),
        }

    def restarts(self) -> dict[str, int]:
        """How often each part was started again."""
        return {**self._children.restarts(), "enclave": self._enclave_restarts}

    def _launched_again(self) -> None:
        self._enclave_restarts += 1

    async def stop(self) -> None:
        """End everything, in reverse order."""
        self.paths.environment.unlink(missing_ok=True)
        self.paths.processes.unlink(missing_ok=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._children.stop()
        await self.launcher.stop()
        await self._stack.aclose()
        if self.node is not None:
            await self.node.stop()

    async def failed(self) -> None:
        """Returns when something cannot be kept running; raises what it was."""
        watched = [*self._tasks, *self._children.watchers()]
        done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    def pids(self) -> dict[str, int | None]:
        """Process ids of all parts."""
        found = self._children.pids()
        if self.node is not None:
            found |= {process.name: process.pid if process.alive else None for process in self.node.processes}
        if self.launcher.status is not None:
            found |= {"enclave": self.launcher.status.pid, "nsm": self.launcher.status.nsm_pid}
        elif self._started:
            found |= {"enclave": None, "nsm": None}
        return found

    # --- parts ---

    def _host_socket(self, port: int) -> str:
        """Where the parent listens for the enclave's connections to this port, and dials its ports."""
        return f"unix-vsock://{self.paths.run / 'vm' / 'host' / 'e.vsock'}#{port}"

    async def _start_services(self) -> None:
        kms = self.paths.socket("kms")
        await self._children.start(
            Program(
                "aws-kms",
                ["cipherkeep_host.emulated.aws_kms", "--state", str(self.paths.emulated), "--listen", f"unix://{kms}"],
                lambda: _connects(kms),
            )
        )
        store = self.paths.socket("store")
        arguments = ["--dir", str(self.paths.state / "store"), "--listen", f"unix://{store}"]
        await self._children.start(Program("store", ["cipherkeep_host.store", *arguments], lambda: _healthy(store)))
        proxy = self._write("proxy", self._proxy(kms))
        ready = self.paths.socket("proxy")
        await self._children.start(
            Program("proxy", ["cipherkeep_host.proxy", "--config", str(proxy)], lambda: _healthy(ready))
        )

    def _proxy(self, kms: Path) -> dict[str, object]:
        return {
            "listen": f"unix://{self.paths.socket('proxy')}",
            "handshake": {
                "listen": f"unix://{self.paths.socket('handshake')}",
                "connect": self._host_socket(HANDSHAKE_PORT),
            },
            "grpc": {"listen": f"unix://{self.paths.socket('grpc')}", "connect": self._host_socket(GRPC_PORT)},
            "kms": {"listen": self._host_socket(KMS_EGRESS_PORT), "connect": f"unix://{kms}"},
        }

    async def _start_connector(self, pcrs: Mapping[int, bytes]) -> None:
        assert self.node is not None
        listen = self.paths.socket("connector")
        config = {
            "configuration": str(self.paths.configuration),
            "grpc": f"unix://{self.paths.socket('grpc')}",
            "handshake": f"unix://{self.paths.socket('handshake')}",
            "host_attestor": str(self.paths.emulated),
            "listen": f"unix://{listen}",
            "measurements": {str(index): value.hex() for index, value in pcrs.items()},
            "node": self.node.rpc_address,
            "sender_key": str(self.paths.keys / "connector.key"),
            "state": str(self.paths.state / "connector"),
            "store": f"unix://{self.paths.socket('store')}",
        }
        path = self._write("connector", config)
        arguments = ["cipherkeep_host.connector", "--config", str(path)]
        await self._children.start(Program("connector", arguments, lambda: _connects(listen)))

    async def _start_coprocessor(self, key_id: bytes) -> None:
        assert self.node is not None
        listen = self.paths.socket("coprocessor")
        config = {
            "configuration": str(self.paths.configuration),
            "crs_bits": CRS_BITS,
            "key_id": key_id.hex(),
            "listen": f"unix://{listen}",
            "node": self.node.rpc_address,
            "signing_key": str(self.paths.keys / "coprocessor.key"),
            "state": str(self.paths.state / "coprocessor"),
            "store": f"unix://{self.paths.socket('store')}",
        }
        path = self._write("coprocessor", config)
        arguments = ["cipherkeep_host.coprocessor", "--config", str(path)]
        await self._children.start(Program("coprocessor", arguments, lambda: _healthy(listen)))

    async def _keep_record(self) -> None:
        """Keep the file of process ids current: `cipherkeep dev status` reads it, and whoever wants to kill one."""
        written: dict[str, int | None] = {}
        while True:
            if (found := self.pids()) != written:
                durable.write(self.paths.processes, json.dumps(found).encode())
                written = found
            await asyncio.sleep(_RECORD)

    # --- decisions ---

    async def _decide(self, council: Council, pcrs: Mapping[int, bytes]) -> None:
        """Bring into force what this deployment needs and what is not in force yet."""
        assert self.configuration is not None
        wanted: list[tuple[str, dict[str, object]]] = [
            (governance.SET_RELEASES, Releases((Release(RELEASE, pcrs[0], pcrs[1], pcrs[2]),)).to_map()),
            (governance.ADMIT_PARTY, {"configuration": self.configuration.digest(), "name": PARTY}),
            (governance.SET_COPROCESSORS, Coprocessors((self._coprocessor_address(),), 1).to_map()),
        ]
        await council.bring_into_force(wanted)

    def _coprocessor_address(self) -> bytes:
        return Signer(key_files.ensure_secp256k1(self.paths.keys / "coprocessor.key")).address

    async def _first_key(self, council: Council, node: RpcNode) -> bytes:
        """The first key's id, which the coprocessor serves for ever; it is generated when there is none."""
        if not await contract.key_ids(node, INSTANCE):
            signed = await council.decide(governance.KEYGEN, key_terms().to_map())
            await council.request("keygen", Keygen(signed).encode())

        async def there() -> None:
            if not await contract.key_ids(node, INSTANCE):
                raise HostError("appliance.timeout", "no key yet")

        await self._until(KEYGEN, there, "the first key")
        return (await contract.key_ids(node, INSTANCE))[0]

    # --- small things ---

    async def _connector_up(self) -> None:
        await _healthy(self.paths.socket("connector"))

    async def _until(self, seconds: float, reached: Callable[[], Awaitable[object]], what: str) -> None:
        loop = asyncio.get_running_loop()
        ends, last = loop.time() + seconds, ""
        while loop.time() < ends:
            for task in (*self._tasks, *self._children.watchers()):
                if task.done():
                    task.result()
            try:
                await reached()
            except (HostError, httpx.HTTPError, OSError) as error:
                last = str(error)
                await asyncio.sleep(0.05)
            else:
                return
        raise HostError("appliance.timeout", f"{what}, {seconds:g} s: {last}"[:300])

    def _write(self, name: str, config: Mapping[str, object]) -> Path:
        path = self.paths.state / f"{name}.json"
        durable.write(path, json.dumps(config, indent=1).encode())
        return path

    def _environment(self, pcrs: Mapping[int, bytes], root: LightRoot, status: Status) -> Environment:
        assert self.node is not None
        assert self.configuration is not None
        return Environment(
            chain_id=CHAIN_ID,
            instance=INSTANCE,
            party=PARTY,
            node=self.node.rpc_address,
            node_metrics=self.node.metrics_address,
            application=self.node.health_address,
            kms=f"unix://{self.paths.socket('kms')}",
            store=f"unix://{self.paths.socket('store')}",
            coprocessor=f"unix://{self.paths.socket('coprocessor')}",
            attestation=f"unix://{self.paths.socket('proxy')}",
            connector=f"unix://{self.paths.socket('connector')}",
            appliance=f"unix://{self.paths.socket('appliance')}",
            nsm=f"unix://{status.nsm_health}",
            genesis_hash=root.header_hash.hex(),
            configuration_digest=self.configuration.digest().hex(),
            configuration=str(self.paths.configuration),
            enclave_root=str(self.paths.emulated / "pki" / "root.der"),
            host_chain_id=HOST_CHAIN_ID,
            gateway_chain_id=GATEWAY_CHAIN_ID,
            acl=ACL.hex(),
            decryption=DECRYPTION.hex(),
            keys=str(self.paths.keys),
            logs=str(self.paths.logs),
            pcrs={str(index): value.hex() for index, value in pcrs.items()},
            network_isolated=status.network_isolated,
        )


async def _healthy(path: Path) -> None:
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path)), timeout=5) as client:
        (await client.get("http://child/healthz")).raise_for_status()


async def _connects(path: Path) -> None:
    _, writer = await transport.connect(transport.Address("unix", path=str(path)), timeout=2)
    writer.close()
