"""Archives that are the same, byte by byte, whenever and by whomever they are made of the same files."""

import bz2
import gzip
import io
import tarfile

DIRECTORY = 0o755


def gzipped(members, when):
    """Return a tar archive, packed by gzip, as bytes. ``members``: contents and mode by path; ``when``: seconds."""
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=when) as file:
        file.write(tar(members, when))
    return packed.getvalue()


def bzipped(members, when):
    """Return the same, packed by bzip2: what ``spm`` reads."""
    return bz2.compress(tar(members, when))


def tar(members, when):
    """Return a tar archive of files and of the directories above them: sorted, all of root's, all of one time."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        made = set()
        for name, (contents, mode) in sorted(members.items()):
            for place in _above(name):
                if place not in made:
                    made.add(place)
                    archive.addfile(_about(place, when, DIRECTORY, tarfile.DIRTYPE))
            about = _about(name, when, mode, tarfile.REGTYPE)
            about.size = len(contents)
            archive.addfile(about, io.BytesIO(contents))
    return raw.getvalue()


def below(root, top, names):
    """Return files as members of an archive: those of a directory, below another name. The mode is 0644 or 0755."""
    paths = {f"{top}/{name}": root / name for name in names}
    return {name: (path.read_bytes(), 0o644 | path.stat().st_mode & 0o111) for name, path in paths.items()}


def repacked(archive, when, own):
    """
    Return a gzipped archive in that form: setuptools writes the time of the build into its own.

    own
        Contents by path, for what setuptools writes in its own way: setup.cfg, without the comments.
    """
    with tarfile.open(archive) as found:
        files = [about for about in found if about.isfile()]
        members = {about.name: (found.extractfile(about).read(), 0o644 | about.mode & 0o111) for about in files}
    members.update({name: (contents, members[name][1]) for name, contents in own.items()})
    return gzipped(members, when)


def _above(name):
    parts = name.split("/")[:-1]
    return ["/".join(parts[: number + 1]) for number in range(len(parts))]


def _about(name, when, mode, kind):
    about = tarfile.TarInfo(name)
    about.mtime, about.mode, about.type = when, mode, kind
    about.uname = about.gname = "root"
    return about
