"""
Run a campaign: so many rounds of it, or as many as there are in so many minutes.

    python -m tests.support.campaigns race|history|kill [ROUNDS|MINUTESm] [SEED]

It ends with a line of JSON: the campaign, its seed, how many rounds there were, and what was wrong in which. The same
seed makes the same rounds again, as far as processes at the same time can be the same again. It exits with 1 if
anything was wrong.

A program of its own, because a process with threads, as pytest is, cannot be forked safely.
"""

import importlib
import json
import pathlib
import random
import sys
import tempfile
import time

import salt._logging

from tests.support import minion

NAMES = ("race", "history", "kill")
OFTEN = 60  # seconds


def main(name, many="10", seed="1"):
    if name not in NAMES:
        sys.exit(__doc__.strip())
    salt._logging.shutdown_temp_handler()
    most, seconds = (None, 60 * float(many[:-1])) if many.endswith("m") else (int(many), None)
    with tempfile.TemporaryDirectory(prefix="qmail-", ignore_cleanup_errors=True) as directory:
        place = pathlib.Path(directory)
        place.chmod(0o755)  # the user can reach it to whom the mailbox belongs
        modules = minion.loaders(minion.options(place / "minion", test=False)).modules
        campaign = importlib.import_module(f"tests.support.campaigns.{name}")
        done, wrong = _run(campaign.rounds(place, modules, random.Random(int(seed))), most, seconds)
    print(json.dumps({"campaign": name, "seed": int(seed), "rounds": done, "wrong": wrong}))
    sys.exit(bool(wrong))


def _run(rounds, most, seconds):
    began = told = time.monotonic()
    done, wrong = 0, []
    try:
        for found in rounds:
            done += 1
            if found:
                wrong.append({"round": done, "found": [str(one) for one in found]})
            now = time.monotonic()
            if now - told > OFTEN:
                told = now
                print(f"{done} rounds after {now - began:.0f} s, {len(wrong)} of them wrong", file=sys.stderr)
            if done == most or (seconds and now - began > seconds):
                break
    finally:
        rounds.close()
    return done, wrong


main(*sys.argv[1:])
