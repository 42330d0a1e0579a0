"""The report about many minions: whatever they answer, each is a row, and the figures are those that they sent."""

import json
import stat

import pytest
import salt.cache
import salt.client
import salt.config
import salt.loader
import salt.utils.minions

from tests.support import minion, overviews

NAMES = [overviews.name_of(number) for number in range(1, 41)]
HOSTILE = "\x1b[2J</td><script>x</script>\u202egnp.{{ 7 * 7 }}\udcff\n\nnext"
ODD = [
    None, True, -1, 1.5, float("nan"), 10**400, "text", b"bytes", [], [[]], {}, {"form": 2}, [None] * 50,
    {"form": 1, "problems": "x", "queue": [], "log": 7, "counts": {}, "day": "x", "causes": {"a": 1}},
    {"form": 1, "problems": [1, None], "queue": {"messages": "many", "oldest": 10**30}, "causes": [None, {}]},
    {"form": 1, "since": "x", "step": 3600, "counts": [-1, "2", True, None, 3.0], "holds": "yes", "mode": ["sink"]},
    {"form": 1, "since": 10**18, "step": 3600, "counts": [1] * 10**5, "down": 1, "restart_due": None, "fate": {}},
]  # fmt: skip


class Client:
    """Stand in for the client of the master: what each minion returns, by its name; without it, it is silent."""

    def __init__(self, returns):
        self.returns, self.asked = returns, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def check_minions(self, target, tgt_type, greedy):
        return {"minions": list(self.returns), "missing": []}

    def run_job(self, names, function, arg, tgt_type, kwarg, **patience):
        assert tgt_type == "list"
        self.asked.append((function, kwarg, len(names)))
        return {"jid": "20261130150000000000", "minions": names}

    def get_iter_returns(self, jid, names, **patience):
        for name in names:
            if self.returns.get(name, Client) is not Client:
                yield {name: {"ret": self.returns[name], "retcode": 0}}


def silent():
    return Client


@pytest.fixture
def opts(tmp_path):
    opts = salt.config.master_config(minion.write(tmp_path / "etc/master", {"root_dir": str(tmp_path)}))
    opts.update(cachedir=str(tmp_path / "cache"), runner_dirs=[str(minion.REPOSITORY / "_runners")])
    return opts


@pytest.fixture
def report(opts, monkeypatch):
    """Report about minions that stand in, as a program gets it; ``opts`` are those of the master."""

    def report(returns, target="mx*", **given):
        client = returns if isinstance(returns, Client) else Client(returns)
        monkeypatch.setattr(salt.client, "get_local_client", lambda mopts: client)
        monkeypatch.setattr(salt.utils.minions, "CkMinions", lambda opts: client)
        runners = salt.loader.runner(opts)
        runners["jobs.list_job"] = lambda jid: {"jid": jid, "Result": {}}
        return runners["qmail_doublebounce.report"](target, **given)

    monkeypatch.setattr("time.time", lambda: overviews.NOW + 20.0)
    return report


@pytest.fixture
def fleet():
    """What forty servers return on a bad night; one of them nothing."""
    found = {name: overviews.answer(number) for number, name in enumerate(NAMES, 1)}
    return {name: silent() if said is None else said for name, said in found.items()}


def test_every_minion_is_a_row_and_the_worst_are_first(report, fleet):
    found = report(fleet)
    assert sorted(row["server"] for row in found["servers"]) == sorted(NAMES)
    levels = [row["level"] for row in found["servers"]]
    assert levels == ["down", "wrong", "wrong", "silent", "odd", "due", "warned", "unset", *["holds"] * 32]
    assert found["totals"]["levels"] == {
        "down": 1, "wrong": 2, "silent": 1, "odd": 1, "due": 1, "warned": 1, "unset": 1, "holds": 32
    }  # fmt: skip
    well = [row["double_bounces"] for row in found["servers"] if row["level"] == "holds"]
    assert well == sorted(well, reverse=True)
    assert found["retcode"] == 1  # one is silent


def test_the_figures_are_those_that_were_sent(report, fleet):
    found = report(fleet)
    sent = {name: said for name, said in fleet.items() if isinstance(said, dict)}
    for row in found["servers"]:
        if row["server"] not in sent:
            continue
        said = sent[row["server"]]
        assert (row["sink"], row["mode"], row["fate"]) == (said["sink"], said["mode"], said["fate"])
        assert row["double_bounces"] == said["day"]["double_bounces"] + said["day"]["discarded"]
        assert (row["day"], row["all"], row["counts"]) == (said["day"], said["all"], said["counts"])
        assert (row["waiting"], row["oldest"]) == (said["queue"]["double_bounces"], said["queue"]["oldest"])
        assert row["problems"] == said["problems"]
        assert row["causes"][0]["domain"] == said["causes"][0]["domain"]
    totals = found["totals"]
    assert totals["double_bounces"] == sum(said["day"]["double_bounces"] for said in sent.values())
    assert totals["waiting"] == sum(said["queue"]["double_bounces"] for said in sent.values())
    assert totals["counts"] == [sum(hour) for hour in zip(*(said["counts"] for said in sent.values()))]
    moved = [said for said in sent.values() if said["came"]]
    assert totals["sinks"] == len(moved)
    assert totals["before"]["stored"] == sum(said["before"]["stored"] for said in moved)
    assert totals["after"]["swallowed"] == sum(said["after"]["swallowed"] for said in moved)
    causes = {}
    for said in sent.values():
        for one in said["causes"]:
            causes[one["domain"]] = causes.get(one["domain"], 0) + one["double_bounces"]
    assert {one["domain"]: one["double_bounces"] for one in totals["causes"]} == causes


