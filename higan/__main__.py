"""``python -m higan``."""

import sys

from higan.cli import main

if __name__ == "__main__":
    sys.exit(main())
