"""`cipherkeep`: the command line of developers and operators.

Tables on a terminal, JSON with `--json`. Exit codes: 0 done, 1 refused or not proven, 2 wrong usage, 3 nothing to talk
to, 4 not in time, 130 interrupted.
"""

from __future__ import annotations

import typer

from cipherkeep_host.cli import dev, evidence, keys, values

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Keys of a fully homomorphic blockchain, held in attested enclaves.",
    epilog="Exit codes: 0 done, 1 refused or not proven, 2 wrong usage, 3 nothing to talk to, 4 not in time.",
)
app.add_typer(dev.app, name="dev")
app.add_typer(keys.app, name="key")
app.add_typer(evidence.request_app, name="request")
app.add_typer(evidence.party_app, name="party")
app.command(epilog="Example: cipherkeep encrypt uint64:42 bool:true address:0x00…")(values.encrypt)
app.command(epilog="Example: cipherkeep decrypt 5f0c…")(values.decrypt)
app.command("user-decrypt", epilog="Example: cipherkeep user-decrypt 5f0c…")(values.user_decrypt)
app.command(epilog="Example: cipherkeep attest --json")(evidence.attest)
