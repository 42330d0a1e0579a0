"""What make lacks on a machine is said in one line, with the remedy, and what it installs is what setup.cfg says."""

import importlib.metadata
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.support import left_out, minion, python, ready, requirements

PYTHON = f"#!/bin/sh\nexec {python.PATH} -S -c '{{}}' \"$@\"\n"
RUN = '; import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name="__main__")'
OLD = "import sys; sys.version_info = (3, 8, 20)" + RUN
NO_NETWORK = f"""#!/bin/sh
case "$*" in
*"-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
*"-m pip"*) echo "ERROR: No matching distribution found" >&2; exit 1 ;;
*) exec {python.PATH} "$@" ;;
esac
"""
WITHOUT_VENV = 'import importlib.util, sys; importlib.util.find_spec = lambda name: name != "ensurepip"' + RUN


@pytest.fixture
def make(tmp_path):
    """Run make in a directory that has what it needs until then, with a Python, and return its status and messages."""
    if not shutil.which("make"):
        pytest.fail("these tests need make")
    place = tmp_path / "a place with blanks"
    (place / "tests/support").mkdir(parents=True)
    for name in (
        "Makefile",
        "setup.cfg",
        *(f"tests/support/{name}.py" for name in ("left_out", "ready", "requirements")),
    ):
        shutil.copy(minion.REPOSITORY / name, place / name)

    def make(program, target="demo"):
        # Without uv, which needs neither venv nor ensurepip.
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
        command = ["make", "--no-print-directory", target, f"PYTHON={program}"]
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
        assert not (place / ".venv/salt").exists(), "It would not be tried again."
        return done.returncode, [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]

    return make


def pretended(tmp_path, code):
    path = tmp_path / "python"
    path.write_text(PYTHON.format(code))
    path.chmod(0o755)
    return path


def test_an_old_python_is_named_with_its_version(make, tmp_path):
    status, (line,) = make(pretended(tmp_path, OLD))
    assert status
    assert line == "Python 3.10 or newer is needed, and this one is 3.8.20. Name another: make PYTHON=python3.12 ..."


def test_a_python_without_venv_is_named_with_what_to_install(make, tmp_path):
    status, (line,) = make(pretended(tmp_path, WITHOUT_VENV), "test")
    assert status
    assert "apt install python3-venv" in line


def test_no_python_at_all_is_said(make):
    status, (line,) = make("/nowhere/python3")
    assert status
    assert line.startswith("There is no /nowhere/python3. Install Python 3.10 or newer")


def test_what_cannot_be_installed_is_said_at_the_end(make, tmp_path):
    """As where there is no network at the first run."""
    (tmp_path / "python").write_text(NO_NETWORK)
    (tmp_path / "python").chmod(0o755)
    status, (pip, line) = make(tmp_path / "python")
    assert status
    assert pip == "ERROR: No matching distribution found"
    assert line.startswith("Cannot install what setup.cfg asks for. The first run needs PyPI")


def test_a_directory_that_is_not_writable_is_named(tmp_path):
    assert ready.lacks(needs_venv=False, place=tmp_path / "nowhere").startswith(f"{tmp_path}/nowhere is not writable")


def test_this_python_and_this_directory_are_fine(tmp_path):
    assert ready.lacks(needs_venv=False, place=tmp_path) is None


@pytest.mark.parametrize(
    ("version", "is_enough"), [((2, 7, 18), False), ((3, 9, 18), False), ((3, 10, 0), True), ((4, 0, 0), True)]
)
def test_three_ten_is_enough(version, is_enough, tmp_path):
    assert (ready.lacks(version, needs_venv=False, place=tmp_path) is None) is is_enough


def test_the_message_about_an_old_python_can_be_read_by_an_old_python():
    """It must compile there; what came after Python 3.0 is left out."""
    source = (minion.REPOSITORY / "tests/support/ready.py").read_text(encoding="utf-8")
    code = compile(source, "ready.py", "exec")
    assert source.isascii()
    assert "f'" not in source
    assert 'f"' not in source
    assert code


def test_what_is_installed_is_what_setup_cfg_says_and_not_the_project():
    assert requirements.of() == ["salt>=3006"]
    assert "pytest>=8" in requirements.of("tests")
    for extra in (None, "tests", "lint", "matrix", "mutants", "release"):
        assert not any("doublebounce" in line for line in requirements.of(extra))
    makefile = (minion.REPOSITORY / "Makefile").read_text()
    assert "$(INSTALL) -r" in makefile
    assert "$(INSTALL) ." not in makefile
    assert pathlib.Path(requirements.SETUP) == minion.REPOSITORY / "setup.cfg"


def test_in_place_of_what_takes_a_compiler_an_empty_package_is_installed(tmp_path):
    place, site = tmp_path / "someone's place with blanks", tmp_path / "site"
    place.mkdir()
    words = ["-qq", "--disable-pip-version-check", "--no-index", "--target", site]
    subprocess.run([sys.executable, "-m", "pip", "install", *words, left_out.lay(place)], check=True, timeout=100)
    (found,) = importlib.metadata.distributions(path=[str(site)])
    assert (found.name, int(found.version)) == ("timelib", 9999)
    assert [path.name for path in site.iterdir()] == ["timelib-9999.dist-info"]


def test_what_is_installed_is_made_of_both(make, tmp_path):
    """What setup.cfg says, and the empty package, which only the first target brings."""
    (tmp_path / "python").write_text(NO_NETWORK)
    (tmp_path / "python").chmod(0o755)
    make(tmp_path / "python")
    (asked,) = tmp_path.glob("*/.venv/salt.txt")
    first, second = asked.read_text().splitlines()
    assert first == "salt>=3006"
    assert second.startswith("timelib @ file:///")
    assert (asked.parent / "timelib-9999-py3-none-any.whl").exists()
