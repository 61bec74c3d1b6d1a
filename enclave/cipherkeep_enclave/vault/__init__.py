"""The vault: what is kept when the enclave ends, sealed under a key that AWS KMS releases to this image alone.

`seal` the form of a sealed object. `aws_kms` the client of the key service, with `aws_signature`, `aws_recipient` and
`egress` beside it. `records` what is inside the objects. `vault` all of it together.
"""

from cipherkeep_enclave.vault.records import KeyRecord
from cipherkeep_enclave.vault.vault import Vault

__all__ = ["KeyRecord", "Vault"]
