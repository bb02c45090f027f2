"""All the process's TLS: of its clients, and of each node that it connects to."""

from collections.abc import Callable

from proxy.config.nodes import ServerKey, server_tls
from proxy.config.pooling import WILDCARD
from proxy.config.settings import Settings
from proxy.net.certificates import ClientTls, ServerTls
from proxy.net.dialing import Dialing


class Security:
    """TLS as the settings want it, with the files as they are now. Raises TlsError."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.clients = ClientTls(settings.client_tls)
        self._servers = {key: ServerTls(tls, section) for key, tls, section in server_tls(settings)}

    def dialing(self, database: str) -> Callable[[str, int, str], Dialing]:
        """By host, port and database there: how a server of `database` is reached.

        By these and not by a node's name: a node keeps its name where its place among the replicas
        changes.
        """
        tcp = self._settings.server_tcp
        return lambda *place: Dialing(self._server(database, *place), tcp)

    def _server(self, database: str, host: str, port: int, there: str) -> ServerTls:
        """A database on demand has the wildcard's servers, there under its own name."""
        for name, named in ((database, there), (WILDCARD, there), (WILDCARD, WILDCARD)):
            found = self._servers.get((name, host, port, named))
            if found is not None:
                return found
        raise LookupError(f"{database} has no server {host}:{port}")

    def prepare(self, settings: Settings | None = None) -> Callable[[], frozenset[str]]:
        """Read all files again, by other settings if there are any. What is in use for new
        connections changes when the outcome is called, which gives the databases (WILDCARD for
        those on demand) whose servers are to be reached in another way than before.

        Raises TlsError if anything can't be used. Servers that are new in `settings` can be dialed
        from that call on; of those that are gone nothing is closed.
        """
        wanted = settings or self._settings
        changes = [self.clients.load(wanted.client_tls)]
        before = {key: tls for key, tls, _ in server_tls(self._settings)}
        changed = set[str]()
        made: dict[ServerKey, ServerTls] = {}
        for key, tls, section in server_tls(wanted):
            known = self._servers.get(key)
            if known is None:
                made[key] = ServerTls(tls, section)
            else:
                changes.append(known.load(tls, section))
            if key in before and before[key] != tls:
                changed.add(key[0])

        def use() -> frozenset[str]:
            for change in changes:
                change()
            self._servers.update(made)
            self._settings = wanted
            return frozenset(changed)

        return use

    def refresh(self) -> None:
        """Read again what has changed. For once a second: it costs a `stat` of each file."""
        self.clients.refresh()
        for server in self._servers.values():
            server.refresh()
