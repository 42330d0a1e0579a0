"""Known problems of what is installed fail, and so does a database that does not answer, unless that is allowed."""

import http.server
import importlib.util
import json
import threading

import pytest

from tests.support import audit, left_out, needs

KNOWN = {
    "id": "PYSEC-1",
    "summary": "Anybody may.",
    "affected": [
        {
            "package": {"name": "wrong", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.2"}]}],
            "versions": ["1.1"],
        }
    ],
}


class Database(http.server.BaseHTTPRequestHandler):
    """A stand-in that knows one package, and one page."""

    def do_GET(self):
        self.send_response(200 if self.path == "/pip/json" else 404)
        self.end_headers()

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = [KNOWN] if asked["package"]["name"] == "wrong" and asked["version"] == "1.1" else []
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"vulns": known}).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def database():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Database) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def asking(database, capfd, monkeypatch, tmp_path):
    """Ask the stand-in by pip-audit, and return its exit status and what it shows."""
    needs.skip_for(None if importlib.util.find_spec("pip_audit") else "pip-audit is not installed: make lint does that")
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path))

    def asking(*requirements):
        status = audit.ask(requirements, "--vulnerability-service=osv", f"--osv-url={database}/query")
        return status, capfd.readouterr().out

    return asking


def test_a_known_problem_fails_and_is_shown_with_the_version_that_has_it_no_more(asking):
    status, shown = asking("fine==1.1", "wrong==1.1")
    assert status != 0
    assert "PYSEC-1" in shown and "1.2" in shown and "fine" not in shown


def test_where_nothing_is_known_it_passes(asking):
    status, shown = asking("fine==1.1", "wrong==1.2")
    assert (status, shown) == (0, "")


def test_all_that_is_installed_is_asked_for(database, monkeypatch):
    asked = []
    monkeypatch.setattr(audit, "ask", lambda names, *options: asked.append((names, options)) or 7)
    assert audit.main("--where-possible", "--ignore-vuln=X", database=f"{database}/pip/json") == 7
    ((names, options),) = asked
    assert options == ("--ignore-vuln=X",)
    assert any(name.startswith("salt==") for name in names)
    assert not any(name.startswith((f"{left_out.NAME}==", "qmail-doublebounce==")) for name in names)


@pytest.fixture(params=["a page that is not there", "nobody listens"])
def silent(request, database):
    """Where no database answers."""
    if request.param == "nobody listens":
        with http.server.HTTPServer(("127.0.0.1", 0), Database) as server:
            return f"http://127.0.0.1:{server.server_port}/"
    return f"{database}/pip/24.0/json"


def test_a_database_that_does_not_answer_is_named_and_fails(silent, monkeypatch):
    monkeypatch.setattr(audit, "ask", lambda *_: pytest.fail("there is nobody to ask"))
    said = audit.main(database=silent)
    assert f"no answer from {silent}" in said


def test_it_is_no_failure_where_that_is_allowed(silent, monkeypatch, capsys):
    monkeypatch.setattr(audit, "ask", lambda *_: pytest.fail("there is nobody to ask"))
    assert audit.main("--where-possible", database=silent) == 0
    assert "Not asked for known problems of the" in capsys.readouterr().out
