"""The metrics: Prometheus and node_exporter read the present state; what is not known is not there."""

import math
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
import salt.loader
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from tests.support import needs
from tests.support.house import REPOSITORY
from tests.support.watched import Watched

EXPORTER = "prometheus-node-exporter"


@pytest.fixture
def server(home, minion_opts, tmp_path):
    return Watched(home, minion_opts, tmp_path)


def parsed(text):
    """Return the samples of a text by name and labels; Prometheus' own parser refuses what is wrong in it."""
    found = {}
    for family in openmetrics(text):
        for sample in family.samples:
            key = sample.name, *sorted(sample.labels.items())
            assert key not in found, f"{key} is there twice"  # the parser lets equal counters pass
            found[key] = sample.value
    return found


def read(server):
    return parsed(server.modules["qmail_doublebounce.metrics"]())


def bounces(found):
    return {key[1][1]: value for key, value in found.items() if key[0] == "qmail_double_bounces_total" and value}


def test_a_server_in_order(server):
    server.queue.put(100, sender=b"F#@[]\0", age=50)
    server.queue.put(101, sender=b"F\0", age=10)
    server.queue.put(102, sender=b"Fjoe@example.com\0", age=7000)
    server.queue.arrive(103)
    found = read(server)
    oldest = found.pop(("qmail_queue_oldest_message_timestamp_seconds",))
    assert abs(time.time() - 7000 - oldest) < 100
    newest = found.pop(("qmail_log_newest_line_timestamp_seconds",))
    assert abs(time.time() - newest) < 100
    outcomes = ("queued", "discarded", "triple_bounced", "swallowed", "stored", "forwarded", "deferred")
    assert found == {
        **{("qmail_double_bounces_total", ("outcome", outcome)): 0 for outcome in outcomes},
        ("qmail_delivery_delay_seconds_sum",): 0,
        ("qmail_delivery_delay_seconds_count",): 0,
        ("qmail_queue_messages", ("kind", "double_bounce")): 1,
        ("qmail_queue_messages", ("kind", "single_bounce")): 1,
        ("qmail_queue_messages", ("kind", "unprocessed")): 1,
        ("qmail_queue_messages", ("kind", "other")): 1,
        ("qmail_double_bounce_sink_holds",): 1,
        ("qmail_double_bounce_problems",): 0,
        ("qmail_send_up",): 1,
        ("qmail_send_restart_due",): 0,
        ("qmail_log_gaps_total",): 0,
    }


def test_the_counters_agree_with_the_report_and_go_on_over_rotations_and_restarts(server):
    read(server)
    server.bounce(5)
    server.bounce(3, end=b"success: did_1+0+0/")
    assert bounces(read(server)) == {"queued": 8, "swallowed": 5, "stored": 3}
    os.rename(server.path, f"{server.path}.1")
    server.bounce(2)
    server.start()
    assert bounces(read(server)) == {"queued": 10, "swallowed": 7, "stored": 3}
    assert bounces(read(server)) == {"queued": 10, "swallowed": 7, "stored": 3}
    summary = server.modules["qmail_log.summary"](str(server.path))
    assert (summary["double_bounces"], summary["swallowed"], summary["stored"]) == (10, 7, 3)
    server.say(b"double bounce: discarding bounce/7", b"triple bounce: discarding bounce/8")
    found = bounces(read(server))
    assert (found["discarded"], found["triple_bounced"]) == (1, 1)


def test_the_delay_of_ordinary_mail_is_a_summary(server):
    read(server)
    for number, waited in enumerate((0, 2, 4, 10, 30)):
        mail = b"info msg %d: bytes 9 from <joe@example.com> qp 7 uid 7" % number
        server.say(mail, b"starting delivery %d: msg %d to local joe@b.example" % (number, number), when=10**9)
        done = (b"delivery %d: success: did_1+0+0/" % number, b"end msg %d" % number)
        server.say(*done, when=10**9 + waited)
        read(server)  # what is on its way is known at the next reading, too
    found = read(server)
    own = {key[1:]: value for key, value in found.items() if key[0].startswith("qmail_delivery_delay_seconds")}
    assert own == {(("quantile", "0.5"),): 4, (("quantile", "0.95"),): 30, (): 5}
    assert found[("qmail_delivery_delay_seconds_sum",)] == 46
    assert found[("qmail_delivery_delay_seconds_count",)] == 5


