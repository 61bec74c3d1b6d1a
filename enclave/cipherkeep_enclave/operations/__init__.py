"""What the enclave does with a proven request: one module for each operation, and the result is always a core.

`setting` what an operation is given, and how a request is refused. `opening` what both decryptions share. `keygen`,
`public_decrypt` and `user_decrypt` the operations; `signcryption` the form of today's clients. `answers` makes cores of
requests, and signed answers of cores.
"""
