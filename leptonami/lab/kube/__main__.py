"""An API server alone: `python -m leptonami.lab.kube [SETTINGS]`; settings are one JSON object for `start`.

It prints one line of JSON (url, ca_pem, token, cluster), and ends with a signal, when its standard input closes, or
when its parent is gone.
"""

from __future__ import annotations

import json
import signal
import sys
import threading

from leptonami.lab.kube import start
from leptonami.lab.server import wait_for_end

__all__: list[str] = []


def main(arguments: list[str]) -> None:
    """Serve until the end."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    with start(**json.loads(arguments[0] if arguments else "{}")) as server:
        about = {"url": server.url, "ca_pem": server.ca_pem, "token": server.token, "cluster": server.cluster}
        sys.stdout.write(json.dumps(about) + "\n")
        sys.stdout.flush()
        wait_for_end(stop)


if __name__ == "__main__":
    main(sys.argv[1:])
