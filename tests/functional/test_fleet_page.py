"""What docs/fleet.md says of pillar and of access is what Salt makes of the files that it shows."""

import os
import re
import subprocess

import pytest
import salt.pillar
import salt.utils.minions
import yaml

from tests.support import python
from tests.support.house import House
from tests.support.minion import REPOSITORY

PAGE = (REPOSITORY / "docs/fleet.md").read_text()
GRAINS = {
    "mx1.example.com": {"mail_role": "relay", "os_family": "Debian"},
    "mx2.example.com": {"os_family": "Debian"},
    "mx3.example.com": {"os_family": "Debian"},
    "mx4.example.com": {"os_family": "RedHat"},
}
WANTED = {
    "mx1.example.com": ("doublebounce@mx1-customers.example", "#", "service", "qmail"),
    "mx2.example.com": ("doublebounce@mx2.example.com", "|exit 0", "service", "qmail"),
    "mx3.example.com": ("doublebounce@mx3.example.com", "|exit 0", "daemontools", "auto"),
    "mx4.example.com": ("doublebounce@mx4.example.com", "|exit 0", "daemontools", "auto"),
}


def blocks(path):
    """Return the blocks of the page that begin with a path, without that line."""
    return re.findall(rf"^```yaml\n# {path}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def pillar(tmp_path, minion_opts):
    """Have Salt compile the pillar of the page, for a minion."""
    for path in set(re.findall(r"^# (/srv/pillar/\S+)$", PAGE, re.MULTILINE)):
        (text,) = blocks(re.escape(path))
        file = tmp_path / path.removeprefix("/srv/pillar/")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)

    def compiled(name, **more):
        grains = {**GRAINS[name], "id": name}
        opts = {**minion_opts, "id": name, "grains": grains, "pillar_roots": {"base": [str(tmp_path)]}, **more}
        found = salt.pillar.Pillar(opts, grains, name, "base").compile_pillar()
        assert "_errors" not in found
        return found

    return compiled


@pytest.mark.parametrize("name", GRAINS)
def test_each_server_gets_what_the_page_says(pillar, loaders, home, name):
    found = loaders.modules.qmail_doublebounce.settings(pillar(name), home=str(home.path))
    service = found["service"]
    assert (found["address"], found["instruction"], service["provider"], service["name"]) == WANTED[name]


def test_the_page_shows_all_that_settings_returns(pillar, loaders, home):
    found = loaders.modules.qmail_doublebounce.settings(pillar("mx1.example.com"), home=str(home.path))
    (shown,) = re.findall(r"^# salt mx1.example.com \S+\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    lines = [line.strip() for line in shown.splitlines()]
    for name, value in (*found.items(), *found["qmail"].items(), *found["service"].items()):
        said = "----------" if isinstance(value, dict) else str(value).replace(str(home.path), "/var/qmail")
        assert (f"{name}:", said) in list(zip(lines, lines[1:], strict=False)), name


def test_an_external_pillar_comes_over_the_files(pillar, tmp_path):
    (text,) = [text for text in blocks("/etc/salt/master") if "ext_pillar" in text]
    (entry,) = yaml.safe_load(text)["ext_pillar"]
    (said,) = re.findall(r"^\$ \S+/sink-of mx2.example.com\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    program = tmp_path / "sink-of"
    program.write_text(f"#!{python.PATH}\nimport sys\nif sys.argv[1] == 'mx2.example.com':\n    print({said!r})\n")
    program.chmod(0o755)
    entry = {"cmd_yaml": entry["cmd_yaml"].replace("/usr/local/bin/sink-of", str(program))}
    found = pillar("mx2.example.com", ext_pillar=[entry])["qmail_doublebounce"]
    assert found["address"] == "doublebounce@mx2-customers.example"
    assert found["service"] == {"provider": "service", "name": "qmail"}


def test_a_mail_team_can_roll_out_and_do_nothing_else(minion_opts):
    (text,) = [text for text in blocks("/etc/salt/master") if "external_auth" in text]
    (rules,) = yaml.safe_load(text)["external_auth"]["pam"].values()
    matcher = salt.utils.minions.CkMinions(minion_opts)
    runners = [
        f"{module.name}.{name}" for module in House().modules if module.kind == "runner" for name in module.functions
    ]
    asked = [*runners, "state.orchestrate", "salt.cmd", "pillar.show_pillar", "qmail_doublebounce.rollout_all"]
    allowed = [name for name in asked if matcher.runner_check(rules, name, {}) is True]
    assert allowed == ["qmail_doublebounce.rollout", "qmail_doublebounce.rollback"]
    assert not matcher.wheel_check(rules, "key.accept", {})
    assert not matcher.auth_check(rules, "cmd.run", [], "*")


@pytest.mark.parametrize("bad", [None, "mx12"])
def test_the_loop_over_salt_ssh_goes_by_waves_and_ends_at_the_first_failure(tmp_path, bad):
    names = [f"mx{number:02}" for number in range(1, 24)]
    (tmp_path / "roster").write_text("# all\n" + "".join(f"{name}:\n  host: {name}\n" for name in reversed(names)))
    (tmp_path / "salt-ssh").write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\ncase "$*" in *{bad}*) exit 11;; esac\n'
    )
    (tmp_path / "salt-ssh").chmod(0o755)
    (loop,) = re.findall(r"^```bash\n(set -e .*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    path = f"{tmp_path}:{os.environ['PATH']}"
    loop = loop.replace("/etc/salt/roster", str(tmp_path / "roster"))
    done = subprocess.run(["bash", "-c", loop], env={**os.environ, "PATH": path}, check=False)
    dry, *asked = (tmp_path / "asked").read_text().splitlines()
    assert dry == "* state.apply qmail-doublebounce test=True"
    waves = [names[:1], names[1:11], names[11:21], names[21:]][: 3 if bad else 4]
    assert asked == [f"-L {','.join(wave)} state.apply qmail-doublebounce" for wave in waves]
    assert done.returncode == (11 if bad else 0)
