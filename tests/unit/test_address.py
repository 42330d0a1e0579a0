"""An address is split where it means the same to every program, and refused with the reason where it does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from salt.exceptions import SaltInvocationError

from _modules import qmail_mailbox_sink


@pytest.mark.parametrize(
    "address",
    ["doublebounce@example.com", "Double.Bounce+x@Example.COM", "#@localhost", "a-b_c=d@xn--bcher-kva.example"],
)
def test_a_plain_address_is_split_as_it_is_written(address):
    halves = qmail_mailbox_sink.split(address)
    assert f"{halves['local']}@{halves['host']}" == address


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("doublebounce", "holds no @"),
        ("a@b@example.com", "holds 2 @"),
        ("@example.com", "there is nothing before"),
        ("doublebounce@", "there is nothing after"),
        ("../x@example.com", "before the @, only up to 64 letters"),
        ("a b@example.com", "before the @, only up to 64 letters"),
        ("d\u00fcmmy@example.com", "before the @, only up to 64 letters"),
        ("dummy\n@example.com", "before the @, only up to 64 letters"),
        ("dummy@example.com\n", "is not a host name"),
        ("dummy@ex\u00e4mple.com", "is not a host name"),
        ("dummy@-example.com", "is not a host name"),
        ("dummy@example..com", "is not a host name"),
        ("dummy@example.com/x", "is not a host name"),
        ("dummy@" + "a" * 64 + ".com", "is not a host name"),
        (None, "not text"),
        (5, "not text"),
    ],
)
def test_a_wrong_one_is_refused_with_the_reason(address, reason):
    with pytest.raises(SaltInvocationError, match=reason):
        qmail_mailbox_sink.split(address)


@given(st.text(max_size=40) | st.from_regex(r"[a-z./@%\n]{1,12}@[a-z./\n-]{1,12}", fullmatch=True))
def test_what_passes_holds_nothing_that_any_program_would_take_for_something_else(address):
    try:
        halves = qmail_mailbox_sink.split(address)
    except SaltInvocationError:
        return
    assert halves["local"] + "@" + halves["host"] == address
    assert address.isascii()
    assert not set(address) & set(" \t\r\n\0/%|\"'`\\<>()[]:;,")
