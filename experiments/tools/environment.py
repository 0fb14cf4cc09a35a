"""A virtual environment of its own for a tool whose dependencies do not go with the project's pins."""

import subprocess
import venv
from pathlib import Path

from experiments.core.progress import console
from zeroq.errors import ZeroQError

ROOT = Path(__file__).parents[2]
FOLDER = Path("outputs/environments")


def python_of(environment: str, folder: Path = FOLDER) -> Path:
    """The interpreter of an environment, which is made anew where requirements-ENVIRONMENT.txt is not what it holds.

    Raises ZeroQError where pip cannot install it.
    """
    requirements = ROOT / f"requirements-{environment}.txt"
    place = folder.absolute() / environment
    python, installed = place / "bin" / "python", place / requirements.name
    if installed.exists() and installed.read_text() == requirements.read_text():
        return python
    console.print(
        f"{environment}: {requirements.name} is installed in {folder / environment}, once; this takes minutes"
    )
    venv.create(place, clear=True, with_pip=True)
    try:
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--requirement", requirements], check=True)
    except subprocess.CalledProcessError as error:
        raise ZeroQError(
            f"pip cannot install {requirements.name} for Python in {place}; its own lines say why"
        ) from error
    installed.write_text(requirements.read_text())  # last: an installation cut short never looks whole
    return python
