"""A constant database is read by its own format, and a broken one is never believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError

from _modules import qmail_users
from tests.support import cdb


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("cdb") / "cdb"


pairs = st.dictionaries(st.binary(max_size=12), st.binary(max_size=40), max_size=40)


@given(records=pairs, missing=st.binary(max_size=12))
def test_every_key_gives_what_was_put_in_and_no_other_gives_anything(path, records, missing):
    path.write_bytes(cdb.database(list(records.items())))
    for key, data in records.items():
        assert qmail_users.cdb_get(str(path), key) == data
    assert qmail_users.cdb_get(str(path), missing) == records.get(missing)


@given(records=pairs, cut=st.integers(0, 3000), key=st.binary(max_size=12))
def test_a_database_cut_short_is_either_right_or_an_error(path, records, cut, key):
    path.write_bytes(cdb.database(list(records.items()))[:cut])
    try:
        assert qmail_users.cdb_get(str(path), key) == records.get(key)
    except CommandExecutionError as err:
        assert "qmail-newu" in str(err)


def test_a_missing_database_is_named(path, tmp_path):
    with pytest.raises(CommandExecutionError, match="No such file"):
        qmail_users.cdb_get(str(tmp_path / "none"), b"")
