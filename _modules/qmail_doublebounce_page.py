"""
A report as one page of HTML: rendered from a template, and written whole.

The template is ``qmail-doublebounce/files/report.html.jinja``. All texts in it are escaped, and the page tells browsers
to load and run nothing but what its own hashes name.
"""

import base64
import hashlib
import os
import re
import tempfile
import time

import jinja2
import markupsafe
import salt.fileclient
from salt.exceptions import CommandExecutionError, SaltException, SaltInvocationError
from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

TEMPLATE = "qmail-doublebounce/files/report.html.jinja"
ENDING = ".html"
MARK = b"<!doctype html>\n<!-- qmail-doublebounce -->\n"  # a page begins so
MODE = 0o640
ENDS = ("swallowed", "discarded", "stored", "forwarded", "deferred", "triple_bounces")
UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
BREAK = re.compile(r"(?<=[.@])(?=.)")
UNKNOWN = "\N{EN DASH}"
HEIGHT = 20  # of a plot, in its own units


def check(path):
    """
    Raise SaltInvocationError unless a page may be written to a path: an absolute one that ends in ``.html``, in a
    directory, and if there is a file already, it has to be such a page. So whoever may ask for a report may not have
    root replace other files.

    path
        The path.

    For ``qmail_doublebounce_overview`` and the runner ``qmail_doublebounce_survey``.
    """
    if not isinstance(path, str) or not os.path.isabs(path) or not path.endswith(ENDING) or "\0" in path:
        raise SaltInvocationError(
            f"html={path!r} is not the path of a page: give an absolute one that ends in {ENDING}."
        )
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        raise SaltInvocationError(f"html={path!r}: there is no directory {directory}. Make it first.")
    if os.path.lexists(path) and not _is_page(path):
        raise SaltInvocationError(
            f"html={path!r} is there, but it is not a page of this report. Move it, or name another."
        )


def write(path, report):
    """
    Write a report as a page, in place of what was there, with mode 0640.

    Returns a dict: ``path`` and ``bytes``. Raises SaltInvocationError as ``check`` does, and CommandExecutionError if
    there is no template, or the page cannot be written.

    path
        An absolute path.

    report
        A dict: ``servers`` (rows, the worst first), ``totals``, ``since``, ``step``, ``made``, and ``of``, which says
        in a word or two what it is about.

    For ``qmail_doublebounce_overview`` and the runner ``qmail_doublebounce_survey``.
    """
    check(path)
    page = _render(report).encode("utf-8")
    try:
        _replace(path, page)
    except OSError as err:
        raise CommandExecutionError(f"Cannot write {path}: {err.strerror}.") from err
    return {"path": path, "bytes": len(page)}


def age(since, now):
    """
    Return how long ago something was, in its largest unit, such as ``3 d``.

    since, now
        Both in seconds since the epoch.

    For the runner ``qmail_doublebounce_table``.
    """
    seconds = max(0, int(now - since))
    name, size = next((unit for unit in UNITS if seconds >= unit[1]), UNITS[-1])
    return f"{seconds // size} {name}"


def ends(outcomes, most):
    """
    Return what most often became of double bounces: pairs of its name and its share of all ends.

    outcomes
        The ``day`` of a row, for example; ``None`` for none.

    most
        So many at most.

    For the runner ``qmail_doublebounce_table``.
    """
    ended = {key: number for key, number in (outcomes or {}).items() if key in ENDS and number}
    total = sum(ended.values())
    ranked = sorted(ended.items(), key=lambda item: -item[1])
    return [(key, _share(number, total)) for key, number in ranked[:most]]


def _render(report):
    place = os.path.dirname(_template())
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(place), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.undefined = jinja2.StrictUndefined
    environment.filters.update(
        age=age, bar=_bar, ends=ends, iso=_iso, name=_name, number=_number, part=_part, plot=_plot, sha256=_hash,
        span=_span, stamp=_stamp,
    )  # fmt: skip
    try:
        return environment.get_template(os.path.basename(TEMPLATE)).render(**report)
    except (jinja2.TemplateError, OSError, UnicodeDecodeError) as err:
        raise CommandExecutionError(f"Cannot render {TEMPLATE}: {err}") from err


def _is_page(path):
    if os.path.islink(path) or not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(len(MARK)) == MARK
    except OSError as err:
        raise SaltInvocationError(f"html={path!r} cannot be looked at: {err.strerror}.") from err


def _template():
    """Return where the template is: beside the modules in a checkout, else as Salt's file server has it."""
    beside = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), TEMPLATE)
    if os.path.isfile(beside):
        return beside
    opts = dict(__opts__)
    try:
        with salt.fileclient.get_file_client(opts) as client:
            cached = client.cache_file(f"salt://{TEMPLATE}", opts.get("saltenv") or "base")
    except (SaltException, OSError) as err:
        raise CommandExecutionError(f"Cannot get salt://{TEMPLATE}: {err}") from err
    if not cached:
        raise CommandExecutionError(
            f"There is no salt://{TEMPLATE}: add the formula to file_roots, or name it with --file-root."
        )
    return cached


def _replace(path, contents):
    """Put a file in the place of another at once: a reader sees the old one or the new one, whole."""
    directory = os.path.dirname(path)
    handle, temporary = tempfile.mkstemp(prefix=".report-", dir=directory)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, MODE)
            file.write(contents)
            file.flush()
            os.fsync(handle)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


# What the template calls


def _name(text):
    """Show a name or an address as text of its own direction, which may be broken after a dot or an @."""
    broken = BREAK.sub("<wbr>", str(markupsafe.escape(text)))
    return markupsafe.Markup(f"<bdi>{broken}</bdi>")  # noqa: S704 - it is escaped  # nosec B704


def _number(value):
    return UNKNOWN if value is None else f"{value:,}"


def _bar(number, largest):
    """Return a width of 1 to 100."""
    return max(1, round(number * 100 / largest))


def _stamp(moment, is_full=True):
    form = "%a %d %b %Y %H:%M %Z" if is_full else "%a %d %b %H:%M"
    return UNKNOWN if moment is None else time.strftime(form, time.localtime(moment))


def _iso(moment):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def _part(number, total):
    return _share(number, total) if number is not None and total else UNKNOWN


def _span(seconds):
    """Say for how long, in the largest unit of which there are two."""
    if seconds is None:
        return UNKNOWN
    name, size = next((unit for unit in UNITS if seconds >= 2 * unit[1]), UNITS[-1])
    return f"{seconds / size:.3g} {name}"


def _share(number, total):
    """Say a share so that only everything is everything."""
    percent = 100 * number / total
    if percent < 0.1:
        return "<0.1%"
    return ">99.9%" if 99.9 < percent < 100 else f"{percent:.3g}%"


def _plot(counts, height=HEIGHT):
    """Return the outline of a plot as an SVG path: a step to the right for each number, the largest reaches the top."""
    most = max([*counts, 1])
    path, level, run = [f"M0 {height}"], 0, 0
    for number in [*counts, 0]:
        # At least one step for every number above 0, so that a single double bounce is visible beside a flood.
        up = max(round(number * height / most), 1) if number else 0
        if up != level:
            path.append(f"h{run}v{level - up}" if run else f"v{level - up}")
            level, run = up, 0
        run += 1
    return f"{''.join(path)}z"


def _hash(text):
    return base64.b64encode(hashlib.sha256(str(text).encode("utf-8")).digest()).decode("ascii")
