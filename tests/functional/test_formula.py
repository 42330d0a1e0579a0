"""The formula from end to end on a qmail home, with a qmail-send that runs: apply, again, drift, clean, clean again."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

from tests.support.home import Home

ADDRESS = "dummy@example.com"
BEGIN = "double bounces are taken care of from here on"


@pytest.fixture
def pillar(running):
    return {"address": ADDRESS, "qmail": {"home": str(running.path)}}


def changed(results):
    return [result.name for result in results if result.changes]


def succeeded(results):
    return all(result.result is True for result in results)


def test_double_bounces_go_to_the_sink_and_a_second_run_changes_nothing(apply, running, pillar):
    first = apply("qmail-doublebounce", pillar)
    assert succeeded(first)
    assert changed(first) == [ADDRESS, "doublebounceto", "doublebouncehost", "qmail-send"]
    assert (running.mailbox() / ".qmail").read_text() == "|exit 0\n"
    assert (running.control / "doublebounceto").read_text() == "dummy\n"
    assert (running.control / "doublebouncehost").read_text() == "example.com\n"
    assert running.wait_until_loaded(ADDRESS)
    pid, before = running.pid(), running.snapshot()
    second = apply("qmail-doublebounce", pillar)
    assert succeeded(second)
    assert changed(second) == []
    assert running.pid() == pid
    assert running.snapshot() == before


def test_a_run_that_changes_nothing_writes_nothing(apply, running, pillar, minion_opts):
    """Not even a temporary file: that would show in the times of the directories."""

    def times():
        roots = (running.path, pathlib.Path(minion_opts["qmail_file.kept_directory"]))
        return {path: path.lstat().st_ctime_ns for root in roots for path in (root, *root.rglob("*"))}

    apply("qmail-doublebounce", pillar)
    before = times()
    apply("qmail-doublebounce", pillar)
    assert times() == before


def test_test_mode_shows_the_changes_and_writes_nothing(apply, running, pillar):
    pid, before = running.pid(), running.snapshot()
    dry = apply("qmail-doublebounce", pillar, test=True)
    assert [result.result for result in dry] == [None] * 4 + [True]
    assert running.snapshot() == before
    assert running.pid() == pid
    wet = apply("qmail-doublebounce", pillar)
    for told, done in zip(dry[:3], wet[:3], strict=True):
        assert told.changes == done.changes
    assert dry[3].changes["pid"]["old"] == wet[3].changes["pid"]["old"] == pid
    assert [result.result for result in apply("qmail-doublebounce", pillar, test=True)] == [True] * 5
    undo = apply("qmail-doublebounce.clean", pillar, test=True)
    assert [result.result for result in undo] == [None] * 4
    assert running.loaded() == ADDRESS


def test_clean_puts_every_byte_owner_and_mode_back_and_again_changes_nothing(apply, running, pillar):
    running.write_control("doublebounceto", "admin \r\n# by hand\n")
    (running.control / "doublebounceto").chmod(0o664)
    before = running.snapshot()
    apply("qmail-doublebounce", pillar)
    first = apply("qmail-doublebounce.clean", pillar)
    assert succeeded(first)
    assert len(changed(first)) == 4
    assert running.snapshot() == before
    assert running.wait_until_loaded("admin \r@mail.example.net")
    pid = running.pid()
    second = apply("qmail-doublebounce.clean", pillar)
    assert succeeded(second)
    assert changed(second) == []
    assert running.pid() == pid
    assert running.snapshot() == before


def test_clean_undoes_nothing_that_it_did_not_do(apply, running, pillar):
    before = running.snapshot()
    assert changed(apply("qmail-doublebounce.clean", pillar)) == []
    assert running.snapshot() == before
    apply("qmail-doublebounce", pillar)
    running.write_control("doublebounceto", "somebody\n")
    undone = apply("qmail-doublebounce.clean", pillar)
    assert (
        undone[0].comment == f"{running.control}/doublebounceto has been changed by hand since, and is left as it is."
    )
    assert (running.control / "doublebounceto").read_text() == "somebody\n"
    assert not (running.control / "doublebouncehost").exists()


def test_what_clean_has_left_to_others_once_it_leaves_forever(apply, running, pillar):
    apply("qmail-doublebounce", pillar)
    for text in ("by hand\n", "dummy\n"):  # the second as this formula would write it
        running.write_control("doublebounceto", text)
        apply("qmail-doublebounce.clean", pillar)
        assert (running.control / "doublebounceto").read_text() == text


@pytest.mark.parametrize("loaded", (False, True))
def test_drift_is_put_right_with_a_restart_only_where_qmail_send_has_read_it(apply, running, pillar, loaded):
    apply("qmail-doublebounce", pillar)
    (running.mailbox() / ".qmail").write_text("./Maildir/\n")
    running.write_control("doublebounceto", "dummy@example.com\n")
    if loaded:
        subprocess.run([running.path / "bin/qmailctl", "restart"], check=True, timeout=60)
        assert running.wait_until_loaded("dummy@example.com@example.com")
    pid = running.pid()
    results = apply("qmail-doublebounce", pillar)
    assert succeeded(results)
    assert changed(results) == [ADDRESS, "doublebounceto", *(["qmail-send"] if loaded else [])]
    assert (running.pid() != pid) is loaded
    assert running.wait_until_loaded(ADDRESS)


@pytest.fixture
def moved(running, pillar):
    """The pillar that names another sink."""
    running.add_mailbox("other", "./Maildir/\n")
    return {**pillar, "address": "other@example.com"}


def test_another_address_in_pillar_moves_the_sink_gives_the_old_one_back_and_clean_undoes_all(
    apply, running, pillar, moved
):
    before = running.snapshot()
    file = running.mailbox() / ".qmail"
    apply("qmail-doublebounce", pillar)
    dry = apply("qmail-doublebounce", moved, test=True)
    assert file.read_text() == "|exit 0\n"
    results = apply("qmail-doublebounce", moved)
    assert succeeded(results)
    assert results[-1].comment == f"The mailbox of {ADDRESS} is as it was before."
    assert results[-1].changes == dry[-1].changes == {str(file): results[-1].changes[str(file)]}
    assert file.read_text() == "./Maildir/\n"
    assert running.loaded() == "other@example.com"
    after = running.snapshot()
    assert changed(apply("qmail-doublebounce", moved)) == []
    assert running.snapshot() == after
    apply("qmail-doublebounce.clean", pillar)
    assert running.snapshot() == before


def test_there_and_back_again_leaves_one_sink(apply, running, pillar, moved):
    before = running.snapshot()
    for settings in (pillar, moved, pillar):
        apply("qmail-doublebounce", settings)
    assert (running.mailbox() / ".qmail").read_text() == "|exit 0\n"
    assert (running.mailbox("other") / ".qmail").read_text() == "./Maildir/\n"
    apply("qmail-doublebounce.clean", pillar)
    assert running.snapshot() == before


def test_the_same_mailbox_by_another_name_stays_the_sink(apply, running, pillar):
    running.write_control("virtualdomains", "example.com:1\nexample.net:1\n")
    apply("qmail-doublebounce", pillar)
    for address in ("Dummy@example.com", "dummy@example.net"):
        results = apply("qmail-doublebounce", {**pillar, "address": address})
        assert succeeded(results)
        assert results[-1].comment == "This formula made no other mailbox a sink."
        assert (running.mailbox() / ".qmail").read_text() == "|exit 0\n"


def test_mode_discard_gives_every_sink_back(apply, running, pillar):
    with (running.path / "bin/qmail-send").open("a") as binary:
        binary.write("# double bounce: discarding\n")
    apply("qmail-doublebounce", pillar)
    results = apply("qmail-doublebounce", {**pillar, "mode": "discard"})
    assert succeeded(results)
    assert (running.mailbox() / ".qmail").read_text() == "./Maildir/\n"


def test_an_old_sink_that_was_changed_by_hand_is_reported_and_left(apply, running, pillar, moved):
    file = running.mailbox() / ".qmail"
    apply("qmail-doublebounce", pillar)
    file.write_text("&joe@example.org\n")
    results = apply("qmail-doublebounce", moved)
    assert succeeded(results)
    assert results[-1].comment == f"{file} has been changed by hand since, and is left as it is."
    assert results[-1].changes == {}
    assert file.read_text() == "&joe@example.org\n"


def test_an_old_sink_stays_until_qmail_send_knows_the_new_one(states, running, pillar, moved, apply, modules):
    apply("qmail-doublebounce", pillar)
    given = {"name": "others", "but": moved["address"], "home": str(running.path)}
    running.write_control("doublebounceto", "other\n")
    results = [states.qmail_mailbox.given_back(**given)]
    running.stop()
    results.append(states.qmail_mailbox.given_back(**given))
    for result, reason in zip(results, ("has not read the control files", "does not run"), strict=True):
        assert (result.result, result.changes) == (True, {})
        assert result.comment.startswith(f"{ADDRESS} stays a sink until a later run: qmail-send {reason}")
    assert (running.mailbox() / ".qmail").read_text() == "|exit 0\n"
    assert states.qmail_mailbox.given_back(**given, test=True).result is None  # a run would start it


def test_status_names_the_sinks_that_pillar_does_not_ask_for(modules, apply, running, pillar, moved):
    def told(pillar):
        found = modules.qmail_doublebounce.status({"qmail_doublebounce": pillar})["problems"]
        return [one for one in found if "still a sink" in one["problem"]]

    apply("qmail-doublebounce", pillar)
    assert told(pillar) == []
    (one,) = told(moved)
    assert one["problem"].startswith(f"{ADDRESS} is still a sink, by {running.mailbox()}/.qmail")
    assert one["remedy"] == "state.apply qmail-doublebounce"
    (one,) = told({"mode": "discard", "qmail": pillar["qmail"]})
    apply("qmail-doublebounce", moved)
    assert told(moved) == []
    (running.mailbox("other") / ".qmail").write_text("by hand\n")
    assert told(pillar) == []


def without_home(minion_opts):
    """Make the ledgers those of a version that did not remember for which qmail a mailbox was made a sink."""
    for path in pathlib.Path(minion_opts["qmail_file.kept_directory"]).rglob("ledger"):
        ledger = json.loads(path.read_text())
        del ledger["home"]
        path.write_text(json.dumps(ledger))


@pytest.mark.parametrize("is_old", [False, True])
def test_the_sink_of_another_qmail_on_the_machine_is_not_ours(
    apply, running, pillar, moved, modules, minion_opts, is_old
):
    another = Home(running.path.parent / "another")
    modules.qmail_mailbox.write("dummy@example.com", home=str(another.path))
    apply("qmail-doublebounce", pillar)
    if is_old:
        without_home(minion_opts)
    results = apply("qmail-doublebounce", moved)
    assert list(results[-1].changes) == [str(running.mailbox() / ".qmail")]
    assert (another.mailbox() / ".qmail").read_text() == "|exit 0\n"
    apply("qmail-doublebounce.clean", pillar)
    assert ((another.mailbox() / ".qmail").read_text() == "|exit 0\n") is not is_old


def test_a_sink_that_cannot_be_stops_the_run_before_the_control_files(apply, running, pillar):
    pid, before = running.pid(), running.snapshot()
    results = apply("qmail-doublebounce", {**pillar, "address": "dummy@elsewhere.example"})
    assert [result.result for result in results] == [False] * 5
    assert "leaves this server" in results[0].comment
    assert changed(results) == []
    assert running.snapshot() == before
    assert running.pid() == pid


def test_a_control_file_that_cannot_be_written_leaves_qmail_send_alone(apply, running, pillar):
    (running.control / "doublebounceto").mkdir()
    pid = running.pid()
    results = apply("qmail-doublebounce", pillar)
    assert [result.result for result in results] == [True, False, True, False, False]
    assert running.pid() == pid


def test_mode_discard_empties_the_local_part(apply, running, pillar):
    running.write_control("doublebouncehost", "localhost\n")
    results = apply("qmail-doublebounce", {**pillar, "mode": "discard"})
    assert succeeded(results)
    assert results[0].id == "no sink is needed"
    assert (running.control / "doublebounceto").read_text() == "\n"
    assert running.wait_until_loaded("@localhost")
    assert (running.mailbox() / ".qmail").read_text() == "./Maildir/\n"


def test_a_qmail_send_that_was_down_is_started(apply, home):
    results = apply("qmail-doublebounce", {"address": ADDRESS, "qmail": {"home": str(home.path)}})
    assert succeeded(results)
    assert results[3].changes == {"pid": {"old": None, "new": home.pid()}}
    assert home.wait_until_loaded(ADDRESS)


def failed_whole(loaders, sls, wrong, key="qmail_doublebounce"):
    """Apply an SLS with a wrong pillar: the first state says all that is wrong, and nothing else is tried."""
    results = [*loaders.modules.state.apply(sls, pillar={key: wrong})]
    first, *others = [result for result in results if result.id != BEGIN]
    assert first.name == "the settings are right"
    assert first.result is False
    assert len(others) >= 4
    assert not any(result.result for result in others)
    assert all("requisite failed" in str(result.comment) for result in others)
    return str(first.comment)


def test_wrong_pillar_is_reported_whole_and_stops_everything(loaders, running, pillar):
    before = running.snapshot()
    told = failed_whole(loaders, "qmail-doublebounce", {**pillar, "address": "dummy", "mailbx": "auto"})
    assert told.startswith("Pillar is wrong. qmail_doublebounce:mailbx is not a setting. The nearest is mailbox.")
    assert running.snapshot() == before


def test_clean_asks_only_for_the_settings_that_it_takes(loaders, apply, running, pillar):
    before = running.snapshot()
    apply("qmail-doublebounce", pillar)
    wrong = {**pillar, "service": {"timeout": "soon"}}
    assert "qmail_doublebounce:service:timeout" in failed_whole(loaders, "qmail-doublebounce.clean", wrong)
    assert running.loaded() == ADDRESS
    undone = apply("qmail-doublebounce.clean", {"qmail": pillar["qmail"], "mode": "snik", "mailbx": 1})
    assert succeeded(undone)
    assert running.snapshot() == before


@pytest.mark.parametrize(
    ("key", "wrong", "nearest"),
    [
        ("qmail_doublebounces", {"address": ADDRESS}, " Its nearest key is 'qmail_doublebounces'."),
        ("qmail-doublebounce", {"address": ADDRESS}, " Its nearest key is 'qmail-doublebounce'."),
        ("mysql", {"password": "secret"}, ""),
        ("qmail_doublebounce", {}, ""),
        ("qmail_doublebounce", None, ""),
    ],
)
def test_a_pillar_that_says_nothing_is_reported_first_with_the_nearest_key(loaders, running, key, wrong, nearest):
    before = running.snapshot()
    told = failed_whole(loaders, "qmail-doublebounce", wrong, key)
    assert told.startswith(
        "Pillar is wrong. It has nothing under qmail_doublebounce; qmail_doublebounce:address is required, as in "
        f"doublebounce@example.com.{nearest}"
    )
    assert ("nearest" in told, "secret" in told) == (bool(nearest), False)
    assert running.snapshot() == before


WRONG = [
    ({"provider": "runit"}, "qmail_doublebounce:service:provider runit"),
    ({"name": "qmail-sned"}, "qmail_doublebounce:service:name qmail-sned"),
    ({"provider": "qmailctl", "name": "/nonexistent/qmailctl"}, "/nonexistent/qmailctl"),
]


@pytest.mark.parametrize(("service", "told"), WRONG)
def test_what_does_not_run_qmail_send_here_is_reported_before_anything_is_touched(
    loaders, running, pillar, service, told
):
    before, pid = running.snapshot(), running.pid()
    wrong = {**pillar, "service": service}
    said = failed_whole(loaders, "qmail-doublebounce", wrong)
    assert told in said
    assert f"Here it is qmailctl, {running.path}/bin/qmailctl: set them to these, or to auto." in said
    dry = loaders.modules.state.apply("qmail-doublebounce", pillar={"qmail_doublebounce": wrong}, test=True)
    assert [result.result for result in dry if result.id != BEGIN] == [False] * 7
    assert (running.snapshot(), running.pid()) == (before, pid)


@pytest.mark.parametrize("service", [service for service, _ in WRONG])
def test_clean_reports_it_too_if_qmail_send_runs(loaders, apply, running, pillar, service):
    apply("qmail-doublebounce", pillar)
    before = running.snapshot()
    assert "Nothing was found that runs qmail-send" in failed_whole(
        loaders, "qmail-doublebounce.clean", {**pillar, "service": service}
    )
    assert running.snapshot() == before


def test_a_queue_that_is_missing_is_reported_before_anything_is_touched(loaders, home):
    (home.path / "queue/lock/sendmutex").unlink()
    before = home.snapshot()
    given = {"address": ADDRESS, "qmail": {"home": str(home.path)}}
    assert "queue/lock/sendmutex" in failed_whole(loaders, "qmail-doublebounce", given)
    assert home.snapshot() == before


@pytest.mark.parametrize("gone", [["bin/qmailctl"], ["bin", "queue"]])
def test_clean_puts_files_back_where_qmail_is_gone(apply, running, pillar, gone):
    before = running.snapshot()
    apply("qmail-doublebounce", pillar)
    running.stop()
    for name in gone:
        path = running.path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    dry = apply("qmail-doublebounce.clean", pillar, test=True)
    assert [result.result for result in dry] == [None, None, True, None]
    results = apply("qmail-doublebounce.clean", pillar)
    assert succeeded(results)
    assert len(changed(results)) == 3
    after = running.snapshot()
    assert after == {name: about for name, about in before.items() if name in after}
    assert changed(apply("qmail-doublebounce.clean", pillar)) == []


def test_clean_says_that_it_restarts_nothing_where_qmail_is_gone(loaders, apply, running, pillar):
    apply("qmail-doublebounce", pillar)
    running.stop()
    (running.path / "bin/qmailctl").unlink()
    first, *_ = loaders.modules.state.apply("qmail-doublebounce.clean", pillar={"qmail_doublebounce": pillar})
    assert first.comment.startswith("No qmail-send is restarted, because none runs here. Nothing was found that runs")


def test_clean_puts_back_what_is_left_where_the_home_is_gone_and_fails(loaders, apply, running, pillar, tmp_path):
    """It may be a misspelt path as well: nobody may take that for done."""
    elsewhere = tmp_path / "etc/qmail"
    elsewhere.parent.mkdir()
    os.rename(running.control, elsewhere)
    pillar["qmail"]["control"] = str(elsewhere)
    apply("qmail-doublebounce", pillar)
    running.stop()
    os.rename(running.path, running.path.parent / "away")
    *others, last = loaders.modules.state.apply("qmail-doublebounce.clean", pillar={"qmail_doublebounce": pillar})
    assert [result.result for result in others] == [True] * 5
    assert last.result is False
    assert f"qmail_doublebounce:qmail:home is {running.path}, and there is no such directory" in last.comment
    assert not (elsewhere / "doublebounceto").exists()
    os.rename(running.path.parent / "away", running.path)
    assert (running.mailbox() / ".qmail").read_text() == "|exit 0\n"
    assert succeeded(apply("qmail-doublebounce.clean", pillar))
    assert (running.mailbox() / ".qmail").read_text() == "./Maildir/\n"


def test_a_qmail_send_that_is_down_on_purpose_is_no_wrong_setting(apply, home):
    given = {"address": ADDRESS, "qmail": {"home": str(home.path)}, "service": {"provider": "qmailctl"}}
    assert succeeded(apply("qmail-doublebounce", given))


@pytest.mark.parametrize(
    ("problems", "told"),
    [
        ("It is bad.", "Pillar is wrong. It is bad."),
        (["One.", "Two."], "Pillar is wrong. One. Two."),
        (5, "problems is a list of sentences, not 5."),
        (None, "problems is a list of sentences, not None."),
        ([["One."]], "problems is a list of sentences, not [['One.']]."),
    ],
)
def test_problems_are_sentences(states, problems, told):
    result = states.qmail_doublebounce.configured(name="settings", problems=problems)
    assert (result.result, result.comment) == (False, told)


def test_the_control_files_may_lie_elsewhere(apply, running, pillar, tmp_path):
    elsewhere = tmp_path / "etc/qmail"
    elsewhere.parent.mkdir()
    os.rename(running.control, elsewhere)
    pillar["qmail"]["control"] = str(elsewhere)
    apply("qmail-doublebounce", pillar)
    assert (elsewhere / "doublebounceto").read_text() == "dummy\n"
