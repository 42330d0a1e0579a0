"""The safe way into a directory that its owner may be changing right now."""

import contextlib
import os

import pytest
from salt.exceptions import CommandExecutionError

from tests.support.descriptors import opened

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users: needs root")


@pytest.fixture
def enter(modules):
    return modules.qmail_base_directory.enter


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o772, 0o720, 0o702])
def test_a_link_is_not_followed_where_a_group_or_all_can_write(enter, tmp_path, mode):
    (tmp_path / "real").mkdir()
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "link").symlink_to(tmp_path / "real")
    shared.chmod(mode)
    before = opened()
    with pytest.raises(CommandExecutionError, match=f"{shared}/link leads through the symbolic link link"):
        enter(f"{shared}/link")
    with pytest.raises(CommandExecutionError, match=r"^the file leads"):
        enter(f"{shared}/link", "the file")
    assert opened() == before
    shared.chmod(0o755)
    os.close(enter(f"{shared}/link"))


@root_only
@pytest.mark.parametrize(("owner", "is_followed"), [(0, True), (4242, True), (4243, False), (1, False)])
def test_a_link_is_followed_where_root_or_the_user_of_this_process_has_made_it(
    enter, tmp_path, monkeypatch, owner, is_followed
):
    (tmp_path / "real").mkdir()
    (tmp_path / "some").mkdir()
    (tmp_path / "some/link").symlink_to("../real")
    os.chown(tmp_path / "some", owner, 0)
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with contextlib.nullcontext() if is_followed else pytest.raises(CommandExecutionError, match="leads through"):
        handle = enter(f"{tmp_path}/some/link")
        assert os.readlink(f"/proc/self/fd/{handle}") == str(tmp_path / "real")
        os.close(handle)


def test_as_many_links_are_followed_as_linux_follows(enter, tmp_path):
    (tmp_path / "l0").mkdir()
    for number in range(1, 42):
        (tmp_path / f"l{number}").symlink_to(f"./l{number - 1}" if number % 2 else tmp_path / f"l{number - 1}")
    handle = enter(f"{tmp_path}/l40")
    assert os.readlink(f"/proc/self/fd/{handle}") == str(tmp_path / "l0")
    os.close(handle)
    os.listdir(tmp_path / "l40")
    before = opened()
    for refuse in (enter, os.listdir):
        with pytest.raises(OSError, match="Too many levels of symbolic links"):
            refuse(f"{tmp_path}/l41")
    assert opened() == before


@pytest.mark.parametrize("target", ["-a/b", "./-a//./b/", "../{}/-a/b", "{}/-a/../-a/b"])
def test_a_link_leads_where_it_leads_whatever_its_parts_look_like(enter, tmp_path, target):
    (tmp_path / "-a/b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(target.format(tmp_path if target.startswith("{") else tmp_path.name))
    (tmp_path / "-a/b/c/d").mkdir(parents=True)
    for below in ("", "/c", "/c/d"):
        handle = enter(f"{tmp_path}/link{below}")
        assert os.readlink(f"/proc/self/fd/{handle}") == f"{tmp_path}/-a/b{below}"
        os.close(handle)


def test_a_directory_is_walked_with_one_descriptor_and_leaves_that_alone(enter, tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/file").touch()
    before = opened()
    handle = enter(f"{tmp_path}/a/b")
    assert opened() == sorted([*before, f"{tmp_path}/a/b"])
    os.close(handle)
    os.mkfifo(tmp_path / "a/fifo")
    missing, other = FileNotFoundError, NotADirectoryError
    for name, error in (("a/none/c", missing), ("a/file/c", other), ("a/file", other), ("a/fifo", other)):
        with pytest.raises(error):
            enter(f"{tmp_path}/{name}")
    assert opened() == before
