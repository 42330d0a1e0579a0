"""What these tests share: no log of the machine's, and the stand-in qmail-send under each supervisor."""

import os

import pytest

from tests.support import inside, mounts
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
    why = missing(request.param)
    if why and os.environ.get("CI"):
        pytest.fail(why)
    if why:
        pytest.skip(why)
    for name in ("starts", "delivered"):
        (home.path / name).touch()
    (home.path / "deliver").mkdir()
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
