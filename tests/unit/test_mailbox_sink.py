"""What may stand in the dot-qmail file of a sink."""

import pytest
from salt.exceptions import SaltInvocationError

from _modules import qmail_mailbox_sink


def test_a_tab_inside_a_line_is_no_control_character():
    assert qmail_mailbox_sink.contents("|exit\t0") == b"|exit\t0\n"
    assert qmail_mailbox_sink.contents(["|exit 0", "# a\tb ~", ""]) == b"|exit 0\n# a\tb ~\n\n"


@pytest.mark.parametrize("sign", [*map(chr, (*range(9), *range(10, 32), 127, 128, 133, 0x2028, 0x2029, 0xDC80))])
def test_any_other_control_character_is_refused(sign):
    for line in (f"|exit{sign}0", sign, f"{sign}|exit 0", f"|exit 0{sign}"):
        with pytest.raises(SaltInvocationError, match="control character"):
            qmail_mailbox_sink.contents(line)
        with pytest.raises(SaltInvocationError, match="control character"):
            qmail_mailbox_sink.contents(["#", line])


@pytest.mark.parametrize("blank", [" ", "\t"])
def test_a_line_that_begins_with_a_blank_is_refused(blank):
    for lines in (f"{blank}|exit 0", ["#", f"{blank}|exit 0"], ["#", blank]):
        with pytest.raises(SaltInvocationError, match="begins with a blank: qmail-local takes it for an address"):
            qmail_mailbox_sink.contents(lines)


@pytest.mark.parametrize("first", ["", " ", "\t", " \t "])
def test_a_blank_first_line_is_refused(first):
    for lines in (first, [first], [first, "|exit 0"]):
        with pytest.raises(SaltInvocationError, match="begins with a blank line"):
            qmail_mailbox_sink.contents(lines)


@pytest.mark.parametrize("instruction", [None, 5, [], (), {}, ["#", 5], [None], b"#"])
def test_what_is_neither_a_line_nor_lines_is_refused(instruction):
    with pytest.raises(SaltInvocationError, match="neither a line nor a list of lines"):
        qmail_mailbox_sink.contents(instruction)
