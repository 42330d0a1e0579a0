"""Control files say what qmail reads in them, and are managed without leaving a trace."""

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError


@pytest.fixture
def control(modules, home):
    class Control:
        def __getattr__(self, name):
            return lambda *words, **named: modules[f"qmail_control.{name}"](*words, home=str(home.path), **named)

    return Control()


@pytest.mark.parametrize(
    ("contents", "value"),
    [
        ("sink\n", "sink"),
        ("sink", "sink"),
        ("sink \t\n", "sink"),
        (" sink\n", " sink"),
        ("sink\r\n", "sink\r"),
        ("# sink\n", "# sink"),
        ("sink\nother\n", "sink"),
        ("\nsink\n", ""),
        ("", ""),
        ("a b\n", "a b"),
    ],
)
def test_only_the_first_line_counts_and_only_its_end_is_stripped(control, home, contents, value):
    home.write_control("doublebounceto", contents)
    assert control.get("doublebounceto") == value


def test_a_missing_file_is_none_and_not_empty(control):
    assert control.get("doublebounceto") is None


def test_lists_skip_comments_and_empty_lines(control, home):
    home.write_control("locals", "a\n# b\n\n \t\nc \n d\n#\ne")
    assert control.lines("locals") == ["a", "c", " d", "e"]


def test_a_nul_byte_ends_an_entry_and_begins_the_next(control, home):
    (home.control / "locals").write_bytes(b"one.example\0two.example \0three.example\t\n\0hidden.example\n#no\0no\n")
    assert control.lines("locals") == ["one.example", "two.example ", "three.example"]
    (home.control / "locals").unlink()
    (home.control / "me").write_bytes(b"one.example\0two.example\nthree.example\n")
    assert control.lines("locals") == ["one.example", "two.example"]


def test_show_says_where_each_half_comes_from(control, home):
    shown = control.show()
    assert shown["recipient"] == "postmaster@mail.example.net"
    assert (shown["doublebounceto"]["source"], shown["doublebouncehost"]["source"]) == ("default", "me")
    (home.control / "me").unlink()
    assert control.show()["recipient"] == "postmaster@doublebouncehost"
    home.write_control("doublebounceto", "dummy@example.com\n")
    home.write_control("doublebouncehost", "\n")
    assert control.show()["recipient"] == "dummy@example.com@"


def test_put_writes_the_line_and_a_second_put_nothing(control, home):
    assert control.put("doublebounceto", "dummy") == {"value": {"old": None, "new": "dummy"}}
    assert (home.control / "doublebounceto").read_text() == "dummy\n"
    assert (home.control / "doublebounceto").stat().st_mode & 0o7777 == 0o644
    before = home.snapshot()
    assert control.put("doublebounceto", "dummy") == {}
    assert home.snapshot() == before


def test_any_other_value_is_written_whatever_comes_first_in_the_alphabet(control, home):
    for value in ("b", "c", "a"):
        assert control.put("doublebounceto", value)["value"]["new"] == value
        assert (home.control / "doublebounceto").read_text() == f"{value}\n"


@pytest.mark.parametrize("name", ["bouncefrom", "bouncehost", "doublebouncehost"])
def test_only_the_first_half_of_where_double_bounces_go_may_not_be_empty(control, home, name):
    home.write_control("locals", "localhost\n")
    with pytest.raises(CommandExecutionError, match="discards nothing here"):
        control.put("doublebounceto", "")
    assert control.put(name, "")["value"] == {"old": None, "new": ""}


@pytest.mark.parametrize("call", ["put", "restore"])
@pytest.mark.parametrize("wrong", [{"test": "maybe"}, {"home": None}, {"control": 5}], ids=str)
def test_a_wrong_argument_is_reported_before_anything_is_touched(modules, home, call, wrong):
    before = home.snapshot()
    words = ("doublebounceto", "sink") if call == "put" else ("doublebounceto",)
    with pytest.raises(SaltInvocationError, match=next(iter(wrong))):
        modules[f"qmail_control.{call}"](*words, **{"home": str(home.path), **wrong})
    assert home.snapshot() == before


@pytest.mark.parametrize("call", ["put", "restore"])
def test_all_that_is_wrong_with_the_arguments_is_told_at_once(modules, call):
    words = ("doublebounceto", "sink") if call == "put" else ("doublebounceto",)
    with pytest.raises(SaltInvocationError, match=r"home is .* control is .* test is "):
        modules[f"qmail_control.{call}"](*words, home="home", control=5, test="maybe")


def test_a_file_that_says_it_already_keeps_its_bytes(control, home):
    home.write_control("doublebounceto", "dummy \n# by hand\n")
    assert control.put("doublebounceto", "dummy") == {}
    assert (home.control / "doublebounceto").read_text() == "dummy \n# by hand\n"