def test_the_same_problem_is_named_once_with_all_of_its_servers(report, fleet):
    problems = report(fleet)["totals"]["problems"]
    (wrong,) = [one for one in problems if one["level"] == "wrong"]
    assert sorted(wrong["servers"]) == ["mx29.example.com", "mx3.example.com"]
    assert wrong["remedy"] == "state.apply qmail-doublebounce"
    assert len(problems) == 7


def test_a_silent_minion_shows_what_to_do_and_when_the_master_had_something_of_it(report, fleet, opts):
    salt.cache.factory(opts).store("minions/mx11.example.com", "data", {"grains": {}})
    (row,) = [row for row in report(fleet)["servers"] if row["level"] == "silent"]
    assert row["why"] == "It did not answer within 300 s. See whether it is up: salt mx11.example.com test.ping"
    assert row["heard"] is not None
    assert row["double_bounces"] is None
    salt.cache.factory(opts).flush("minions/mx11.example.com")
    (row,) = [row for row in report(fleet)["servers"] if row["level"] == "silent"]
    assert row["heard"] is None


def test_a_minion_without_the_modules_says_so_at_once(report):
    client = Client({"mx1.example.com": "'qmail_doublebounce.overview' is not available."})
    (row,) = report(client)["servers"]
    assert (row["level"], row["why"]) == ("odd", "'qmail_doublebounce.overview' is not available.")
    assert len(client.asked) == 1


def test_all_well_is_an_exit_status_of_0(report):
    found = report({name: overviews.answer(number) for number, name in enumerate(NAMES[:2], 1)})
    assert (found["retcode"], found["totals"]["levels"]) == (0, {"holds": 2})
    assert found["totals"]["problems"] == []


@pytest.mark.parametrize("said", ODD, ids=lambda said: repr(said)[:30])
def test_an_odd_answer_is_a_row_and_spoils_no_other(report, said, tmp_path):
    returns = {"mx1.example.com": overviews.answer(1), "mx2.example.com": said, "mx4.example.com": overviews.answer(4)}
    found = report(returns, html=str(tmp_path / "page.html"))
    well = [row["server"] for row in found["servers"] if row["level"] == "holds"]
    assert well == ["mx1.example.com", "mx4.example.com"]
    assert found["page"]["error"] is None
    (row,) = [row for row in found["servers"] if row["server"] == "mx2.example.com"]
    assert row["why"]
    alone = report({name: returns[name] for name in ("mx1.example.com", "mx4.example.com")})
    assert found["totals"]["counts"] == alone["totals"]["counts"]
    assert found["totals"]["double_bounces"] == alone["totals"]["double_bounces"]
    assert len(json.dumps(row)) < 20_000


def test_no_text_of_a_minion_writes_over_a_terminal(report, opts):
    def spoiled(value):
        if isinstance(value, dict):
            return {key: spoiled(one) for key, one in value.items()}
        if isinstance(value, list):
            return [spoiled(one) for one in value]
        return HOSTILE if isinstance(value, str) else value

    opts["fun"] = "qmail_doublebounce.report"
    returns = {"mx3.example.com": spoiled(overviews.answer(3)), "mx4.example.com": HOSTILE}
    text = report(returns)["data"]
    assert all(line.isprintable() for line in text.splitlines())
    assert "?[2J</td><script>x</script>?gnp.{{ 7 * 7 }}? next" in text


