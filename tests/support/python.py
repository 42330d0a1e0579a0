"""
This Python for a shell, a shebang or a unit, which stumble over blanks and quotes in a path: not that of ``.venv``,
which lies wherever somebody has the repository, and so without what is installed there.
"""

import os
import sys

PATH = os.path.realpath(sys.executable)
