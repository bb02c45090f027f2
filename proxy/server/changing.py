"""New settings, as RELOAD and SET ask for them: of one process, or of several workers together."""

import asyncio
from collections.abc import Callable

import structlog

from proxy.config.assign import SettingError, assign
from proxy.config.problems import ConfigError
from proxy.config.settings import Settings
from proxy.server.parts import LIVE
from proxy.server.reload import is_live
from proxy.wire import errors
from proxy.wire.errors import PgError

log = structlog.get_logger(__name__)


async def read_again(read: Callable[[], Settings]) -> Settings:
    """What `read` finds now, beside the event loop. Raises PgError with every problem found."""
    try:
        return await asyncio.to_thread(read)
    except ConfigError as error:
        log.error("reload refused", problems=[str(one) for one in error.problems])
        raise PgError(
            errors.CONFIG_FILE_ERROR,
            "the configuration can't be used; the old one stays in force",
            "put right what DETAIL names; `penstock check` shows the same",
            str(error),
        ) from None


def assigned(settings: Settings, key: str, value: str) -> Settings:
    """`settings` with another value for `key`. Raises PgError if it can't be changed so."""
    try:
        path, changed = assign(settings, key, value)
    except SettingError as error:
        raise PgError(errors.INVALID_PARAMETER_VALUE, error.message, error.hint) from None
    if not is_live(path, LIVE):
        raise PgError(
            errors.CANT_CHANGE_RUNTIME_PARAM,
            f"{'.'.join(path)} can't be changed while Penstock runs",
            "change it in the configuration file and start Penstock again",
        )
    return changed
