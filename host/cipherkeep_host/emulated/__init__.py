"""The only place for what stands in for AWS on a laptop: the NSM, the NitroTPM, AWS KMS, and the enclave's machine.

Emulated means another trust root, never another code path: everything here speaks the real protocols and signs with a
local PKI, whose root a verifier accepts only by naming it.
"""
