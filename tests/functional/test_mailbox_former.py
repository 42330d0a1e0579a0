"""The sinks of earlier pillars are known by their files, and are given back only when nothing is sent to them."""

import os

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

ADDRESS = "dummy@example.com"
OTHER = "other@example.com"


@pytest.fixture
def former(modules, home):
    """The module, with two sinks: that of dummy, and that of other."""
    home.add_mailbox("other", "./Maildir/\n")
    for address in (ADDRESS, OTHER):
        modules.qmail_mailbox.write(address, home=str(home.path))
    return modules.qmail_mailbox_former


def path(home, name):
    return str(home.mailbox(name) / ".qmail")


def told(sinks):
    return [sink["path"] for sink in sinks]


def test_sinks_are_listed_by_their_paths_with_what_they_were_made_for(former, modules, home):
    modules.qmail_control.put("doublebounceto", "dummy", home=str(home.path))  # is written, and is no sink
    made = {"home": os.path.realpath(home.path)}
    both = [{"path": path(home, name), "address": f"{name}@example.com", **made} for name in ("dummy", "other")]
    assert former.sinks() == both
    assert former.sinks("DUMMY@example.COM") == both[:1]
    assert former.sinks("nobody@example.com") == []


def test_sinks_of_another_qmail_are_not_listed_and_those_of_an_unknown_one_are(former, modules, home, tmp_path):
    (tmp_path / "link").symlink_to(home.path)
    (tmp_path / "file").write_text("#\n")
    both = [path(home, "dummy"), path(home, "other")]
    assert told(former.sinks(home=str(tmp_path / "link"))) == both
    assert told(former.sinks(home=str(tmp_path))) == []
    modules.qmail_file.replace(str(tmp_path / "file"), "|exit 0\n", note="old@example.com")
    assert told(former.sinks(home=str(tmp_path))) == [str(tmp_path / "file")]
    assert told(former.sinks(home=str(home.path))) == sorted([*both, str(tmp_path / "file")])


def test_one_that_was_given_back_is_listed_only_where_all_that_ever_were_are_asked_for(former, home):
    assert former.restore([path(home, "dummy")], test=True) == former.restore([path(home, "dummy")])
    assert former.restore([path(home, "dummy")]) == {}
    assert (home.mailbox("dummy") / ".qmail").read_text() == "./Maildir/\n"
    assert told(former.sinks()) == [path(home, "other")]
    assert told(former.sinks(ever=True)) == [path(home, "dummy"), path(home, "other")]
    assert told(former.sinks(ADDRESS, ever=True)) == [path(home, "dummy")]


def test_what_is_put_back_is_shown_by_lines_and_what_others_have_changed_is_left(former, home):
    (home.mailbox("other") / ".qmail").write_text("./Elsewhere/\n")
    done = former.restore([path(home, name) for name in ("dummy", "other")])
    assert done[path(home, "dummy")] == {"instruction": {"old": ["|exit 0"], "new": ["./Maildir/"]}}
    assert "changed by hand" in done[path(home, "other")]["left"]
    first = former.restore([path(home, "dummy")], version="v1")
    assert first == {}


def test_the_sink_that_is_wanted_is_not_one_of_the_others(former, home):
    given = {"home": str(home.path)}
    assert told(former.others(ADDRESS, **given)) == [path(home, "other")]
    assert told(former.others(OTHER.upper(), **given)) == [path(home, "dummy")]
    assert told(former.others(None, **given)) == [path(home, "dummy"), path(home, "other")]
    assert told(former.others("nobody@elsewhere.example", **given)) == [path(home, "dummy"), path(home, "other")]


def test_one_of_an_unknown_qmail_counts_where_its_address_still_leads_there(former, modules, home):
    directory = home.add_mailbox("third", "./Maildir/\n")
    file = str(directory / ".qmail")
    modules.qmail_file.replace(file, "|exit 0\n", mode=None, note="third@example.com")
    assert file in told(former.others(ADDRESS, home=str(home.path)))
    modules.qmail_file.replace(path(home, "dummy") + "-x", "|exit 0\n", note="third@example.com")
    modules.qmail_file.replace(path(home, "third") + "-x", "|exit 0\n", note="third@example.com")
    assert told(former.others(ADDRESS, home=str(home.path))) == [path(home, "other"), file]


def test_a_former_sink_is_a_problem_as_long_as_it_holds_our_words(former, home):
    given = {"home": str(home.path)}
    assert former.problems(ADDRESS, **given) == [
        f"{OTHER} is still a sink, by {path(home, 'other')}, but pillar does not ask for it: whoever gets that "
        "address loses all mail."
    ]
    assert len(former.problems(None, **given)) == 2
    assert former.problems("dummy@elsewhere.example", **given) == []  # it is not known which is the wanted one
    (home.mailbox("other") / ".qmail").write_text("./Maildir/\n")
    assert former.problems(ADDRESS, **given) == []
    (home.mailbox("other") / ".qmail").unlink()
    assert former.problems(ADDRESS, **given) == []


def test_unknown_former_sinks_are_a_problem_too_and_hide_no_other(former, home):
    given = {"home": str(home.path)}
    (home.mailbox("dummy") / ".qmail").unlink()
    (home.mailbox("dummy") / ".qmail").mkdir()
    unknown, known = former.problems(None, **given)
    assert unknown.startswith(f"Cannot tell whether {ADDRESS} is still a sink: ")
    assert known.startswith(f"{OTHER} is still a sink")
    (problem,) = former.problems("a\0b", **given)
    assert problem.startswith("Cannot tell which mailboxes are still sinks: ")


