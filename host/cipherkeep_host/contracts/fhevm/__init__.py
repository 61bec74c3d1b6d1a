"""The contract of an fhEVM deployment: who governs, who holds keys, what was asked, what was answered.

Messages (name → body; every field is demanded, no other is allowed):

| message | body | data of the result, deterministic CBOR |
| --- | --- | --- |
| `govern` | `{statement: bytes}` | `{serial}` |
| `register` | `{party: text, registration: bytes}` | `{index}` |
| `freshness` | `{party: text, nonce: 32 bytes}` | `{key}`, where the nonce stands |
| `keygen`, `public_decrypt`, `user_decrypt` | `{request: bytes}` | `{counter, duplicate, id, state}` |
| `answer` | `{answers: [bytes, …]}` | `[[id or null, verdict], …]`: `counted`, `final`, or the code of a refusal |

What is proven stands in `cipherkeep_attestation.statements.layout`, what can be looked up besides in `records`.
"""

from cipherkeep_host.contracts.fhevm.contract import Fhevm

__all__ = ["Fhevm"]