def test_a_server_that_is_down_and_drifts(server):
    server.ctl("stop")
    server.sink.write_text("./Maildir/\n")
    found = read(server)
    assert found[("qmail_send_up",)] == 0
    assert found[("qmail_double_bounce_sink_holds",)] == 0
    assert found[("qmail_double_bounce_problems",)] >= 2
    assert ("qmail_send_restart_due",) not in found


def test_a_due_restart(server):
    server.home.write_control("doublebounceto", "other\n")
    assert read(server)[("qmail_send_restart_due",)] == 1


def test_what_is_not_known_is_absent_rather_than_0(server):
    shutil.rmtree(server.queue.path / "info")
    server.path.unlink()
    names = {key[0] for key in read(server)}
    assert names == {
        "qmail_double_bounce_sink_holds",
        "qmail_double_bounce_problems",
        "qmail_send_up",
        "qmail_send_restart_due",
    }


def test_without_a_pillar_nothing_is_said_about_the_sink(server):
    qmail = server.pillar["qmail_doublebounce"]["qmail"]
    text = server.modules["qmail_doublebounce.metrics"]({}, home=qmail["home"], log=qmail["log"])
    names = {key[0] for key in parsed(text)}
    assert "qmail_double_bounce_sink_holds" not in names
    assert "qmail_double_bounces_total" in names


def test_no_address_is_a_label(server):
    read(server)
    server.bounce(3, domain=b'evil"}\\.example')
    server.say(b"info msg 9: bytes 1 from <spammer@evil.example> qp 9 uid 9")
    text = server.modules["qmail_doublebounce.metrics"]()
    assert "@" not in text
    assert "evil" not in text
    assert set(re.findall(r'([a-z_]+)="', text)) <= {"outcome", "kind", "quantile"}


def test_a_wrong_pillar_is_an_error_in_words(server):
    with pytest.raises(salt.exceptions.SaltInvocationError, match="is not an address"):
        server.modules["qmail_doublebounce.metrics"]({"address": "dummy"})


def test_the_same_text_is_right_in_the_older_format_that_the_collector_reads(server):
    server.bounce(1)
    text = server.modules["qmail_doublebounce.metrics"]()
    older = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in prometheus(text)
        for sample in family.samples
    }
    assert older == parsed(text)
    assert text.endswith("# EOF\n")
    assert all(len(line.split("} ")[-1].split(" ")) <= 2 for line in text.splitlines() if line[0] != "#")  # no times


# The file


@pytest.fixture
def exported(server, tmp_path):
    """Apply the state, and return what it returned."""

    def exported(name=str(tmp_path / "qmail.prom"), test=False, **named):
        opts = {**server.opts, "test": test}
        utils, serializers = salt.loader.utils(opts), salt.loader.serializers(opts)
        server.count += 1
        states = salt.loader.states(
            opts, server.modules, utils, serializers, loaded_base_name=f"salt.exported{id(server)}x{server.count}"
        )
        return states["qmail_doublebounce.exported"](name, **named)

    return exported


def test_the_file_is_written_and_a_second_run_changes_nothing(server, exported, tmp_path):
    path = tmp_path / "qmail.prom"
    first = exported()
    assert (first["result"], first["comment"]) == (True, "It has the numbers of now.")
    assert 'qmail_double_bounces_total{outcome="queued"} 0' in first["changes"]["metrics"]["new"]
    assert os.stat(path).st_mode & 0o777 == 0o644
    assert path.read_text() == server.modules["qmail_doublebounce.metrics"]()
    before = os.stat(path)
    second = exported()
    assert (second["result"], second["changes"], second["comment"]) == (True, {}, "No number has changed.")
    after = os.stat(path)
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_file_that_was_somebodys_is_replaced_and_kept(server, exported, tmp_path):
    path = tmp_path / "qmail.prom"
    path.write_bytes(b"theirs\xff 1\n")
    assert exported()["changes"]["metrics"]["old"] == ["theirs\\xff 1"]
    assert server.modules["qmail_file.version"](str(path))["contents"] == b"theirs\xff 1\n"


def test_new_numbers_are_a_change_that_shows_them(server, exported):
    exported()
    server.bounce(4)
    changes = exported()["changes"]["metrics"]
    assert 'qmail_double_bounces_total{outcome="queued"} 0' in changes["old"]
    assert 'qmail_double_bounces_total{outcome="queued"} 4' in changes["new"]


