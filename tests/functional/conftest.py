"""What these tests share: no log of the machine's, and the stand-in qmail-send under each supervisor."""

import json

import pytest
import salt.client
import salt.loader
import salt.utils.minions

from tests.support import answers, inside, mounts, needs
from tests.support.supervisors import ALL, booted, missing, params


@pytest.fixture(scope="session", autouse=True)
def no_log_of_the_machine():
    """Where a test names no log, none is found: the usual places are this machine's. Only root could read them."""
    if inside.is_here() or mounts.denied():
        yield
        return
    with mounts.covered("/var/log"):
        yield


@pytest.fixture(params=params(ALL))
def supervisor(request, home, tmp_path, monkeypatch):
    needs.skip_for(missing(request.param))
    home.account()
    made = ALL[request.param](home, tmp_path)
    if not inside.is_here():
        booted(monkeypatch, False)
    yield made
    made.close()


@pytest.fixture
def settings(supervisor):
    # Named, since one that is down could not be found in a place of the test's.
    return {"home": str(supervisor.home.path), "service": supervisor.name, "timeout": 60, "settle": 0.2}


@pytest.fixture
def direct(supervisor, settings):
    """The same for the execution module."""
    return {"name" if key == "service" else key: value for key, value in settings.items()}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a rollout over minions that stand in. ``opts`` are the master's, ``pillar`` its own, ``sent`` its events."""
    sent, pillar, opts = [], {}, answers.options(tmp_path)
    runners = salt.loader.runner(opts)
    runners["event.send"] = lambda tag, data: sent.append((tag, data))
    runners["pillar.show_pillar"] = lambda minion: pillar

    def run(minions, kind="rollout", target="*", **settings):
        monkeypatch.setattr(salt.client, "get_local_client", lambda mopts: minions)
        monkeypatch.setattr(salt.utils.minions, "CkMinions", lambda opts: minions)
        monkeypatch.setitem(runners, "jobs.list_job", minions.list_job)
        returned = runners[f"qmail_doublebounce.{kind}"](target, **settings)
        assert returned["outputter"] == "highstate"
        steps = {state["__id__"]: state for state in returned["data"][kind].values()}
        assert returned["retcode"] == int(any(step["result"] is False for step in steps.values()))
        json.dumps(returned)
        return steps

    run.sent, run.pillar, run.opts = sent, pillar, runners.opts
    return run
