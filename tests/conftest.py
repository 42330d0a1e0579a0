"""What the tests share: the repository's modules in Salt's own loader, and a small qmail home on disk."""

import gc
import pathlib
import shutil
import subprocess
import sys
import tempfile

import hypothesis
import pytest
import salt._logging
import salt.loader
from saltfactories.plugins.event_listener import EventListener

from tests.support import inside, installed, matrix, minion, spared, workers
from tests.support.home import Home

# Salt keeps its early log lines for a handler that nobody sets up here, and would write them to a closed stream.
salt._logging.shutdown_temp_handler()

# How fast the machine is, and how much else it has to do, is not a matter for a test.
hypothesis.settings.register_profile(
    "tests",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("tests")
spared.spare()


def pytest_configure(config):
    """Leave nothing behind, unless a directory for it is named: pytest itself keeps the last three runs."""
    if installed.beside():
        raise pytest.UsageError(
            f"qmail-doublebounce is installed in {installed.beside()}, and the tests are for the tree: Salt finds"
            f" the modules of both. Remove it: {sys.executable} -m pip uninstall qmail-doublebounce"
        )
    config.pluginmanager.register(inside.plugin())
    config.option.loadscopereorder = False  # the order is that of workers.place
    if config.option.basetemp is None:
        config.option.basetemp = tempfile.mkdtemp(prefix="qmail-tests-")
        config.add_cleanup(lambda: shutil.rmtree(config.option.basetemp, ignore_errors=True))
    if sys.pycache_prefix and not hasattr(config, "workerinput"):
        # What was compiled of the modules that minions of the tests have got.
        compiled = pathlib.Path(sys.pycache_prefix, tempfile.gettempdir().lstrip("/"))
        config.add_cleanup(lambda: shutil.rmtree(compiled, ignore_errors=True))


@pytest.hookimpl(tryfirst=True)  # before markers are chosen from
def pytest_collection_modifyitems(items):
    for item in filter(matrix.depends_on_salt, items):
        item.add_marker("each_salt")
    items.sort(key=workers.place)


def pytest_collection_finish():
    gc.freeze()  # what is there by now stays until the end: nobody need look whether it can go


def pytest_terminal_summary(terminalreporter):
    """Show what each campaign has done, also if all went well: how much of it, and the seed that repeats it."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "campaign" and report.when == "call":
                    terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {value}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    return workers.number()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return workers.Dealer(config, log)


@pytest.fixture(scope="session")
def event_listener():
    """
    What salt-factories hears its masters by, in place of its own: each process of the tests has one.

    Its own listens on all addresses, at a port that is free on 127.0.0.1: if a connection of this machine holds that
    port on another address, each test of the process fails.
    """
    listener = EventListener()
    listener.host, listener.port = "127.0.0.1", 0
    with listener:
        listener.port = listener.server.sockets[0].getsockname()[1]
        listener.address = f"tcp://{listener.host}:{listener.port}"
        yield listener


@pytest.fixture(scope="session")
def minion_opts(tmp_path_factory):
    return minion.options(tmp_path_factory.mktemp("minion"), test=False)


@pytest.fixture(autouse=True)
def nothing_kept(request):
    """Each test begins with nothing kept, and nothing written."""
    yield
    if "minion_opts" in request.fixturenames:
        opts = request.getfixturevalue("minion_opts")
        shutil.rmtree(opts["qmail_file.kept_directory"], ignore_errors=True)


@pytest.fixture(autouse=True)
def no_plesk(monkeypatch):
    """The Plesk of this machine, if it has one, is not there: it would be asked for mailboxes, and make them."""
    which = shutil.which
    psa = ("plesk", "/usr/local/psa/bin/mail", "/opt/psa/bin/mail")

    def own(name, *arguments, **named):
        found = which(name, *arguments, **named)
        return None if name in psa and found and not found.startswith(tempfile.gettempdir()) else found

    monkeypatch.setattr(shutil, "which", own)


@pytest.fixture(scope="session")
def loaders(minion_opts):
    """
    Salt's loaders, with the whole house loaded.

    Salt has two loaders of execution modules: one for what is called, one for what ``__salt__`` has. The second one to
    need a module runs its file again in the module that is there already, and would take back what a test has changed
    in it.
    """
    loaders = minion.loaders(minion_opts)
    for loader in (loaders.modules, loaders.modules.pack["__salt__"]):
        for file in minion.REPOSITORY.glob("_modules/*.py"):
            getattr(loader, file.stem)
    return loaders


@pytest.fixture
def loaded_with(loaders):
    """
    Load the modules once more, with other options.

    By a name of their own: under the same one Salt would run each file again in the module that is there already, and
    take back what a test has changed in it.
    """

    def loaded_with(**opts):
        return salt.loader.minion_mods({**loaders.opts, **opts}, loaded_base_name="salt.apart")

    return loaded_with


@pytest.fixture
def modules(loaders):
    return loaders.modules


@pytest.fixture
def states(loaders):
    return loaders.states


@pytest.fixture
def home():
    """A qmail home that the user can reach to whom the mailbox belongs: pytest's own directories are closed to him."""
    with tempfile.TemporaryDirectory(prefix="qmail-") as directory:
        pathlib.Path(directory).chmod(0o755)
        home = Home(pathlib.Path(directory) / "qmail")
        yield home
        home.stop()


@pytest.fixture
def running(home):
    """The same home with a qmail-send that runs."""
    subprocess.run([home.path / "bin/qmailctl", "start"], check=True, timeout=60)
    assert home.wait_until_loaded("postmaster@mail.example.net")
    return home


def without_ends(results, test):
    """Leave out the two states that are the formula for others; the last one says what happened to the rest."""
    ends = ("double bounces are taken care of from here on", "double bounces are taken care of")
    begin, end = (next(result for result in results if result.name == name) for name in ends)
    rest = [result for result in results if result not in (begin, end)]
    has_failed = any(result.result is False for result in rest)
    assert begin.result is True
    assert end.result is (False if has_failed else None if test and end.changes else True)
    assert has_failed or bool(end.changes) == any(result.changes for result in rest)
    return rest


@pytest.fixture
def apply(loaders):
    """Apply one of the formula's SLS with a pillar, and return the results of its states in their order."""

    def apply(sls, pillar, test=False):
        returned = loaders.modules.state.apply(sls, pillar={"qmail_doublebounce": pillar}, test=test)
        assert not getattr(returned, "errors", None), returned.errors
        results = list(returned)
        if sls == "qmail-doublebounce":
            results = without_ends(results, test)
        settings = results.pop(0)
        assert settings.name == "the settings are right"
        assert settings.result is True, settings.comment
        return results

    return apply
