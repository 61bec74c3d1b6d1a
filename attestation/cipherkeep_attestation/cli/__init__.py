"""`cipherkeep-audit`: the command that judges evidence offline. The only part of this distribution that does I/O.

`main` is the entry; each group of commands is a module with `add(subparsers)`; `output` prints verdicts and runs
batches; `inputs` reads files, times and hexadecimal text, all strictly and with bounds.
"""
