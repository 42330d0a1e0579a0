"""The command ``qmail-doublebounce-formula``: where an installed copy is."""

import argparse
import sys

import qmail_doublebounce_formula

PATH = """\
Print the directory that holds the formula and its modules, for file_roots on a master, and for salt-call:
salt-call --local -m "$(qmail-doublebounce-formula path)" qmail_doublebounce.status
"""


def main():
    parser = argparse.ArgumentParser(
        prog="qmail-doublebounce-formula", description="The Salt formula qmail-doublebounce, as it is installed here."
    )
    parser.add_argument("--version", action="version", version=qmail_doublebounce_formula.version())
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    commands.add_parser("path", help="print the directory of the formula", description=PATH)
    parser.parse_args()
    print(qmail_doublebounce_formula.path())
    return 0


if __name__ == "__main__":
    sys.exit(main())
