"""
A Maildir, one in a hundred messages in it real mail: purge beside grep and rm, and beside find -delete, which looks at
no message and deletes them all.

    python benchmarks/bench_maildir.py --messages 100000 --rounds 5
"""

import os

import beside

GREP = 'grep -rlZ -m1 \'^Return-Path: <#@\\[\\]>\' "$1/new" "$1/cur" | xargs -0 rm'


def make(path, messages):
    """Make a Maildir with that many messages: half of them new, every hundredth real mail."""
    for name in ("new", "cur", "tmp"):
        os.makedirs(f"{path}/{name}")
    text = beside.double_bounce()
    double = b"Return-Path: <#@[]>\nDelivered-To: doublebounce@example.com\n" + text
    mail = b"Return-Path: <somebody@example.org>\nDelivered-To: doublebounce@example.com\n" + text
    for count in range(messages):
        name = f"{1_700_000_000 + count // 10}.{count}.mail.example.com"
        place = f"{path}/new/{name}" if count % 2 else f"{path}/cur/{name}:2,S"
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(fd, double if count % 100 else mail)
        os.close(fd)
    return [path]


def main():
    options = beside.arguments(__doc__)
    with beside.Place(dir=options.directory) as place:
        loaded = beside.modules()

        def purge(path):
            assert loaded["qmail_mailbox.purge"](str(path))["deleted"]

        def grep(path):
            beside.shell(GREP, path)

        def find(path):
            beside.shell('find "$1" -type f -delete', path)

        def fresh(messages=options.messages):
            return make(beside.emptied(place / "Maildir"), messages)

        # Once before the clock runs: Salt loads its modules at their first call.
        purge(*fresh(100))
        if options.growth:
            beside.growth("purge", options.rounds, purge, fresh)
            return
        others = {"grep | xargs rm": (grep, 1), "find -delete": (find, 1.3)}
        beside.beside(f"purge of {options.messages} messages", options.rounds, purge, others, fresh)


if __name__ == "__main__":
    main()