def closed_by_its_owner(home):
    """The first of both mailboxes is now a link that its owner has put there."""
    (home.mailbox("dummy")).rename(home.path / "aside")
    (home.mailbox("dummy")).symlink_to(home.path / "aside")
    (home.mailbox("dummy").parent).chmod(0o777)


def test_one_that_cannot_be_put_back_holds_up_none_of_the_others(former, modules, home):
    closed_by_its_owner(home)
    dry = former.restore([path(home, name) for name in ("dummy", "other")], test=True)
    done = former.restore([path(home, name) for name in ("dummy", "other")])
    assert dry == done
    assert "symbolic link dummy" in done[path(home, "dummy")]["failed"]
    assert done[path(home, "other")] == {"instruction": {"old": ["|exit 0"], "new": ["./Maildir/"]}}
    assert (home.mailbox("other") / ".qmail").read_text() == "./Maildir/\n"


def test_what_was_put_back_is_named_where_others_could_not_be(former, modules, home):
    closed_by_its_owner(home)
    with pytest.raises(CommandExecutionError, match=f"symbolic link dummy.* Put back: {path(home, 'other')}\\.$"):
        modules.qmail_mailbox.restore()
    with pytest.raises(CommandExecutionError, match=r"Links are not followed there: .*path\.$"):
        modules.qmail_mailbox.restore()


@pytest.mark.parametrize("state", ["restored", "given_back"])
def test_the_state_fails_and_shows_what_it_has_put_back(former, states, home, running, state):
    closed_by_its_owner(home)
    told = {"home": str(home.path)}
    run = getattr(states.qmail_mailbox, state)
    dry = run(name="sinks", **told, test=True)
    result = run(name="sinks", **told)
    assert dry.result is result.result is False
    assert list(result.changes) == list(dry.changes) == [path(home, "other")]
    assert "as it was before." in result.comment
    assert "symbolic link dummy" in result.comment
    assert (home.mailbox("other") / ".qmail").read_text() == "./Maildir/\n"


NOT_READ = "qmail-send has not read the control files as they are now"
CANNOT_TELL = "this system does not show whether qmail-send has read the control files"


@pytest.mark.parametrize(
    ("running", "loaded", "down", "why", "why_after_a_run"),
    [
        (True, True, None, None, None),
        (True, False, None, NOT_READ, None),
        (None, None, None, CANNOT_TELL, CANNOT_TELL),
        (False, False, None, "qmail-send does not run", None),
        (False, False, "a file down", "qmail-send does not run (a file down)", "qmail-send does not run (a file down)"),
    ],
)
def test_nothing_is_given_back_while_mail_may_still_be_sent_there(
    former, modules, monkeypatch, running, loaded, down, why, why_after_a_run
):
    fakes = {
        "qmail_service.status": lambda *_: {"running": running, "loaded": loaded},
        "qmail_service.left_down": lambda *_: down,
    }
    monkeypatch.setitem(modules["qmail_mailbox_former.unready"].func.__globals__, "__salt__", fakes)
    assert former.unready() == why
    assert former.unready(test=True) == why_after_a_run


def reassigned(home, directory):
    """Have users/assign name the mailbox of dummy by another spelling of its home."""
    home.assign.pop()
    home.add_assign(f"=1-dummy:popuser:{home.uid}:{home.gid}:{directory}:::")


def test_a_sink_that_users_assign_names_otherwise_now_is_still_the_wanted_one(modules, home):
    directory = home.mailbox()
    (home.path / "link").symlink_to(directory.parent)
    reassigned(home, home.path / "link/dummy")
    modules.qmail_mailbox.write(ADDRESS, home=str(home.path))
    reassigned(home, directory)
    assert modules.qmail_mailbox.write(ADDRESS, home=str(home.path)) == {}
    assert modules.qmail_mailbox_former.others(ADDRESS, str(home.path)) == []
    assert told(modules.qmail_mailbox_former.others(OTHER, str(home.path))) == [str(home.path / "link/dummy/.qmail")]


@pytest.mark.parametrize("spelled", ["/{}", "{}/", "{}/.", "{}//", "/.{}"])
def test_an_odd_spelling_of_a_home_makes_no_other_sink_of_it(modules, home, spelled):
    reassigned(home, spelled.format(home.mailbox()))
    assert modules.qmail_mailbox.check(ADDRESS, str(home.path))["exact"] == path(home, "dummy")
    modules.qmail_mailbox.write(ADDRESS, home=str(home.path))
    assert modules.qmail_mailbox_former.others(ADDRESS, str(home.path)) == []
    assert told(modules.qmail_mailbox_former.sinks()) == [path(home, "dummy")]


def test_a_version_that_one_of_them_lacks_changes_none(former, modules, home):
    """The first of them has it."""
    modules.qmail_mailbox.restore(ADDRESS)
    (home.mailbox() / ".qmail").write_text("#\n")
    modules.qmail_mailbox.write(ADDRESS, home=str(home.path))
    before = home.snapshot()
    with pytest.raises(SaltInvocationError, match=r"There is no kept version 'v2' of .*/other/"):
        modules.qmail_mailbox.restore(version="v2")
    assert home.snapshot() == before
