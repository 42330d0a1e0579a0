"""
Print the line that has pip and uv install an empty package for one that Salt can do without, and write it to a directory:

    python3 -m tests.support.left_out DIRECTORY

Salt asks for timelib, of which PyPI has no wheel for Linux: to install it takes gcc and Python's headers. Salt itself does
without where it is missing (``salt.utils.dateutils``), and so do the formula, the demo and the tests. An empty package stands
for it, with a number that is newer than any.
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