def test_a_carriage_return_makes_another_value_and_is_put_right(control, home):
    home.write_control("doublebounceto", "dummy\r\n")
    assert control.put("doublebounceto", "dummy") == {"value": {"old": "dummy\r", "new": "dummy"}}


def test_test_mode_reports_the_same_and_writes_nothing(control, home):
    before = home.snapshot()
    told = control.put("doublebounceto", "dummy", test=True)
    assert home.snapshot() == before
    assert told == control.put("doublebounceto", "dummy")
    told = control.restore("doublebounceto", test=True)
    assert control.get("doublebounceto") == "dummy"
    assert told == control.restore("doublebounceto") == {"value": {"old": "dummy", "new": None}}
    assert home.snapshot() == before


@pytest.mark.parametrize(
    "value", ["a\nb", "a\0b", " a", "a ", "a\r", "a\x7fb", "\u00e4", "\u2028", None, 5, ["a"], True]
)
@pytest.mark.parametrize("name", ["doublebounceto", "doublebouncehost"])
def test_a_value_that_qmail_would_read_as_another_is_refused(control, home, name, value):
    before = home.snapshot()
    with pytest.raises(SaltInvocationError, match=name):
        control.put(name, value)
    assert home.snapshot() == before


def test_a_whole_address_is_refused_with_the_remedy(control):
    with pytest.raises(SaltInvocationError, match="what follows it into doublebouncehost"):
        control.put("doublebounceto", "dummy@example.com")


def test_no_other_control_file_is_ever_written(control, home):
    before = home.snapshot()
    for name in ("me", "locals", "rcpthosts", "../me", "", ".", None):
        with pytest.raises(SaltInvocationError):
            control.put(name, "dummy")
    assert home.snapshot() == before


def test_a_control_file_that_is_a_directory_is_named(control, home):
    (home.control / "doublebounceto").mkdir()
    with pytest.raises(CommandExecutionError, match="doublebounceto is a directory"):
        control.put("doublebounceto", "dummy")


def test_a_missing_control_directory_is_named(modules, tmp_path):
    with pytest.raises(CommandExecutionError, match="directory is missing"):
        modules.qmail_control.put("doublebounceto", "dummy", home=str(tmp_path / "none"))


def test_empty_is_refused_where_it_does_not_discard(control, home):
    home.write_control("doublebouncehost", "example.com\n")
    with pytest.raises(CommandExecutionError, match="no discard feature"):
        control.put("doublebounceto", "")
    assert control.get("doublebounceto") is None


def test_empty_discards_where_the_host_is_local(control, home):
    home.write_control("doublebouncehost", "LOCALHOST\n")
    assert control.discards() == "qmail-lspawn"
    control.put("doublebounceto", "")
    assert (home.control / "doublebounceto").read_text() == "\n"


def test_empty_discards_where_qmail_send_has_the_feature(control, home):
    home.write_control("doublebouncehost", "example.com\n")
    (home.path / "bin/qmail-send").write_bytes(b"\x7fELF...double bounce: discarding %s...")
    assert control.discards() == "qmail-send"
    control.put("doublebounceto", "")


def test_the_state_fails_without_a_word_to_its_watchers(states, home):
    returned = states.qmail_control.managed(name="doublebounceto", value="dummy@example.com", home=str(home.path))
    assert returned.full_return["skip_watch"] is True
    assert returned.result is False
    assert returned.changes == {}


def test_a_home_that_is_named_otherwise_at_the_end_is_put_back_all_the_same(modules, home, tmp_path):
    home.write_control("doublebounceto", "postmaster\n")
    before = home.snapshot()
    (tmp_path / "link").symlink_to(home.path)
    for name, value in (("doublebounceto", "dummy"), ("doublebouncehost", "example.com")):
        modules.qmail_control.put(name, value, home=str(tmp_path / "link"))
    for name in ("doublebounceto", "doublebouncehost"):
        assert modules.qmail_control.restore(name, home=str(home.path)) != {}
    assert home.snapshot() == before
    assert modules.qmail_control.restore("doublebounceto", home=str(home.path)) == {}


def test_a_home_that_is_named_otherwise_by_the_next_write_is_put_back_at_once(modules, home, tmp_path):
    home.write_control("doublebounceto", "postmaster\n")
    before = home.snapshot()
    (tmp_path / "link").symlink_to(home.path)
    modules.qmail_control.put("doublebounceto", "dummy", home=str(tmp_path / "link"))
    modules.qmail_control.put("doublebounceto", "other", home=str(home.path))
    assert modules.qmail_control.restore("doublebounceto", home=str(home.path)) != {}
    assert home.snapshot() == before


def test_a_file_of_the_same_name_elsewhere_is_not_put_back(control, modules, home, tmp_path):
    (tmp_path / "control").mkdir()
    modules.qmail_control.put("doublebounceto", "dummy", control=str(tmp_path / "control"))
    assert control.restore("doublebounceto") == {}
    assert (tmp_path / "control/doublebounceto").read_text() == "dummy\n"
