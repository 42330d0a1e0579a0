"""Make users/cdb from users/assign, as qmail-newu does."""

import os
import struct

BREAKS = b"-"


def from_assign(assign):
    """Return the database for the text of users/assign."""
    records, breaks = [], set()
    for line in os.fsencode(assign).split(b"\n"):
        if line in (b"", b"."):
            continue
        key, _, data = line[1:].partition(b":")
        whole = line[:1] == b"="
        if not whole and key:
            breaks.add(key[-1:])
        records.append((b"!" + key.lower() + (b"\0" if whole else b""), data.replace(b":", b"\0", 5).rstrip(b":")))
    return database([(b"", b"".join(sorted(breaks))), *records])


def database(records):
    """Return a constant database that holds these pairs of bytes."""
    tables = [[] for _ in range(256)]
    body = b""
    for key, data in records:
        number = hashed(key)
        tables[number & 255].append((number, 2048 + len(body)))
        body += struct.pack("<II", len(key), len(data)) + key + data
    head, tail = b"", b""
    for entries in tables:
        slots = [(0, 0)] * (2 * len(entries))
        head += struct.pack("<II", 2048 + len(body) + len(tail), len(slots))
        for number, position in entries:
            place = (number >> 8) % len(slots)
            while slots[place][1]:
                place = (place + 1) % len(slots)
            slots[place] = (number, position)
        tail += b"".join(struct.pack("<II", *slot) for slot in slots)
    return head + body + tail


def hashed(key):
    number = 5381
    for byte in key:
        number = (number * 33 & 0xFFFFFFFF) ^ byte
    return number
