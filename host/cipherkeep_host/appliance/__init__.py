"""The appliance: everything that one party and its chain need, on one machine, with an emulated enclave.

`plan` says where things lie and what is chosen; `provision` makes what must exist before anything runs; `bringup`
starts all in order; `children` and `enclave` keep processes running, which `metrics` counts; `governance` signs and
sends decisions; `configuring` hands the enclave its configuration; `supervisor` is the process; `lock` says which one
holds a state folder.
"""
