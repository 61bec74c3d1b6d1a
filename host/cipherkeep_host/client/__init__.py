"""What a user of the chain needs: encrypt, ask, wait, and verify the answer by oneself, offline.

`node` is the seam to a chain node. `verification` judges answers and keys from evidence alone. `user_decryption` opens
what was re-encrypted to a user. `library` puts them together for the command line and the demonstration.
"""
