"""The only place for the exception by which a contract, or the chain before it, refuses a message."""

from __future__ import annotations

from cipherkeep_host.errors import HostError


class ContractRefusal(HostError):
    """A message was understood and is refused. `code` names the rule in `HOST_RULES`; `detail` is for people.

    The one exception, besides `EvidenceError`, that a handler may end with: its writes are taken back, and its code
    becomes part of the block's results. Codes are therefore as stable as any stored format. `detail` is not hashed.
    """
