"""The rules of routing that a recorded list cannot guard: any address, any file, and the ends of the road."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.support import cdb

OUTCOMES = {"dotqmail", "defaultdelivery", "bounce", "remote", "deferred", "dropped"}
# hypothesis runs a test many times over one fixture; that is meant: each example writes what it reads.
many = settings(max_examples=150)


@pytest.fixture
def resolve(home, modules):
    return lambda address: modules.qmail_route.resolve(address, home=str(home.path))


def test_a_mailbox_of_a_virtual_domain_is_found_by_its_assign_line(resolve, home):
    route = resolve("dummy@example.com")
    assert route["recipient"] == "1-dummy@example.com"
    assert route["dotqmail"] == route["exact"] == str(home.mailbox() / ".qmail")
    assert (route["uid"], route["gid"], route["dash"], route["ext"]) == (home.uid, home.gid, "", "")
    assert route["outcome"] == "dotqmail"


def test_case_does_not_matter_to_qmail(resolve):
    assert resolve("DUMMY@EXAMPLE.COM")["dotqmail"] == resolve("dummy@example.com")["dotqmail"]


def test_the_longest_wildcard_wins(resolve, home):
    for name in ("one", "two"):
        (home.path / name).mkdir()
    home.add_assign(f"+1-list-:one:{home.uid}:{home.gid}:{home.path}/one:-::")
    home.add_assign(f"+1-list-a-:two:{home.uid}:{home.gid}:{home.path}/two:-:x-:")
    assert resolve("list-a-B@example.com")["exact"] == f"{home.path}/two/.qmail-x-b"
    assert resolve("list-a-B@example.com")["ext"] == "x-B"
    assert resolve("list-b@example.com")["exact"] == f"{home.path}/one/.qmail-b"


def test_a_dot_in_the_extension_becomes_a_colon(resolve, home):
    home.add_assign(f"+1-:domain:{home.uid}:{home.gid}:{home.path}/alias:-::")
    assert resolve("Double.Bounce@example.com")["exact"] == f"{home.path}/alias/.qmail-double:bounce"


def test_default_files_are_cut_at_each_dash_from_the_right(resolve, home):
    home.add_assign(f"+1-:domain:{home.uid}:{home.gid}:{home.path}/alias:-::")
    for name in (".qmail-default", ".qmail-a-default", ".qmail-a-b-default"):
        (home.path / "alias" / name).write_text("#\n")
        route = resolve("a-b-C@example.com")
        assert os.path.basename(route["dotqmail"]) == name
    assert route["default"] == "C"
    assert resolve("a-x@example.com")["default"] == "x"
    assert resolve("z@example.com")["default"] == "z"


def test_an_address_that_ends_in_default_has_that_for_its_default_as_it_was_spelled(resolve, home):
    home.add_assign(f"+1-:domain:{home.uid}:{home.gid}:{home.path}/alias:-::")
    (home.path / "alias/.qmail-list-default").write_text("#\n")
    for address, default in (("list-Default", "Default"), ("list-DEFAULT", "DEFAULT"), ("list-a-Default", "a-Default")):
        route = resolve(f"{address}@example.com")
        assert (os.path.basename(route["dotqmail"]), route["default"]) == (".qmail-list-default", default)


def test_only_what_begins_with_a_dot_stands_for_the_hosts_below_it(resolve, home):
    home.write_control("virtualdomains", "example.com:1\n.example.org:1\n.net:1\n.example.net:\n")
    domains = {host: resolve(f"dummy@{host}")["domain"] for host in ("example.com", "sub.example.com", "xexample.com")}
    assert domains == {"example.com": "virtualdomains", "sub.example.com": "remote", "xexample.com": "remote"}
    assert resolve("dummy@a.b.example.org")["recipient"] == "1-dummy@a.b.example.org"
    assert resolve("dummy@.example.org")["recipient"] == "1-dummy@.example.org"
    assert resolve("dummy@example.org")["domain"] == "remote"
    assert resolve("dummy@example.net")["domain"] == "virtualdomains"
    assert resolve("dummy@a.example.net")["domain"] == "remote"  # the longer one wins, and has no prefix


def test_a_directory_and_a_dangling_link_are_no_dot_qmail_file(resolve, home):
    file = home.mailbox() / ".qmail"
    file.unlink()
    file.mkdir()
    assert resolve("dummy@example.com")["outcome"] == "defaultdelivery"
    file.rmdir()
    file.symlink_to("nowhere")
    assert resolve("dummy@example.com")["outcome"] == "defaultdelivery"


def test_the_later_of_two_equal_virtual_domains_wins(resolve, home):
    home.write_control("virtualdomains", "example.com:9\nexample.com:1\n")
    assert resolve("dummy@example.com")["recipient"] == "1-dummy@example.com"


def test_a_host_in_neither_file_is_remote(resolve):
    assert resolve("dummy@elsewhere.example")["outcome"] == "remote"


def test_a_virtual_domain_without_a_prefix_is_remote(resolve, home):
    home.write_control("virtualdomains", ".example.com:1\nnot.example.com:\n")
    assert resolve("dummy@is.example.com")["channel"] == "local"
    assert resolve("dummy@not.example.com")["outcome"] == "remote"


def test_an_empty_local_part_is_dropped(resolve):
    assert resolve("@localhost")["outcome"] == "dropped"


def test_me_stands_in_for_missing_locals(resolve, home):
    (home.control / "locals").unlink()
    assert resolve("somebody@mail.example.net")["domain"] == "locals"
    assert resolve("somebody@localhost")["domain"] == "remote"


def test_the_percent_hack_goes_on_as_long_as_it_applies(resolve, home):
    home.write_control("percenthack", "localhost\nmail.example.net\n")
    assert resolve("dummy%example.com%mail.example.net@localhost")["recipient"] == "1-dummy@example.com"


def test_mail_for_root_and_into_a_missing_home_is_deferred(resolve, home):
    home.add_assign(f"=1-root:root:0:0:{home.path}:::")
    home.add_assign(f"=1-gone:gone:{home.uid}:{home.gid}:{home.path}/gone:::")
    assert resolve("root@example.com")["outcome"] == "deferred"
    assert "missing" in resolve("gone@example.com")["reason"]


def test_a_home_that_is_empty_is_not_the_root_directory(home, resolve, modules):
    home.add_assign(f"=1-empty:popuser:{home.uid}:{home.gid}::-:zz:")
    route = resolve("empty@example.com")
    assert (route["reason"], route["exact"]) == ("The home directory '' is not an absolute path.", None)
    home.write_control("doublebounceto", "empty\n")
    home.write_control("doublebouncehost", "example.com\n")
    status = modules.qmail_doublebounce.status({}, home=str(home.path))
    assert status["verdict"].startswith("No mail is delivered: qmail-send does not run. By its control files, d")
    assert "'' is not an absolute path" in str(status["problems"])


def test_a_damaged_cdb_defers_and_the_remedy_is_named(resolve, home):
    whole = (home.path / "users/cdb").read_bytes()
    for damaged in (b"", whole[:100], whole[:2050], b"\xff" * len(whole)):
        (home.path / "users/cdb").write_bytes(damaged)
        route = resolve("dummy@example.com")
        assert route["outcome"] == "deferred"
        assert "qmail-newu" in route["reason"]


def test_without_a_cdb_the_systems_users_receive(home, modules, tmp_path):
    """A root of our own stands for /, with its passwd."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "home/joe").mkdir(parents=True)
    (tmp_path / "control").mkdir()
    (tmp_path / "control/me").write_text("example.net\n")
    me = os.stat(tmp_path / "home/joe").st_uid or 1234
    os.chown(tmp_path / "home/joe", me, -1)
    alias = f"alias:x:{me}:1:Alias:/alias:/bin/false\n"
    (tmp_path / "etc/passwd").write_text(f"joe:x:{me}:1:Joe:/home/joe:/bin/sh\n{alias}")

    def resolve(address):
        return modules.qmail_route.resolve(address, home="/", root=str(tmp_path))

    assert resolve("Joe-List.One@example.net")["exact"] == "/home/joe/.qmail-list:one"
    assert resolve("joe@example.net")["outcome"] == "defaultdelivery"
    assert resolve("jo@example.net")["user"] == "alias"
    os.rmdir(tmp_path / "home/joe")
    assert resolve("joe@example.net")["user"] == "alias"
    (tmp_path / "etc/passwd").write_text("")
    assert "alias" in resolve("joe@example.net")["reason"]


