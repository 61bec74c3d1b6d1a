"""A minimal coprocessor: takes encrypted inputs, computes on them, keeps ciphertexts, vouches for handles.

It is trusted for the confidentiality of keys: whoever chooses what is decrypted can read the key, so enclaves decrypt
only what k of n coprocessors have signed. It holds no secret of the key management system.
"""
