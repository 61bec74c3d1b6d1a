"""Statements: what participants sign, and what stands in the application's state.

`configuration` what an enclave is measured with. `governance` what k keys decided. `transaction` the envelope of the
chain. `request` what is asked and under which id. `binding` which ciphertext a handle means. `authorisation` who may
have it decrypted. `answer` the one signed object that is vote and receipt. `registration` who holds a key. `manifest`
what a vault holds. `layout` where all of it stands in state. `eip712` and `fhevm` the typed data of Ethereum's side.
"""
