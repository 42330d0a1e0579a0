"""
The systemd unit of qmail-send.
"""

import glob
import os
import re
import time

from salt.exceptions import CommandExecutionError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

BOOTED = "/run/systemd/system"  # exists exactly if systemd is process 1: sd_booted(3)
UNITS = ("qmail-send", "notqmail", "qmail")
# qmail-send exits with 0 when it is told to end. So Restart=on-failure and the like do not bring it back.
RETURNS = ("always", "on-success")
OFF = ("disabled", "masked", "masked-runtime")
# Nov 24 02:11:15 host qmail-start[1234]: status: local 0/10 remote 0/20
HEAD = re.compile(r"\w+ +\d+ [\d:]+ \S+ (?P<by>.+?): (?P<line>.*)")
SYSTEMD = "systemd[1]"
RECENT = 25  # lines: for a unit that fails at each start, systemd itself writes five each time
OWN = "/etc/systemd/system"
SCRIPTS = "/etc/init.d"
ANSWER = 10  # seconds: systemctl answers at once, but where systemd itself hangs
YOUNG = 3  # seconds: a qmail-send that comes up at all has come up by then
PROPERTIES = (
    *("LoadState", "ActiveState", "UnitFileState", "CanStart", "MainPID", "Restart"),
    *("FragmentPath", "SourcePath"),
)


def booted():
    """
    Return whether systemd runs this system; it may be installed without that.

    For ``qmail_service_supervisor`` and ``qmail_service_unit``.
    """
    return os.path.isdir(BOOTED)


def units():
    """
    List the usual names of qmail-send's unit.

    For ``qmail_service_supervisor`` and ``qmail_service_unit``.
    """
    return list(UNITS)


def holds(name, pid):
    """
    Return whether a process belongs to a unit.

    name
        The unit.

    pid
        The process id.

    For ``qmail_service_supervisor``.
    """
    return __salt__["qmail_base_process.unit"](pid) == full(name)


def status(name):
    """
    Return the state of a unit: a dict with

    - ``pid``: that of its main process; ``None`` if it has none;
    - ``returns``: whether systemd starts it again by itself when qmail-send has ended;
    - ``alone``: ``False``, stopping it also ends what qmail-send has in flight, unless the unit says otherwise;
    - ``down``: why it is down, or being taken down, on purpose; ``None`` if it is not;
    - ``barred``: why nobody could start it again when it has ended; ``None`` if it can be;
    - ``file``: the path of the unit, or of the init script that it was made of;
    - ``script``: whether it is such a one; somebody may have started qmail-send by that itself.

    Raises CommandExecutionError if there is no such unit, or no systemctl.

    name
        The unit, with or without ``.service``.

    For ``qmail_service_supervisor`` and ``qmail_service_unit``.
    """
    unit = _shown(name)
    if unit.get("LoadState") not in ("loaded", "masked"):
        raise CommandExecutionError(f"systemd has no unit {full(name)} ({unit.get('LoadState')}).")
    down = _down(full(name), unit)
    returns = unit.get("Restart") in RETURNS and down is None
    return {
        "pid": int(unit.get("MainPID") or 0) or None,
        "returns": returns,
        "alone": False,
        "down": down,
        "barred": None if returns else _barred(full(name), unit),
        "file": unit.get("SourcePath") or unit.get("FragmentPath") or None,
        "script": bool(unit.get("SourcePath")),
    }


def up(name, timeout=10):
    """
    Start a unit in which qmail-send does not run, whatever state its last run left it in; return whether systemctl was
    called.

    If systemd itself has just started it, it is left to come up: to start it again would end it, with the deliveries
    that it may have begun.

    Raises CommandExecutionError if systemctl reports a failure.

    name
        The unit.

    timeout
        Seconds to wait for systemctl. After that it is left to finish by itself.

    For ``qmail_service_supervisor``.
    """
    unit = _shown(name)
    active = unit.get("ActiveState") in ("active", "reloading")
    if active and _is_young(int(unit.get("MainPID") or 0)):
        return False
    # A unit that failed too often is not started for a while, unless its failures are reset.
    __salt__["qmail_service_tool.run"](["systemctl", "reset-failed", full(name)])
    # systemd may consider a unit active whose qmail-send has ended (RemainAfterExit, forking, a script that goes on).
    __salt__["qmail_service_tool.must"](["systemctl", "restart" if active else "start", full(name)], timeout)
    return True


