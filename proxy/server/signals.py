"""What signals mean: as to PgBouncer since 1.23, but for the time limits (docs/admin.md)."""

import signal
from typing import Final

from proxy.admin.console.control import Stop

SIGNALS: Final[dict[int, Stop]] = {
    signal.SIGTERM: "wait_for_clients",
    signal.SIGINT: "wait_for_servers",
    signal.SIGQUIT: "now",
}
