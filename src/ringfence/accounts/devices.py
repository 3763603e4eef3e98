"""From where a request comes, as its owner will recognise it."""

import ipaddress
from dataclasses import dataclass

_MAX_AGENT = 200
_IPV6 = 6


@dataclass(frozen=True, slots=True)
class Device:
    """From where a request comes, as its owner will recognise it: an address, and what a program calls itself."""

    address: str
    agent: str

    @property
    def shown_agent(self) -> str:
        """The agent, cut to a sensible length and without what no database stores."""
        return "".join(character for character in self.agent if character.isprintable())[:_MAX_AGENT]

    @property
    def network(self) -> str:
        """What counts as one place: of IPv6 the 64 bits that one household or server gets, and the rest whole."""
        return self._first_bits(64)

    @property
    def site(self) -> str:
        """What one customer of a provider may have at once: of IPv6 48 bits, 65,536 networks; the rest whole."""
        return self._first_bits(48)

    def _first_bits(self, count: int) -> str:
        try:
            address = ipaddress.ip_address(self.address)
        except ValueError:
            return self.address
        return str(ipaddress.ip_network((address, count), strict=False)) if address.version == _IPV6 else str(address)
