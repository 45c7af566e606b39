"""The machines of the embedded AWS: folders that behave like instances, in which provisioning scripts really run.

Everything here is simulated. What is true of these machines: files are really written, scripts really run, and a
script that forgets something leaves a machine without it. What is not: there is no kernel, no GPU, no registry and no
package archive behind them, only stand-ins which keep believable state (see `tools.py`).
"""

from __future__ import annotations

from leptonami.lab.node.life import copy, first_boot, reboot, stop
from leptonami.lab.node.machine import Machine
from leptonami.lab.node.sandbox import Execution, run, sandbox, start
from leptonami.lab.node.seeds import seed

__all__ = ["Execution", "Machine", "copy", "first_boot", "reboot", "run", "sandbox", "seed", "start", "stop"]
