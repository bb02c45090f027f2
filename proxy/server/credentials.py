"""What clients are checked against, made from the settings."""

from proxy.config.settings import AuthSettings
from proxy.wire.client_login import Credentials
from proxy.wire.scram import make_verifier


def make_credentials(settings: AuthSettings) -> Credentials | None:
    """The verifiers of all users; None: every client is trusted."""
    if settings.method == "trust":
        return None
    return Credentials(
        {
            user.name: make_verifier(user.password.get_secret_value())
            for user in settings.users
            if user.password is not None
        }
    )
