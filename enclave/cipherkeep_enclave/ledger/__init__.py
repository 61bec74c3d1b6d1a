"""The verified view of the chain: what the enclave believes about it, and under which header.

`inboxes` which requests blocks hold. `ledger` the one
object that takes evidence and answers questions.
"""

from cipherkeep_enclave.ledger.ledger import Ledger, View

__all__ = ["Ledger", "View"]
