"""
Build what people install into dist/, from the last commit:

    python -m release
"""

import hashlib
import pathlib
import shutil
import subprocess
import sys
import tempfile

import qmail_doublebounce_formula
from release import notes, packages, sbom, tree
from tests.support import requirements

DIST = tree.REPOSITORY / "dist"


def main():
    if tree.uncommitted():
        sys.exit(f"A release is made of what is committed. Commit or stash this first:\n{tree.uncommitted()}")
    version, when, names = qmail_doublebounce_formula.version(), tree.committed(), tree.tracked()
    with tempfile.TemporaryDirectory(prefix="release-") as place:
        made = everything(pathlib.Path(place), version, when, names)
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    for name, contents in made.items():
        (DIST / name).write_bytes(contents)
    for_python = [*DIST.glob("*.whl"), *DIST.glob("qmail_*.tar.gz")]
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *for_python], check=True)
    print(f"\nIn {DIST}:\n{made['SHA256SUMS'].decode()}", end="")
    for line in drafts(version):
        print(line)


def everything(place, version, when, names, root=tree.REPOSITORY):
    """Return the contents of all that is released by file name; ``place`` is an empty directory to work in."""
    made = packages.build(place, names, when, root)
    served = {name: (root / name).read_bytes() for name in filter(tree.served, names)}
    made[f"{qmail_doublebounce_formula.FORMULA}-{version}.cdx.json"] = sbom.text(
        version, made, served, requirements.of(), when
    ).encode()
    said, _ = notes.of((root / "CHANGELOG.md").read_text(), version)
    made["RELEASE_NOTES.md"] = said.encode()
    sums = [f"{hashlib.sha256(contents).hexdigest()}  {name}\n" for name, contents in sorted(made.items())]
    return {**made, "SHA256SUMS": "".join(sums).encode()}


def drafts(version):
    """Yield what this lacks before it is a release."""
    _, is_of_version = notes.of((tree.REPOSITORY / "CHANGELOG.md").read_text(), version)
    if not is_of_version:
        yield f"A draft: CHANGELOG.md has no section {version}, so that the notes are those of what is unreleased."
    if not tree.is_tagged(version):
        yield f"A draft: the commit has no tag v{version}."


if __name__ == "__main__":
    try:
        main()
    except tree.Unreleasable as err:
        sys.exit(str(err))