def test_whoever_types_the_command_gets_a_table_and_a_program_gets_data(report, fleet, opts):
    opts["fun"] = "qmail_doublebounce.report"
    found = report(fleet)
    assert (found["outputter"], found["retcode"]) == ("highstate", 1)
    table = found["data"].splitlines()
    assert table[0].split() == [
        "server", "state", "mode", "24", "hours", "became", "of", "them", "waiting", "oldest", "worst", "cause", "goes",
        "to",
    ]  # fmt: skip
    assert table[1].startswith("mx13.example.com  DOWN")
    assert table[2].strip().startswith("qmail-send does not run: no mail is delivered.")
    assert table[3].strip() == "-> Fix what the log reports, then salt-call qmail_service.start"
    bars = {line.split()[0]: line.count("#") for line in table if line.startswith("mx")}
    days = {name: sum(said["counts"][-24:]) for name, said in fleet.items() if isinstance(said, dict)}
    worst = max(days, key=days.get)
    assert bars[worst] == max(bars.values()) == 16
    assert "40 servers: 1 down, 2 wrong, 1 silent" in found["data"]
    opts["output"] = "json"
    assert len(report(fleet)["servers"]) == 40


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"target": ""}, "No target is given."),
        ({"target": 5}, "No target is given."),
        ({"timeout": 0}, "timeout is 0; allowed: seconds, from 1 to 86400."),
        ({"timeout": True}, "timeout is True"),
        ({"tgt_type": "globe"}, "tgt_type is 'globe'; allowed: "),
        ({"since": "7"}, "since='7' is not known: give an age from 24h to 92d, such as 7d or 4w."),
        ({"since": "1h"}, "since='1h'"),
        ({"since": "93d"}, "since='93d'"),
        ({"since": 7}, "since=7 is"),
        ({"html": "page.html"}, "html='page.html' is not the path of a page"),
        ({"html": "/nonexistent/page.html"}, "there is no directory /nonexistent. Make it first."),
        ({"html": "/etc/passwd"}, "html='/etc/passwd' is not the path of a page"),
        ({"html": 5}, "html=5 is not"),
    ],
)
def test_a_wrong_argument_is_named_and_nobody_is_asked(report, given, words):
    client = Client({"mx1.example.com": overviews.answer(1)})
    found = report(client, **given)
    assert words in found["error"]
    assert found["retcode"] == 1
    assert not client.asked


def test_names_with_commas_are_a_list(report):
    returns = {name: overviews.answer(number) for number, name in enumerate(NAMES[:2], 1)}
    found = report(returns, target="mx1.example.com,mx9.example.com", tgt_type="list")
    assert {row["server"] for row in found["servers"]} == {*NAMES[:2], "mx9.example.com"}
    assert found["of"] == "mx1.example.com, mx9.example.com"


def test_a_target_without_minions_is_an_error(report):
    assert report({})["error"] == "The target 'mx*' (glob) matches no minion: look with salt-key."


def test_a_page_is_written_whole_and_for_its_group_only(report, fleet, tmp_path):
    page = tmp_path / "page.html"
    found = report(fleet, html=str(page))
    assert found["page"] == {"path": str(page), "bytes": page.stat().st_size, "error": None}
    assert stat.S_IMODE(page.stat().st_mode) == 0o640
    first = page.stat().st_ino
    assert report(fleet, html=str(page))["page"]["error"] is None
    assert page.stat().st_ino != first
    assert [path.name for path in tmp_path.iterdir() if "report" in path.name] == []


@pytest.mark.parametrize("kind", ["file", "link", "directory", "dangling"])
def test_what_is_no_page_is_not_replaced(report, fleet, tmp_path, kind):
    page, other = tmp_path / "page.html", tmp_path / "other"
    if kind == "file":
        page.write_text("<!doctype html>\nmine\n")
    elif kind == "directory":
        page.mkdir()
    else:
        if kind == "link":
            assert report(fleet, html=str(tmp_path / "first.html"))["page"]["error"] is None
            (tmp_path / "first.html").rename(other)
        page.symlink_to(other)
    before = page.lstat().st_ino, page.lstat().st_mtime_ns
    found = report(fleet, html=str(page))
    assert found["error"] == f"html='{page}' is there, but it is not a page of this report. Move it, or name another."
    assert (page.lstat().st_ino, page.lstat().st_mtime_ns) == before


@pytest.fixture
def synced(opts, tmp_path):
    """The runners as they are on a master that has synced them: nothing else is beside them."""
    place = tmp_path / "extmods"
    place.mkdir()
    for path in (minion.REPOSITORY / "_runners").glob("*.py"):
        (place / path.name).write_text(path.read_text())
    opts["runner_dirs"] = [str(place)]


@pytest.mark.usefixtures("synced")
def test_without_the_formula_in_file_roots_the_table_is_there_and_says_what_is_missing(report, fleet, tmp_path):
    found = report(fleet, html=str(tmp_path / "page.html"))
    assert len(found["servers"]) == 40
    assert found["page"]["error"].startswith("There is no salt://qmail-doublebounce/files/report.html.jinja:")
    assert found["retcode"] == 1
    assert not (tmp_path / "page.html").exists()


@pytest.mark.usefixtures("synced")
def test_the_template_comes_from_file_roots_where_the_runners_were_synced(report, fleet, opts, tmp_path):
    opts.update(file_roots={"base": [str(minion.linked(tmp_path / "states"))]}, file_client="local")
    assert report(fleet, html=str(tmp_path / "page.html"))["page"]["error"] is None
