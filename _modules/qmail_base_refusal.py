"""
What the system refuses, and what to do about it.

For the other modules of this formula: a missing right needs a different remedy than a full disk.
"""

import errno
import os

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

REMEDIES = {
    errno.ENOSPC: "Make room there.",
    errno.EDQUOT: "Make room there, or raise the quota.",
    errno.EROFS: "Mount it writable.",
}


def told(err):
    """
    Return what the system said, and the remedy if one is known, as sentences.

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
        remedy = "Even root is refused: see lsattr, the mount's options, and SELinux or AppArmor."
    return f"{said} {remedy}" if remedy else said
