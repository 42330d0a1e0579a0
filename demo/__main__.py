"""
Show the formula at work on a small qmail home, without root and without qmail, and check what it promises.

Everything is in .demo/, and is made again each time. The qmail-send in it is a stand-in that reads its control files as
the real one does: when it starts.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

from tests.support import minion
from tests.support.home import Home

REPOSITORY = pathlib.Path(__file__).parent.parent
PLACE = REPOSITORY / ".demo"
MINION = PLACE / "salt"
REPORT = PLACE / "report.html"
FLOOD = 7  # double bounces
SALT_CALL = pathlib.Path(sys.executable).with_name("salt-call")


def main():
    closed = [parent for parent in PLACE.parents if not parent.stat().st_mode & 0o001]
    if os.geteuid() == 0 and closed:
        sys.exit(
            f"As root, the demo gives its mailbox to another user, as on a server, and {closed[-1]} is closed to that "
            "user. Put this repository elsewhere, for example in /srv, or run the demo as another user."
        )
    for pid_file in PLACE.glob("qmail/qmail-send.pid"):
        Home.stop_pid(pid_file)  # one that an interrupted demo left behind
    shutil.rmtree(PLACE, ignore_errors=True)
    home = Home(PLACE / "qmail")
    configure(home)
    subprocess.run([home.path / "bin/qmailctl", "start"], check=True)
    try:
        return show(home)
    finally:
        home.stop()


def configure(home):
    """Write what a masterless minion needs: a configuration and a pillar."""
    pillar = {"qmail_doublebounce": {"address": Home.ADDRESS, "qmail": {"home": str(home.path)}}}
    minion.configure(MINION, id="demo")
    minion.write(MINION / "pillar/top.sls", {"base": {"*": ["qmail"]}})
    minion.write(MINION / "pillar/qmail.sls", pillar)


def show(home):
    before = home.snapshot()

    title("Before: where do double bounces go?")
    salt_call("qmail_control.show", f"home={home.path}")
    wait_for(home, "postmaster@mail.example.net")

    title("The pillar")
    print(f"qmail_doublebounce:\n  address: {Home.ADDRESS}\n  qmail:\n    home: {short(home.path)}")

    title("state.apply qmail-doublebounce test=True: what would change? Nothing is written")
    salt_call("state.apply", "qmail-doublebounce", "test=True")
    check(home.snapshot() == before, "test=True wrote nothing")

    title("state.apply qmail-doublebounce")
    applied = apply("qmail-doublebounce")
    check(
        all(state["changes"] for state in applied[2:6]), "after the settings were checked, each state changed something"
    )

    title("After: where do double bounces go, and what happens to them there?")
    salt_call("qmail_doublebounce.status")
    wait_for(home, Home.ADDRESS)

    title("state.apply qmail-doublebounce, once more")
    pid = home.pid()
    applied = apply("qmail-doublebounce")
    check(not any(state["changes"] for state in applied), "the second run changed nothing")
    check(home.pid() == pid, f"qmail-send {pid} was left alone")

    title("state.apply qmail-doublebounce.clean")
    apply("qmail-doublebounce.clean")
    wait_for(home, "postmaster@mail.example.net")
    after = home.snapshot()
    check(after == before, f"every byte, owner and mode of {len(before)} files and directories is as it was before")

    title("The end: what is the status now?")
    salt_call("qmail_doublebounce.status")

    title("And who made the double bounces? The log of a small flood names the domain, and what ends it")
    log = flood(home)
    salt_call("qmail_doublebounce.causes", f"log={log}", f"home={home.path}")
    found = json.loads(
        salt_call("qmail_doublebounce.causes", f"log={log}", f"home={home.path}", "--out=json", quiet=True)
    )
    (worst,) = found["local"]["domains"]
    check(
        (worst["domain"], worst["double_bounces"], worst["nobody"]) == (Home.DOMAIN, FLOOD, "bounces"),
        f"all {FLOOD} double bounces came from {Home.DOMAIN}, which accepts mail for nobody and bounces it",
    )

    title("All of this on one page, for a browser")
    salt_call("qmail_doublebounce.report", f"html={REPORT}", f"log={log}", f"home={home.path}")
    shown = f"<b>{FLOOD}</b>double bounces in the last 24 hours"
    check(shown in REPORT.read_text(), f"the page has the {FLOOD} double bounces: open {short(REPORT)}")
    return 0


def flood(home):
    """Write what qmail-send logs when messages for invented recipients bounce, and their bounces bounce."""
    path, lines = PLACE / "flood.log", []
    for number in range(10, 10 + 10 * FLOOD, 10):
        first, bounce, double = number, number + 1, number + 2
        lines += [
            f"info msg {first}: bytes 987 from <forged@elsewhere.example> qp {first} uid {home.uid}",
            f"starting delivery {first}: msg {first} to local 1-invented{number}@{Home.DOMAIN}",
            f"delivery {first}: failure: Sorry,_no_mailbox_here_by_that_name._(#5.1.1)/",
            f"bounce msg {first} qp {bounce}",
            f"end msg {first}",
            f"info msg {bounce}: bytes 1456 from <> qp {bounce} uid {home.uid}",
            f"starting delivery {bounce}: msg {bounce} to remote forged@elsewhere.example",
            f"delivery {bounce}: failure: Sorry,_I_couldn't_find_any_host_named_elsewhere.example._(#5.1.2)/",
            f"bounce msg {bounce} qp {double}",
            f"end msg {bounce}",
            f"info msg {double}: bytes 1999 from <#@[]> qp {double} uid {home.uid}",
        ]
    stamp = f"@{(1 << 62) + 10 + int(time.time()):016x}00000000"  # as multilog writes it
    path.write_text("".join(f"{stamp} {line}\n" for line in lines))
    return path


def apply(sls):
    """Apply an SLS, print what a user would see, and return the results of its states."""
    results = json.loads(salt_call("state.apply", sls, "--out=json", quiet=True))["local"]
    if not isinstance(results, dict):
        sys.exit("\n".join(results))
    print(displayed(results))
    check(all(state["result"] is True for state in results.values()), f"all {len(results)} states succeeded")
    return list(results.values())


def displayed(results):
    """Show results as salt-call shows them; asking Salt's own outputter spares a second run of the states."""
    import salt.config
    import salt.output

    opts = salt.config.minion_config(str(MINION / "etc/minion"))
    opts["color"] = sys.stdout.isatty()
    return short(salt.output.out_format({"local": results}, "highstate", opts))


def salt_call(*words, quiet=False):
    command = [SALT_CALL, "--local", f"--config-dir={MINION / 'etc'}", "--retcode-passthrough", *words]
    if not quiet:
        print(f"$ salt-call --local {short(' '.join(words))}", flush=True)
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"}
    )
    if done.returncode and not quiet:
        sys.exit(done.stdout or f"salt-call failed with exit {done.returncode}")
    if not quiet:
        print(short(done.stdout))
    return done.stdout


def wait_for(home, address):
    """Wait until the running qmail-send itself says that it sends double bounces to an address."""
    check(home.wait_until_loaded(address), f"the running qmail-send sends double bounces to {address}")


def title(text):
    print(f"\n=== {text}\n", flush=True)


def check(holds, promise):
    print(f"{'[ok]' if holds else '[FAILED]'} {promise}", flush=True)
    if not holds:
        sys.exit(1)


def short(text):
    return str(text).replace(f"{REPOSITORY}/", "")


sys.exit(main())
