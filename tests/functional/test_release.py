"""What make release builds: the same bytes whoever builds it, and exactly the tracked files that belong into each."""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
import yaml

import qmail_doublebounce_formula
from release import archive, notes, packages, sbom, tree
from tests.support import minion, needs

WHEN = 1_700_000_001  # an odd second: a zip archive has only even ones
VERSION = qmail_doublebounce_formula.version()
WHEEL = f"qmail_doublebounce-{VERSION}-py3-none-any.whl"
SOURCE = f"qmail_doublebounce-{VERSION}.tar.gz"
SPM = f"qmail-doublebounce-{VERSION}-{yaml.safe_load((minion.REPOSITORY / 'FORMULA').read_text())['release']}.spm"
TARBALL = f"qmail-doublebounce-formula-{VERSION}.tar.gz"
LINK = re.compile(r"\]\(([^)\s#]+)[^)\s]*\)")


@pytest.fixture(scope="module")
def names():
    """The tracked files of the repository, as it is now: those that were deleted without a commit are left out."""
    needs.skip_for(None if shutil.which("git") and (minion.REPOSITORY / ".git").exists() else "this is no git checkout")
    return [name for name in tree.tracked() if (minion.REPOSITORY / name).exists()]


@pytest.fixture(scope="module")
def built(names, tmp_path_factory):
    return packages.build(tmp_path_factory.mktemp("built"), names, WHEN)


def members(contents):
    """Return the files of an archive, without the directory that they all are in: their contents by name."""
    if contents[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(contents)) as archive:
            return {about.filename: archive.read(about) for about in archive.infolist()}
    with tarfile.open(fileobj=io.BytesIO(contents)) as archive:
        files = {about.name: archive.extractfile(about).read() for about in archive if about.isfile()}
    (top,) = {name.partition("/")[0] for name in files}
    return {name[len(top) + 1 :]: contents for name, contents in files.items()}


def of_the_tree(names):
    return {name: (minion.REPOSITORY / name).read_bytes() for name in names}


def test_the_same_bytes_come_from_another_checkout_at_another_time(names, built, tmp_path):
    """Of another user's, elsewhere, with other modes and times, and a day later."""
    checkout = tmp_path / "another checkout"
    for name in reversed(names):
        to = checkout / name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(minion.REPOSITORY / name, to)
        to.chmod(0o700 if os.access(minion.REPOSITORY / name, os.X_OK) else 0o600)
        os.utime(to, (0, 86400))
    code = (
        "import os, pathlib, sys, time; from release import packages, tree; os.umask(0o077); names = sys.stdin.read()"
    )
    code += "\nmade = packages.build(pathlib.Path('work').absolute(), sorted(names.split('\\0')), int(sys.argv[1]))"
    code += "\nfor name, contents in made.items(): pathlib.Path(name).write_bytes(contents)"
    place = tmp_path / "out"
    place.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(checkout), "TZ": "Pacific/Auckland", "LC_ALL": "C"}
    command = [sys.executable, "-c", code, str(WHEN)]
    done = subprocess.run(
        command, cwd=place, env=environment, input="\0".join(names), text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    again = {name: (place / name).read_bytes() for name in built}
    assert [name for name in built if again[name] != built[name]] == []


def test_the_wheel_holds_what_salt_serves_and_nothing_else(names, built):
    found = members(built[WHEEL])
    ours = {
        f"qmail_doublebounce_formula/{name}": (minion.REPOSITORY / name).read_bytes()
        for name in names
        if tree.served(name)
    }
    ours.update(of_the_tree(name for name in names if name.startswith("qmail_doublebounce_formula/")))
    about = {name: contents for name, contents in found.items() if ".dist-info/" in name}
    assert {name: contents for name, contents in found.items() if name not in about} == ours
    (text,) = (contents.decode() for name, contents in about.items() if name.endswith("/METADATA"))
    assert f"\nVersion: {VERSION}\n" in text
    assert "\nRequires-Dist: salt>=3006\n" in text


def test_the_source_archive_holds_all_that_is_tracked(names, built):
    found = members(built[SOURCE])
    made = {name for name in found if name == "PKG-INFO" or ".egg-info/" in name}
    assert {name: found[name] for name in found if name not in made} == of_the_tree(names)


def test_the_spm_package_and_the_tarball_hold_what_belongs(names, built):
    assert members(built[SPM]) == of_the_tree(filter(tree.in_formula, names))
    found = members(built[TARBALL])
    assert found == of_the_tree(filter(tree.in_tarball, names))
    assert {"qmail-doublebounce/init.sls", "_modules/qmail_file.py", "pillar.example", "docs/operate.md"} <= set(found)
    assert not any(name.startswith(("tests/data", "tests/unit", "demo/", ".")) for name in found)


def test_every_link_between_the_pages_of_the_tarball_leads_somewhere(built):
    found = members(built[TARBALL])
    for name, contents in found.items():
        if not name.endswith(".md"):
            continue
        for link in LINK.findall(re.sub(r"^ *```.*?^ *```$", "", contents.decode(), flags=re.MULTILINE | re.DOTALL)):
            target = os.path.normpath(os.path.join(os.path.dirname(name), link))
            leads = link.startswith(("https://", "http://")) or any(one.startswith(target) for one in found)
            assert leads, f"{name}: {link}"


def test_archives_belong_to_root_and_their_directories_are_open_to_all(built):
    for name in (SPM, TARBALL, SOURCE):
        with tarfile.open(fileobj=io.BytesIO(built[name])) as found:
            for about in found:
                assert (about.uid, about.gid, about.uname, about.mtime) == (0, 0, "root", WHEN)
                assert about.mode in ((0o755,) if about.isdir() else (0o644, 0o755))
                assert about.isfile() or about.isdir()


def test_the_packages_are_named_after_the_version(built):
    assert set(built) == {WHEEL, SOURCE, SPM, TARBALL}
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)


