"""
What the system refuses, and what to do about it.

For the other modules of this formula: "No such right" is mended otherwise than "no space left".
"""

import errno
import os

REMEDIES = {
    errno.ENOSPC: "Make room there.",
    errno.EDQUOT: "Make room there, or raise the quota.",
    errno.EROFS: "Mount it writable.",
}


def told(err):
    """
    Return what the system said, and the remedy where one is known, as sentences.

    err
        The error: an OSError.

    For all.
    """
    said = f"{getattr(err, 'strerror', None) or err}."
    if not isinstance(err, PermissionError):
        remedy = REMEDIES.get(getattr(err, "errno", None))
    elif os.geteuid() != 0:
        remedy = "Run Salt as root."
    else:
        remedy = "Root is refused it too: see lsattr, the mount's options, and SELinux or AppArmor."
    return f"{said} {remedy}" if remedy else said
