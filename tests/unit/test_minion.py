"""The minion of the tests, the demo and the benchmarks is its own: no option of it names a place of this machine."""

import socket

import pytest

from tests.support import minion


def paths(value):
    """List the absolute paths in a value, however deep."""
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, (list, tuple)):
        return [path for one in value for path in paths(one)]
    return [value] if isinstance(value, str) and value.startswith(("/", "~")) else []


@pytest.mark.parametrize(
    "environment", [{}, {"SALT_MINION_CONFIG": "/etc/salt/minion"}, {"SALT_CONFIG_DIR": "/etc/salt"}]
)
def test_every_path_is_in_its_own_directory_or_in_the_repository(tmp_path, monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = paths(minion.options(tmp_path))
    assert str(tmp_path / "etc/minion") in found
    assert [path for path in found if not path.startswith((str(tmp_path), str(minion.REPOSITORY)))] == []


def test_masters_are_heard_on_this_machine_only(event_listener):
    """And on a port that nobody else can have: see the fixture."""
    with socket.create_connection(("127.0.0.1", event_listener.port), timeout=60) as connection:
        assert connection.getpeername() == event_listener.server.sockets[0].getsockname()
