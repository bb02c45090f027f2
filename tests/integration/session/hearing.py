"""What a client that listens hears: notifications as values, and an end to wait for."""

from tests.integration.session.raw import Message, RawClient, Reply
from tests.proxies import Proxy

Heard = tuple[str, str]
"""(channel, payload)"""

TWO_BACKENDS = '[pool]\nsize = 2\nwait_timeout = "5s"\n'


def notification(message: Message) -> Heard:
    """Of a NotificationResponse."""
    channel, payload, _ = message.body[4:].split(b"\0")
    return channel.decode(), payload.decode()


def heard_in(*replies: Reply) -> list[Heard]:
    """In answers, in order."""
    messages = (message for reply in replies for message in reply.messages)
    return [notification(message) for message in messages if message.kind == "A"]


async def hears(client: RawClient, count: int) -> list[Heard]:
    """The next messages, all of which must be notifications."""
    found = []
    for _ in range(count):
        message = await client.receive()
        assert message.kind == "A", message
        found.append(notification(message))
    return found


async def hears_nothing_before(client: RawClient, proxy: Proxy, channel: str) -> list[Heard]:
    """What comes before a notification of `channel`, on which the client listens, sent now."""
    speaker = await RawClient.login(proxy)
    await speaker.query(f"NOTIFY \"{channel}\", 'the end'")
    await speaker.leave()
    found: list[Heard] = []
    while (channel, "the end") not in found:
        found += await hears(client, 1)
    return found[:-1]