def test_an_archive_is_the_same_whatever_the_order_of_its_files():
    files = {f"a/{name}": (name.encode(), 0o644) for name in ("c", "b/d", "b.e")}
    back = dict(reversed(list(files.items())))
    assert archive.gzipped(files, WHEN) == archive.gzipped(back, WHEN)
    with tarfile.open(fileobj=io.BytesIO(archive.bzipped(files, WHEN))) as found:
        assert found.getnames() == ["a", "a/b.e", "a/b", "a/b/d", "a/c"]


@pytest.fixture
def copy(names, tmp_path):
    """The tracked files, all committed, in a checkout of their own, and what git and ``make release`` say there."""
    tree.stage(names, tmp_path / "copy", WHEN)

    def copy(*command):
        who = {
            f"GIT_{role}_{what}": "test@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        environment = {**os.environ, **who, "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            command, cwd=tmp_path / "copy", env=environment, capture_output=True, text=True, check=False
        )

    for words in (("init", "-q"), ("add", "--all"), ("commit", "-qm", "One")):
        assert copy("git", *words).returncode == 0
    copy.path = tmp_path / "copy"
    return copy


def test_a_release_is_all_of_it_with_sums_that_hold_and_what_it_lacks_is_said(copy, tmp_path):
    told = copy(sys.executable, "-m", "release")
    assert told.returncode == 0, told.stdout + told.stderr
    dist = copy.path / "dist"
    bill = f"qmail-doublebounce-{VERSION}.cdx.json"
    assert {path.name for path in dist.iterdir()} == {
        WHEEL,
        SOURCE,
        SPM,
        TARBALL,
        bill,
        "RELEASE_NOTES.md",
        "SHA256SUMS",
    }
    assert told.stdout.count("PASSED") == 2  # twine, of the wheel and of the source archive
    sums = (dist / "SHA256SUMS").read_text()
    assert sums.splitlines() == [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}"
        for path in sorted(dist.iterdir())
        if path.name != "SHA256SUMS"
    ]
    assert told.stdout.endswith(f"{sums}A draft: the commit has no tag v{VERSION}.\n")
    assert (dist / "RELEASE_NOTES.md").read_text().startswith(f"# qmail-doublebounce {VERSION}\n")

    copy("git", "tag", f"v{VERSION}")
    before = {path.name: path.read_bytes() for path in dist.iterdir()}
    again = copy(sys.executable, "-m", "release")
    assert again.stdout.endswith(sums)
    assert {path.name: path.read_bytes() for path in dist.iterdir()} == before


