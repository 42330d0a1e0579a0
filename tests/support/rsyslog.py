"""
A real rsyslogd as Debian runs it, in a machine of the tests' own: journald has /dev/log, and hands on what comes there.
"""

import pathlib
import shutil
import subprocess

from tests.support import needs
from tests.support.servers import journald
from tests.support.supervisors import UNITS, wait_until

SBIN = "/usr/sbin:/sbin:/usr/bin:/bin"
# rsyslog's own templates; without one it writes the first.
FORMS = {
    "iso": None,
    "traditional": "RSYSLOG_TraditionalFileFormat",
    "rfc5424": "RSYSLOG_SyslogProtocol23Format",
}
# imklog is left out: it would read the log of a kernel that is not this machine's alone.
SETTINGS = """
module(load="imuxsock"{limit})
{template}
$FileOwner root
$FileGroup root
$FileCreateMode 0640
*.*;auth,authpriv.none -/var/log/syslog
mail.* -/var/log/mail.log
"""
UNIT = """
[Unit]
Requires=syslog.socket
[Service]
Type=notify
ExecStart={program} -n -iNONE -f {settings}
StandardOutput=null
"""
MAIL = pathlib.Path("/var/log/mail.log")
WRITTEN = (MAIL, pathlib.Path("/var/log/syslog"))
PLACE = pathlib.Path("/run/rsyslog-test")
PACKAGED = pathlib.Path("/etc/logrotate.d/rsyslog")
ROTATE = f"logrotate --force --state {PLACE}/state {PLACE}/logrotate.conf"


def missing():
    """Return what is not installed here, as a text."""
    found = {name: shutil.which(name, path=SBIN) for name in ("rsyslogd", "logrotate")}
    found[str(PACKAGED)] = PACKAGED.exists()
    return ", ".join(name for name, there in found.items() if not there)


class Rsyslog:
    """A running one. ``keeps``: whether the journal keeps the lines, too."""

    def __init__(self):
        PLACE.mkdir(exist_ok=True)
        self.configure_logrotate()
        (UNITS / "syslog.service").symlink_to("rsyslog.service")
        self.start()

    def start(self, form="iso", limit=None, keeps=False):
        """Start it once more, with other settings, and no log yet; ``limit``: lines that it takes of a process."""
        self.stop()
        for path in pathlib.Path("/var/log").glob("*log*"):
            if path.is_file():
                path.unlink()
        (PLACE / "state").unlink(missing_ok=True)
        journald(Storage="volatile" if keeps else "none", ForwardToSyslog="yes")
        template = f"$ActionFileDefaultTemplate {FORMS[form]}" if FORMS[form] else ""
        given = f' SysSock.RateLimit.Interval="3600" SysSock.RateLimit.Burst="{limit}"' if limit else ""
        settings = PLACE / "rsyslog.conf"
        settings.write_text(SETTINGS.format(template=template, limit=given))
        program = shutil.which("rsyslogd", path=SBIN)
        (UNITS / "rsyslog.service").write_text(UNIT.format(program=program, settings=settings))
        systemctl("daemon-reload")
        systemctl("start", "rsyslog.service")

    def stop(self):
        if (UNITS / "rsyslog.service").exists():
            systemctl("stop", "syslog.socket", "rsyslog.service")
            systemctl("reset-failed")

    def configure_logrotate(self, signal=True):
        """Have logrotate rotate as Debian does; without the signal, the moment before that comes lasts."""
        text = PACKAGED.read_text()
        if not signal:
            assert "/usr/lib/rsyslog/rsyslog-rotate" in text
            text = text.replace("/usr/lib/rsyslog/rsyslog-rotate", "true")
        (PLACE / "rsyslog").write_text(text)
        # As Debian has it for all logs.
        (PLACE / "logrotate.conf").write_text(f"weekly\nrotate 4\ncreate\ninclude {PLACE}/rsyslog\n")

    def rotate(self):
        subprocess.run(ROTATE.split(), check=True, timeout=60, env={"PATH": SBIN}, capture_output=True)

    def signal(self):
        systemctl("kill", "--signal=HUP", "rsyslog.service")

    def has(self, text, times=1, name=MAIL):
        """Wait until a file has this text so often, with the one before: rsyslog learns late that it was renamed."""
        files = name.with_name(f"{name.name}.1"), name

        def there():
            return sum(file.read_text().count(text) for file in files if file.exists()) >= times

        wait_until(there, why=f"no {text} in {name}")

    def close(self):
        self.stop()
        for name in ("rsyslog.service", "syslog.service"):
            (UNITS / name).unlink()
        systemctl("daemon-reload")
        journald()
        shutil.rmtree(PLACE)


def systemctl(*words):
    subprocess.run(["systemctl", *words], check=True, timeout=60, capture_output=True)


def running():
    """Start one, yield it, and end it; where something for it is not installed the test is skipped, in CI it fails."""
    why = missing()
    needs.skip_for(why and f"not installed: {why}")
    made = Rsyslog()
    yield made
    made.close()
