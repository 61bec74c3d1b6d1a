"""The only place that says how a group of commands whose one command is `verify` stands on the command line."""

from __future__ import annotations

import argparse


def verify_command(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    group: str,
    *,
    about: str,
    judges: str,
    description: str,
    example: str,
) -> argparse.ArgumentParser:
    """The parser of `GROUP verify`. `about` the group and what the command `judges` stand in the lists of commands."""
    parser = subparsers.add_parser(group, help=about, allow_abbrev=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    return commands.add_parser(
        "verify",
        help=judges,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Example: cipherkeep-audit {group} verify {example}",
        allow_abbrev=False,
    )
