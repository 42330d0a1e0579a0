"""
Write an empty package for one that Salt can do without, and print the line that has pip and uv install it:

    python3 -m tests.support.left_out DIRECTORY

Salt asks for timelib, of which PyPI has no wheel for Linux: it takes gcc and Python's headers to install it. Salt
imports it only if it is there (``salt.utils.dateutils``), and the formula, the demo and the tests do not use it. The
version of the empty package is newer than any.
"""

import pathlib
import sys
import zipfile

NAME, VERSION = "timelib", "9999"
ABOUT = f"{NAME}-{VERSION}.dist-info"
FILES = {
    "METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\nSummary: Nothing: Salt does without\n",
    "WHEEL": "Wheel-Version: 1.0\nGenerator: qmail-doublebounce\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "RECORD": "".join(f"{ABOUT}/{name},,\n" for name in ("METADATA", "WHEEL", "RECORD")),
}


def lay(directory):
    """Write the empty package as a wheel into a directory, and return the line that asks for it."""
    path = pathlib.Path(directory).resolve() / f"{NAME}-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in FILES.items():
            wheel.writestr(f"{ABOUT}/{name}", text)
    return f"{NAME} @ {path.as_uri()}"


if __name__ == "__main__":
    print(lay(sys.argv[1]))
