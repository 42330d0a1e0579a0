"""The bill of materials, as CycloneDX: the packages, each file that gets onto a server, and what they need."""

import datetime
import hashlib
import uuid

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from packageurl import PackageURL
from packaging.requirements import Requirement

NAME = "qmail-doublebounce"
SPACE = uuid.UUID("6b0f4e3c-3f0e-5a63-9d3d-5b1f5a4e7f10")  # of the serial numbers


def text(version, packages, files, requirements, when):
    """
    Return it as JSON, checked against the schema of CycloneDX 1.6.

    packages, files
        Contents by name: what is released, and what of it gets onto servers.

    requirements
        What setup.cfg says has to be installed, as a list.

    when
        Seconds since the epoch.
    """
    bom = Bom(serial_number=uuid.uuid5(SPACE, version + "".join(map(_digest, packages.values()))))
    bom.metadata.timestamp = datetime.datetime.fromtimestamp(when, datetime.timezone.utc)
    licence = LicenseFactory().make_with_id("Apache-2.0")
    root = Component(
        name=NAME,
        version=version,
        type=ComponentType.APPLICATION,
        bom_ref=NAME,
        purl=PackageURL("pypi", None, NAME, version),
        licenses=[licence],
        components=[_file(name, contents) for name, contents in {**packages, **files}.items()],
    )
    bom.metadata.component = root
    needed = [_needed(Requirement(line)) for line in requirements]
    for one in needed:
        bom.components.add(one)
    bom.register_dependency(root, needed)
    from cyclonedx.validation.json import JsonStrictValidator  # takes seconds

    said = JsonV1Dot6(bom).output_as_string(indent=2) + "\n"
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(said)
    if wrong:
        raise ValueError(f"This is not CycloneDX: {wrong}")
    return said


def _file(name, contents):
    sums = [HashType(alg=HashAlgorithm.SHA_256, content=_digest(contents))]
    return Component(name=name, type=ComponentType.FILE, bom_ref=f"{NAME}:{name}", hashes=sums)


def _needed(requirement):
    """Which version is there is up to the server: the range that is asked for is said as a property."""
    return Component(
        name=requirement.name,
        type=ComponentType.LIBRARY,
        bom_ref=requirement.name,
        purl=PackageURL("pypi", None, requirement.name),
        scope=ComponentScope.REQUIRED,
        properties=[Property(name="version range", value=str(requirement.specifier))],
    )


def _digest(contents):
    return hashlib.sha256(contents).hexdigest()
