"""The formula from end to end on a qmail home, with a qmail-send that runs: apply, again, drift, clean, clean again."""

import os
import pathlib
import subprocess

import pytest

ADDRESS = "dummy@example.com"


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
        roots = (running.path, pathlib.Path(minion_opts["qmail_kept.directory"]))
        return {path: path.lstat().st_ctime_ns for root in roots for path in (root, *root.rglob("*"))}

    apply("qmail-doublebounce", pillar)
    before = times()
    apply("qmail-doublebounce", pillar)
    assert times() == before


def test_test_mode_shows_the_changes_and_writes_nothing(apply, running, pillar):
    pid, before = running.pid(), running.snapshot()
    dry = apply("qmail-doublebounce", pillar, test=True)
    assert [result.result for result in dry] == [None] * 4
    assert running.snapshot() == before
    assert running.pid() == pid
    wet = apply("qmail-doublebounce", pillar)
    for told, done in zip(dry[:3], wet[:3], strict=True):
        assert told.changes == done.changes
    assert dry[3].changes["pid"]["old"] == wet[3].changes["pid"]["old"] == pid
    assert [result.result for result in apply("qmail-doublebounce", pillar, test=True)] == [True] * 4
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
    apply("qmail-doublebounce.clean", pillar)
    assert (running.control / "doublebounceto").read_text() == "somebody\n"
    assert not (running.control / "doublebouncehost").exists()


@pytest.mark.parametrize("loaded", (False, True))
def test_drift_is_put_right_with_a_restart_only_where_qmail_send_has_read_it(apply, running, pillar, loaded):
    apply("qmail-doublebounce", pillar)
    (running.mailbox() / ".qmail").write_text("./Maildir/\n")
    running.write_control("doublebounceto", "dummy@example.com\n")
    if loaded:
        subprocess.run([running.path / "bin/qmailctl", "restart"], check=True, timeout=20)
        assert running.wait_until_loaded("dummy@example.com@example.com")
    pid = running.pid()
    results = apply("qmail-doublebounce", pillar)
    assert succeeded(results)
    assert changed(results) == [ADDRESS, "doublebounceto", *(["qmail-send"] if loaded else [])]
    assert (running.pid() != pid) is loaded
    assert running.wait_until_loaded(ADDRESS)


def test_another_address_in_pillar_moves_the_sink_and_clean_undoes_both(apply, running, pillar):
    running.add_mailbox("other", "./Maildir/\n")
    before = running.snapshot()
    apply("qmail-doublebounce", pillar)
    apply("qmail-doublebounce", {**pillar, "address": "other@example.com"})
    assert running.wait_until_loaded("other@example.com")
    apply("qmail-doublebounce.clean", pillar)
    assert running.snapshot() == before


def test_a_sink_that_cannot_be_stops_the_run_before_the_control_files(apply, running, pillar):
    pid, before = running.pid(), running.snapshot()
    results = apply("qmail-doublebounce", {**pillar, "address": "dummy@elsewhere.example"})
    assert [result.result for result in results] == [False] * 4
    assert "leaves this server" in results[0].comment
    assert changed(results) == []
    assert running.snapshot() == before
    assert running.pid() == pid


def test_a_control_file_that_cannot_be_written_leaves_qmail_send_alone(apply, running, pillar):
    (running.control / "doublebounceto").mkdir()
    pid = running.pid()
    results = apply("qmail-doublebounce", pillar)
    assert [result.result for result in results] == [True, False, True, False]
    assert running.pid() == pid


def test_mode_discard_empties_the_local_part(apply, running, pillar):
    running.write_control("doublebouncehost", "localhost\n")
    results = apply("qmail-doublebounce", {**pillar, "mode": "discard"})
    assert succeeded(results)
    assert (running.control / "doublebounceto").read_text() == "\n"
    assert running.wait_until_loaded("@localhost")
    assert (running.mailbox() / ".qmail").read_text() == "./Maildir/\n"


def test_a_qmail_send_that_was_down_is_started(apply, home):
    results = apply("qmail-doublebounce", {"address": ADDRESS, "qmail": {"home": str(home.path)}})
    assert succeeded(results)
    assert results[3].changes == {"pid": {"old": None, "new": home.pid()}}
    assert home.wait_until_loaded(ADDRESS)


def failed_whole(loaders, sls, wrong):
    """Apply an SLS with a wrong pillar: the first state says all that is wrong, and nothing else is tried."""
    first, *others = loaders.modules.state.apply(sls, pillar={"qmail_doublebounce": wrong})
    assert first.result is False
    assert [result.result for result in others] == [False] * 4
    assert all("requisite failed" in str(result.comment) for result in others)
    return str(first.comment)


def test_wrong_pillar_is_told_whole_and_stops_everything(loaders, running, pillar):
    before = running.snapshot()
    told = failed_whole(loaders, "qmail-doublebounce", {**pillar, "address": "dummy", "mailbx": "auto"})
    assert told.startswith("Pillar is not right. qmail_doublebounce:mailbx is no setting. The nearest is mailbox.")
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


def test_without_any_pillar_nothing_is_done(loaders, running):
    before = running.snapshot()
    returned = loaders.modules.state.apply("qmail-doublebounce", pillar={})
    assert [result.result for result in returned].count(True) <= 1
    comments = " ".join(str(result.comment) for result in returned)
    assert "qmail_doublebounce:address" in comments or "qmail_doublebounce:qmail:home" in comments
    assert running.snapshot() == before


def test_the_control_files_may_lie_elsewhere(apply, running, pillar, tmp_path):
    elsewhere = tmp_path / "etc/qmail"
    elsewhere.parent.mkdir()
    os.rename(running.control, elsewhere)
    pillar["qmail"]["control"] = str(elsewhere)
    apply("qmail-doublebounce", pillar)
    assert (elsewhere / "doublebounceto").read_text() == "dummy\n"
