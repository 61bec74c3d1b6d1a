"""The KMS chain: the application that CometBFT drives, the state it proves, the processes, the clients.

`state` holds what is proven, `application` changes it block by block, `abci` carries CometBFT's calls to it, `node`
starts and supervises both processes, `rpc` and `client` are for whoever talks to a node.
"""
