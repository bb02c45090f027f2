"""The address field of an HBA rule as networks.

Source: PostgreSQL 16, hba.c (parse_hba_line, check_same_host_or_net).
"""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

from proxy.auth.problems import BadLine
from proxy.auth.tokens import Token

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def read_networks(
    token: Token, mask: str | None, interfaces: Sequence[Interface]
) -> tuple[Network, ...] | None:
    """The networks that an address field means, None for all. Raises BadLine.

    `mask` is the field after it, where it is an address without a length.
    """
    if token.is_keyword("all"):
        return None
    if token.is_keyword("samehost"):
        return tuple(ipaddress.ip_network(one.ip) for one in interfaces)
    if token.is_keyword("samenet"):
        return tuple(one.network for one in interfaces)
    return (_network(token.text, mask),)


def needs_mask(token: Token) -> bool:
    """Whether the field is an address whose mask comes in the next one."""
    return "/" not in token.text and _is_address(token.text)


def _network(text: str, mask: str | None) -> Network:
    address, slash, length = text.partition("/")
    if not _is_address(address):
        raise BadLine(
            f'"{text}" is no address: write one with its length (10.0.0.0/8, ::1/128) or mask, '
            f"all, samehost or samenet; host names are not looked up"
        )
    if slash and not (length.isascii() and length.isdigit()):
        raise BadLine(f'"{text}": the length after the slash must be a number')
    try:
        if mask is not None:
            length = str(_length(ipaddress.ip_address(address), mask))
        return ipaddress.ip_network(f"{address.partition('%')[0]}/{length}", strict=False)
    except ValueError as error:
        raise BadLine(f'"{text}{" " + mask if mask else ""}": {error}') from None


def _length(address: Address, mask: str) -> int:
    """The length of a mask of ones and then zeros. Raises ValueError for others."""
    bits = ipaddress.ip_address(mask)
    if bits.version != address.version:
        raise ValueError("address and mask are of different kinds")
    size = bits.max_prefixlen
    length = int(bits).bit_count()
    if int(bits) != ((1 << length) - 1) << (size - length):
        raise ValueError("a mask must be ones followed by zeros")
    return length


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@lru_cache(4096)
def parse_address(host: str) -> Address | None:
    """A client's address; one of IPv4 that came through an IPv6 socket is of IPv4."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
