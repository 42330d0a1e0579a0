"""
This Python for a shell, a shebang or a unit, which stumble over blanks and quotes in a path: not that of ``.venv``,
which lies wherever somebody has the repository, and so without what is installed there.
"""

import json
import os
import sys

PATH = os.path.realpath(sys.executable)
# The one of ``.venv``, with all of that, for a unit: systemd itself starts no program whose path has a quote in it.
IN_A_UNIT = f"/usr/bin/env {json.dumps(sys.executable)}"
