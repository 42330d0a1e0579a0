"""
Plesk's own command for mailboxes: if Plesk runs a domain, nobody else may make one.

The arguments and the output are those of ``plesk bin mail`` (``/usr/local/psa/bin/mail``, on Debian builds also
``/opt/psa/bin/mail``): ``--info ADDRESS`` and ``--create ADDRESS``, a line ``SUCCESS: …`` and exit 0 if it worked.
"""

import os
import re
import secrets
import shutil
import signal
import subprocess

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

COMMANDS = (("plesk", "bin", "mail"), ("/usr/local/psa/bin/mail",), ("/opt/psa/bin/mail",))
ELSEWHERE = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
LONGEST_WORDS = 1000  # characters of Plesk's output that an error repeats


def runs(domain, home="/var/qmail"):
    """
    Return whether Plesk runs a mail domain here: its directory among the mailnames, and Plesk's command, are there.

    The tree alone is also there under Plesk with Postfix, and after Plesk was removed.

    domain
        The domain, in lower case.

    home
        The qmail home directory; the tree is ``mailnames`` in it.

    For ``qmail_mailbox``, ``qmail_mailbox_sink`` and the state ``qmail_mailbox``.
    """
    place = os.path.join(home, "mailnames", domain)
    return __salt__["qmail_base_access.there"](place) and os.path.isdir(place) and _command() is not None


def info(address, timeout=120):
    """
    Return what Plesk says about a mailbox, as a dict of its words (``Mailname``, ``Domain``, ``Mailbox`` …); ``None``
    if it knows no such mailbox.

    Raises CommandExecutionError if Plesk's command fails in another way.

    address
        The whole address.

    timeout
        Seconds after which Plesk's command is stopped.

    For ``qmail_mailbox_write``.
    """
    status, said = _run(["--info", address], timeout)
    told = dict(re.findall(r"^([A-Za-z][\w ]*?):[ \t]+(\S.*?)[ \t]*$", said, re.MULTILINE))
    if status == 0 and "SUCCESS" in told and "Mailbox" in told:
        return told
    if status != 0 and _says_that_there_is_none(said):
        return None
    raise CommandExecutionError(_failed(f"describe {address}", status, said))


def create(address, timeout=120):
    """
    Make a mailbox with Plesk's own command, with a random password that is not kept.

    Raises CommandExecutionError with Plesk's own words if that fails.

    address
        The whole address.

    timeout
        Seconds after which Plesk's command is stopped.

    For ``qmail_mailbox_write``.
    """
    password = secrets.token_urlsafe(24) + "aA1!"  # with every kind of character that Plesk's rules may ask for
    status, said = _run(["--create", address, "-mailbox", "true", "-passwd", ""], timeout, password)
    said = said.replace(password, "…")
    if status != 0 or not re.search(r"^SUCCESS:", said, re.MULTILINE):
        raise CommandExecutionError(_failed(f"make the mailbox {address}", status, said))


def _command():
    """Return Plesk's command for mailboxes, as a list of words; ``None`` if it is missing."""
    for first, *rest in COMMANDS:
        found = shutil.which(first) or shutil.which(first, path=ELSEWHERE)
        if found:
            return [found, *rest]
    return None


def _run(words, timeout, password=None):
    """Run Plesk's command; the password goes into its environment, which no other user can read, and nowhere else."""
    command = _command()
    if command is None:
        raise CommandExecutionError("Plesk's command is missing: neither plesk nor /usr/local/psa/bin/mail is there.")
    environment = {**os.environ, "LC_ALL": "C", **({"PSA_PASSWORD": password} if password else {})}
    try:
        process = subprocess.Popen(
            [*command, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    except OSError as err:
        raise CommandExecutionError(f"Cannot run {command[0]}: {err.strerror}.") from err
    try:
        said, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as err:
        os.killpg(
            process.pid, signal.SIGKILL
        )  # with its helpers, which hold the pipe open; it leads their process group
        process.communicate()
        raise CommandExecutionError(
            f"Plesk's command {words[0]} {words[1]} did not end within {timeout} seconds. Check whether Plesk works, "
            "and run this again."
        ) from err
    return process.returncode, said.decode(errors="backslashreplace")


def _says_that_there_is_none(said):
    """Plesk's words differ from version to version; all that were seen contain one of these."""
    return re.search(r"does ?n[o']t exist|not exist|not found|unable to find|no such", said, re.IGNORECASE) is not None


def _failed(what, status, said):
    words = " ".join("".join(sign if sign.isprintable() else " " for sign in said).split())[:LONGEST_WORDS]
    return f"Plesk could not {what} (exit {status}): {words or 'it said nothing'}"
