"""The verified view of the chain: what the enclave believes about it, and under which header.

`decisions` what governance decided, folded from its statements. `inboxes` which requests blocks hold. `ledger` the one
object that takes evidence and answers questions.
"""

from cipherkeep_enclave.ledger.decisions import Decisions
from cipherkeep_enclave.ledger.ledger import Ledger, View

__all__ = ["Decisions", "Ledger", "View"]
