"""What setup.cfg cannot say: each folder that Salt serves is part of the package, whichever there are."""

import pathlib

import setuptools

PACKAGE = "qmail_doublebounce_formula"
FORMULA = "qmail-doublebounce"
HERE = pathlib.Path(__file__).resolve().parent
FOLDERS = [*sorted(folder.name for folder in HERE.glob("_[!_]*") if folder.is_dir()), FORMULA]

setuptools.setup(
    packages=[PACKAGE, *(f"{PACKAGE}.{folder}" for folder in FOLDERS)],
    package_dir={f"{PACKAGE}.{folder}": folder for folder in FOLDERS},
    package_data={f"{PACKAGE}.{FORMULA}": ["**/*"]},
)
