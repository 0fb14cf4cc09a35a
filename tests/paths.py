"""Where the repository and its data lie."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data"
RESULTS = ROOT / "results"