def test_what_is_not_committed_is_not_released(copy):
    (copy.path / "_modules/qmail_new.py").touch()
    told = copy(sys.executable, "-m", "release")
    assert told.returncode == 1
    assert told.stderr == (
        "A release is made of what is committed. Commit or stash this first:\n?? _modules/qmail_new.py\n"
    )
    assert not (copy.path / "dist").exists()


CHANGES = """# Changelog

## [Unreleased]

### Added

- Three.

## [2.0.0] - 2027-01-02

### Added

- Two.

## [1.0.0] - 2026-12-01

- One.

[1.0.0]: https://example.com/1.0.0
"""


@pytest.mark.parametrize(
    ("version", "text", "is_of_version"),
    [
        ("2.0.0", "# qmail-doublebounce 2.0.0\n\n### Added\n\n- Two.\n", True),
        ("1.0.0", "# qmail-doublebounce 1.0.0\n\n- One.\n", True),
        ("2.1.0", "# qmail-doublebounce 2.1.0, a draft\n\n### Added\n\n- Three.\n", False),
        ("2.0", "# qmail-doublebounce 2.0, a draft\n\n### Added\n\n- Three.\n", False),
    ],
)
def test_the_notes_are_the_section_of_the_changelog(version, text, is_of_version):
    assert notes.of(CHANGES, version) == (text, is_of_version)


def test_the_changelog_has_notes_for_what_comes_next():
    text, _ = notes.of((minion.REPOSITORY / "CHANGELOG.md").read_text(), VERSION)
    assert "### Added" in text


@pytest.fixture
def checkout(tmp_path):
    """A git repository with one file in it, and a commit."""
    if not shutil.which("git"):
        pytest.skip("there is no git")
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.com")
    (tmp_path / "file").write_text("text\n")
    for words in (("init", "-q"), ("add", "file"), (*who, "commit", "-qm", "One")):
        subprocess.run(
            ["git", "-C", tmp_path, *words], check=True, env={**os.environ, "GIT_COMMITTER_DATE": f"{WHEN} +0200"}
        )
    return tmp_path


def test_what_is_not_committed_is_seen(checkout):
    assert tree.uncommitted(checkout) == ""
    assert tree.tracked(checkout) == ["file"]
    assert tree.committed(checkout) == WHEN
    (checkout / "new").touch()
    assert tree.uncommitted(checkout) == "?? new"
    assert tree.tracked(checkout) == ["file"]


def test_a_tag_makes_a_release(checkout):
    subprocess.run(["git", "-C", checkout, "tag", "v1.0.0"], check=True)
    assert tree.is_tagged("1.0.0", checkout)
    assert not tree.is_tagged("1.0", checkout)


def test_without_a_checkout_or_git_one_line_says_so(tmp_path, monkeypatch):
    with pytest.raises(tree.Unreleasable, match="made from a git checkout"):
        tree.tracked(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(tree.Unreleasable, match="there is no git"):
        tree.tracked(minion.REPOSITORY)


def test_the_bill_of_materials_names_each_file_and_each_requirement(names, built):
    served = of_the_tree(filter(tree.served, names))
    text = sbom.text(VERSION, built, served, ["salt>=3006"], WHEN)
    assert text == sbom.text(VERSION, built, served, ["salt>=3006"], WHEN)
    bom = json.loads(text)
    about = bom["metadata"]["component"]
    assert (about["name"], about["version"], about["purl"]) == (
        "qmail-doublebounce", VERSION, f"pkg:pypi/qmail-doublebounce@{VERSION}"
    )  # fmt: skip
    sums = {one["name"]: one["hashes"][0]["content"] for one in about["components"]}
    assert sums == {name: hashlib.sha256(contents).hexdigest() for name, contents in {**built, **served}.items()}
    assert [one["name"] for one in bom["components"]] == ["salt"]
    assert {"ref": "qmail-doublebounce", "dependsOn": ["salt"]} in bom["dependencies"]
    assert bom["metadata"]["timestamp"].startswith("2023-11-14T22:13:21")
