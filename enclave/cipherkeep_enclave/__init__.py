"""The enclave: holds secrets, and believes the host nothing without evidence."""
