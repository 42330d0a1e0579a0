"""A constant database is read by its own format, and a broken one is never believed."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError

from _modules import qmail_base_access, qmail_route_users
from tests.support import cdb


@pytest.fixture
def configure_loader_modules():
    return {qmail_route_users: {"__salt__": {"qmail_base_access.there": qmail_base_access.there}}}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("cdb") / "cdb"


def get(path, key):
    with qmail_route_users._opened(str(path)) as handle:
        return qmail_route_users._cdb_get(handle, str(path), key)


pairs = st.dictionaries(st.binary(max_size=12), st.binary(max_size=40), max_size=40)


@given(records=pairs, missing=st.binary(max_size=12))
def test_every_key_gives_what_was_put_in_and_no_other_gives_anything(path, records, missing):
    path.write_bytes(cdb.database(list(records.items())))
    for key, data in records.items():
        assert get(path, key) == data
    assert get(path, missing) == records.get(missing)


@given(records=pairs, cut=st.integers(0, 3000), key=st.binary(max_size=12))
def test_a_database_cut_short_is_either_right_or_an_error(path, records, cut, key):
    path.write_bytes(cdb.database(list(records.items()))[:cut])
    try:
        assert get(path, key) == records.get(key)
    except CommandExecutionError as err:
        assert "qmail-newu" in str(err)


def test_a_missing_database_is_named(path, tmp_path):
    with pytest.raises(CommandExecutionError, match="No such file"):
        get(tmp_path / "none", b"")


LONG = "abcdefghijklmnopqrstuvwxyz01234"  # as long as a name of a user may be for qmail-getpw


@pytest.fixture
def machine(tmp_path):
    """A directory that stands for /, with three users; the homes belong to them."""
    (tmp_path / "etc").mkdir()
    uid = os.geteuid() or 4242
    users = {"alias": "/alias", LONG: "/long", f"{LONG}5": "/longer"}
    lines = [f"{name}:x:{uid}:1:name:{home}:/bin/sh" for name, home in users.items()]
    (tmp_path / "etc/passwd").write_text("\n".join(lines) + "\n")
    for home in users.values():
        (tmp_path / home.strip("/")).mkdir()
        os.chown(tmp_path / home.strip("/"), uid, -1)
    (tmp_path / "users").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("local", "user", "ext"),
    [
        (LONG, LONG, ""),
        (f"{LONG}-list", LONG, "list"),
        (f"{LONG}5", "alias", f"{LONG}5"),
        (f"{LONG}5-list", "alias", f"{LONG}5-list"),
    ],
)
def test_a_user_whose_name_is_too_long_for_qmail_getpw_receives_nothing(machine, local, user, ext):
    found = qmail_route_users.find(local, home="/", root=str(machine))
    assert (found["user"], found["ext"]) == (user, ext)


def test_the_wildcard_for_all_needs_no_break_and_any_other_does(machine):
    def record(user):
        return f"{user}\0{1}\0{1}\0/h\0-\0".encode()

    records = [(b"", b"-"), (b"!", record("all")), (b"!a", record("a")), (b"!b-", record("b"))]
    (machine / "users/cdb").write_bytes(cdb.database(records))
    for local, user, ext in (("a", "all", "a"), ("ax", "all", "ax"), ("b-x", "b", "x"), ("", "all", "")):
        found = qmail_route_users.find(local, home="/", root=str(machine))
        assert (found["user"], found["ext"]) == (user, ext)
