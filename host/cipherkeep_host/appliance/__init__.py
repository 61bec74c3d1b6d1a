"""The appliance: everything that one party and its chain need, on one machine, with an emulated enclave.

`plan` says where things lie and what is chosen; `provision` makes what must exist before anything runs; `children` keeps
processes running; `bringup` starts all in order; `governance` signs and sends decisions; `supervisor` is the process.
"""
