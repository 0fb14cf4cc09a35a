"""``python -m zeroq``."""

import sys

from zeroq.command.main import main

if __name__ == "__main__":
    sys.exit(main())