def test_what_can_be_no_address_is_refused(resolve):
    for address in (None, 7, ["a@b"], "a\0b@example.com"):
        with pytest.raises(SaltInvocationError):
            resolve(address)


def test_a_control_file_that_is_a_directory_is_named(resolve, home):
    (home.control / "virtualdomains").unlink()
    (home.control / "virtualdomains").mkdir()
    with pytest.raises(CommandExecutionError, match="virtualdomains"):
        resolve("dummy@example.com")


text = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=30)
dotted = st.from_regex(r"[aA.\-%@/!~é]{0,12}", fullmatch=True)


@many
@given(address=text | dotted, hosts=st.lists(text | dotted, max_size=4))
def test_no_address_makes_it_fail(resolve, home, address, hosts):
    home.write_control("locals", "\n".join(hosts) + "\n")
    home.write_control("percenthack", "\n".join(hosts[:1]) + "\n")
    assert resolve(address)["outcome"] in OUTCOMES


@many
@given(contents=st.binary(max_size=200), name=st.sampled_from(["locals", "virtualdomains", "percenthack", "me"]))
def test_no_contents_of_a_control_file_make_it_fail(resolve, home, contents, name):
    (home.control / name).write_bytes(contents)
    assert resolve("dummy@example.com")["outcome"] in OUTCOMES


@many
@given(contents=st.binary(max_size=3000))
def test_no_contents_of_the_cdb_make_it_fail(resolve, home, contents):
    (home.path / "users/cdb").write_bytes(contents)
    assert resolve("dummy@example.com")["outcome"] in OUTCOMES


keys = st.text("abAB.-", min_size=1, max_size=6)


@many
@given(entries=st.dictionaries(keys, st.tuples(st.booleans(), keys), max_size=6), local=keys)
def test_the_exact_assign_line_wins_over_the_longest_wildcard(modules, home, entries, local):
    """Against a model that reads users/assign line by line, as qmail-users(5) tells it."""
    entries = {key.lower(): value for key, value in entries.items() if value[0] or key[-1] == "-"}
    lines = [f"{'=' if whole else '+'}{key}:{user}:1:1:/h:-:p:" for key, (whole, user) in entries.items()]
    (home.path / "users/cdb").write_bytes(cdb.from_assign("\n".join(lines)))
    key = local.lower()
    wildcards = [entry for entry, (whole, _) in entries.items() if not whole and key.startswith(entry)]
    expected = None
    if key in entries and entries[key][0]:
        expected = (entries[key][1], "p")
    elif wildcards:
        longest = max(wildcards, key=len)
        expected = (entries[longest][1], "p" + local[len(longest) :])
    try:
        found = modules.qmail_route_users.find(local, home=str(home.path))
        told = (found["user"], found["ext"]) if found["source"] == "assign" else None
    except CommandExecutionError:
        told = None  # no user alias on this machine
    assert told == expected
