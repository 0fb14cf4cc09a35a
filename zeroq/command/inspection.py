"""``zeroq inspect``: what a file holds."""

from pathlib import Path

from zeroq.command.presentation import results, show_contents
from zeroq.export.contents import contents


def inspect(path: Path) -> None:
    """Show a file's plan, scales and metadata; raises ZeroQError for a file that is not of ``export_onnx``."""
    show_contents(path, contents(path), results())
