"""The notes of a release: its section of the changelog."""

import re

UNRELEASED = "Unreleased"


def section(changelog, version):
    """
    Return the part of a changelog about a version, without its heading; ``None`` if there is none.

    changelog
        Text in the form of https://keepachangelog.com/en/1.1.0/.

    version
        Such as ``1.0.0``, or ``Unreleased``.
    """
    found = re.search(
        rf"^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## \[|^\[[^\]]+\]: |\Z)", changelog, re.MULTILINE | re.DOTALL
    )
    return found and found[1].strip() + "\n"


def of(changelog, version):
    """Return the notes, and whether they are those of this version: if not, they are of what is not released yet."""
    of_version = section(changelog, version)
    if of_version:
        return f"# qmail-doublebounce {version}\n\n{of_version}", True
    return f"# qmail-doublebounce {version}, a draft\n\n{section(changelog, UNRELEASED) or ''}", False
