"""Publishing images: copies, permissions, parameters, fast launch.

`publishing.publish` does it, `publishing.outline` says what it would do, `fastlaunch.choices` says what each way to
launch fast costs and buys.
"""

from __future__ import annotations
