"""Receipts: what shows, to whoever knows the trust root and without any node, that a request was answered and by whom.

`judging` is the verifier that clients and auditors share; `receipt` is the file format; `offline` judges a file to its
end, from the image that held the key down to the ciphertexts' digests.
"""
