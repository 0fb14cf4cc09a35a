"""Obtain Fashion-MNIST from whichever source answers.

python -m experiments.obtain_data [FOLDER]
"""

import sys
from pathlib import Path

from zeroq.datasets.fashion_mnist import obtain
from zeroq.errors import ZeroQError


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "data")
    try:
        obtain(folder)
    except ZeroQError as error:
        sys.exit(f"error: {error}")
    print(f"Fashion-MNIST is in {folder}")


if __name__ == "__main__":
    main()