def test_a_dry_run_says_what_the_run_then_does_and_writes_nothing(server, exported, minion_opts, tmp_path):
    exported()
    server.bounce(4)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    kept = {path: os.stat(path).st_mtime_ns for path in walked(minion_opts["qmail_file.kept_directory"])}
    dry = exported(test=True)
    assert dry["result"] is None
    assert dry["comment"] == "It would change."
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert {path: os.stat(path).st_mtime_ns for path in walked(minion_opts["qmail_file.kept_directory"])} == kept
    assert exported()["changes"] == dry["changes"]
    assert exported(test=True)["changes"] == {}


def test_a_dry_run_before_any_other_makes_nothing(exported, minion_opts, tmp_path):
    dry = exported(test=True)
    assert dry["result"] is None
    assert not (tmp_path / "qmail.prom").exists()
    assert walked(minion_opts["qmail_file.kept_directory"]) == []


def walked(directory):
    return [os.path.join(where, name) for where, _, names in os.walk(directory) for name in names]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/nowhere/here/qmail.prom", "its directory is missing"),
        ("/tmp/qmail.txt", "must end|ends in .prom"),
        ("qmail.prom", "absolute"),
        (7, "ends in .prom"),
    ],
)
def test_a_wrong_name_is_reported(exported, name, words):
    found = exported(name)
    assert (found["result"], found["changes"]) == (False, {})
    assert re.search(words, found["comment"])


def test_what_is_missing_is_said(server, exported):
    server.path.unlink()
    found = exported()
    assert found["result"] is True
    assert "Some are missing" in found["comment"]
    assert str(server.path) in found["comment"]


# node_exporter


@pytest.fixture
def exporter(tmp_path):
    """A real node_exporter, on this machine's own address, that serves what is in a directory and nothing else."""
    needs.skip_for(None if shutil.which(EXPORTER) else f"{EXPORTER} is not installed")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [
        EXPORTER,
        "--collector.disable-defaults",
        "--collector.textfile",
        f"--collector.textfile.directory={tmp_path}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}/metrics"
    finally:
        process.terminate()
        process.wait(30)


def served(url, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, "node_exporter does not answer"
            time.sleep(0.1)


def test_a_real_node_exporter_serves_what_was_written(server, exported, exporter, tmp_path):
    exported()
    server.bounce(6)
    exported()
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in prometheus(served(exporter))
        for sample in family.samples
    }
    assert found[("node_textfile_scrape_error",)] == 0
    own = {key: value for key, value in found.items() if key[0].startswith("qmail_")}
    assert own == parsed((tmp_path / "qmail.prom").read_text())
    assert own[("qmail_double_bounces_total", ("outcome", "queued"))] == 6
    assert not any(math.isnan(value) for value in own.values())


# What docs/watch.md hands out


def names_in(text):
    return set(re.findall(r"\bqmail_[a-z_]+", text))


def known(server):
    server.queue.put(100)
    read(server)
    words = (
        b"info msg 9: bytes 9 from <joe@example.com> qp 7 uid 7",
        b"starting delivery 9: msg 9 to local joe@b.example",
    )
    server.say(*words, b"delivery 9: success: did_1+0+0/")
    return {key[0] for key in read(server)}


def test_the_alert_rules_and_the_dashboard_use_metrics_that_there_are(server):
    there = known(server)
    rules = (REPOSITORY / "docs/watch/alerts.yml").read_text()
    expressions = [rule["expr"] for group in yaml.safe_load(rules)["groups"] for rule in group["rules"]]
    assert len(expressions) >= 7
    dashboard = (REPOSITORY / "docs/watch/dashboard.json").read_text()
    panels = yaml.safe_load(dashboard)["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    assert len(queries) >= 7
    for text in (*expressions, *queries):
        assert names_in(text) or "node_textfile_" in text, text
        assert names_in(text) <= there, text
    assert there - names_in("".join(queries)) == set()  # the dashboard shows all of them


def test_the_labels_that_they_select_are_those_of_the_code(server):
    known(server)
    there = set(re.findall(r'[a-z]+="[a-z_]+"', server.modules["qmail_doublebounce.metrics"]()))
    for name in ("alerts.yml", "dashboard.json"):
        text = (REPOSITORY / "docs/watch" / name).read_text().replace('\\"', '"')
        used = set(re.findall(r'(?:outcome|kind)=~?"[a-z_|]+"', text))
        for one in used:
            label, _, values = one.replace("=~", "=").partition("=")
            assert {f'{label}="{value}"' for value in values.strip('"').split("|")} <= there


def test_the_page_explains_every_metric_and_no_other(server):
    assert names_in((REPOSITORY / "docs/watch.md").read_text()) >= known(server)
