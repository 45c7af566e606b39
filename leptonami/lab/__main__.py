"""The lab's child process: `python -m leptonami.lab SETTINGS`."""

from __future__ import annotations

import sys

from leptonami.lab.server import main

if __name__ == "__main__":
    main(sys.argv[1:])
