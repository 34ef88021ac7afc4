"""Whether the packages that the node needs are there, in versions that it was made for."""

import configparser
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

SETUP = Path(__file__).parent.parent / "setup.cfg"


@dataclass(frozen=True, slots=True)
class Misfit:
    """A package that is missing or outside its bounds."""

    name: str
    found: str
    """Its version; empty: it is not there."""
    bounds: str

    def __str__(self) -> str:
        return f"{self.name} {self.found or 'is missing'} (needs {self.bounds})"


def needed() -> list[Requirement]:
    """What this machine needs: from setup.cfg in a checkout, else from what was installed."""
    if SETUP.is_file():
        options = configparser.ConfigParser()
        options.read(SETUP)
        lines = options["options"]["install_requires"].splitlines()
    else:
        lines = metadata.requires("exo_actors") or []
    wanted = [Requirement(line) for line in lines if line.strip()]
    return [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]


def misfits(requirements: list[Requirement]) -> list[Misfit]:
    """Those of the requirements that are not met."""
    found = [(requirement, _version(requirement.name)) for requirement in requirements]
    return [
        Misfit(requirement.name, version, str(requirement.specifier))
        for requirement, version in found
        if not version or not requirement.specifier.contains(version, prereleases=True)
    ]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