def down(name, timeout=10):
    """
    Stop a unit; it stays down until the next boot.

    With ``KillMode=control-group``, systemd's default, this cuts deliveries, and they are made again later.

    Raises CommandExecutionError if systemctl reports a failure.

    name, timeout
        As for ``up``.

    For ``qmail_service_supervisor``.
    """
    __salt__["qmail_service_tool.must"](["systemctl", "stop", full(name)], timeout)


def log(name, lines=3):
    """
    Return the last lines in the journal of a unit since it was last started; empty if it has none.

    They are those of its own processes. If these are silent, they are what systemd says about it.

    name
        The unit.

    lines
        How many.

    For ``qmail_service_supervisor``.
    """
    options = ["--lines", str(RECENT), "--reverse", "--output", "short", "--no-pager", "--quiet"]
    try:
        said = __salt__["qmail_service_tool.must"](["journalctl", "--unit", full(name), *options])
    except CommandExecutionError:
        return []  # asked for only to explain another failure, which must not be lost because of this
    told = _of_the_last_run([found for found in map(HEAD.match, said.splitlines()) if found])
    own = [found for found in told if found["by"] != SYSTEMD]
    return [found["line"] for found in (own or told)[:lines]][::-1]


def full(name):
    """
    Return the whole name of a unit, with ``.service``; that of an instance may have dots: ``qmail@mx.example.com``.

    name
        The unit.

    For ``qmail_service_unit``.
    """
    return name if name.endswith(".service") else f"{name}.service"


def _of_the_last_run(told):
    """
    Return the lines, the newest first, as far back as the last start.

    systemd logs a start a moment after the started program may have written: the end before it counts.
    """
    lines, begun = [], False
    for found in told:
        starts = found["line"].startswith(("Starting ", "Started "))
        if found["by"] == SYSTEMD and not starts:
            if begun and lines:
                break
            begun = False
        else:
            begun = True
        if found["by"] != SYSTEMD or not starts:
            lines.append(found)
    return lines


def _shown(name):
    asked = [f"--property={wanted}" for wanted in PROPERTIES]
    command = ["systemctl", "show", *asked, full(name)]
    done = __salt__["qmail_service_tool.run"](command, ANSWER)
    if done["exit"] is None:
        raise CommandExecutionError(f"systemctl did not answer within {ANSWER} s.")
    if done["exit"]:
        raise CommandExecutionError(f"{' '.join(command)} failed with exit {done['exit']}: {done['output']}")
    return dict(line.split("=", 1) for line in done["output"].splitlines() if "=" in line)


def _is_young(pid):
    since = __salt__["qmail_base_process.since"](pid) if pid else None
    return since is not None and time.time() - since < YOUNG


def _barred(name, unit):
    cannot = f"systemd could not start {name} again"
    if unit.get("UnitFileState") == "transient" and not os.path.exists(os.path.join(OWN, name)):
        path = unit.get("FragmentPath")
        return f"{cannot}: it was made by systemd-run, and is gone when it ends. Fix it: cp {path} {OWN}/"
    if unit.get("CanStart") != "no":
        return None
    if unit.get("LoadState") == "masked":
        return f"{cannot}, because it is masked. Fix it: systemctl unmask {name}"
    return f"{cannot}, because of RefuseManualStart. Fix it: systemctl edit --full {name}"


def _down(name, unit):
    if unit.get("ActiveState") == "deactivating":
        return f"systemd is stopping {name}"
    if unit.get("ActiveState") not in ("inactive", "failed"):
        return None
    if unit.get("UnitFileState") in OFF:
        return f"the unit {name} is {unit['UnitFileState']}"
    script = unit.get("SourcePath") or ""
    if os.path.dirname(script) == SCRIPTS and not _is_linked(os.path.basename(script)):
        return f"the init script {script} is disabled"
    return None


def _is_linked(script):
    """Return whether an init script is started at boot; its unit says ``generated`` in both cases."""
    return bool(glob.glob(f"/etc/rc[2-5].d/S[0-9][0-9]{glob.escape(script)}"))
