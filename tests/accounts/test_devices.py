"""From where a request comes: what counts as one place."""

import pytest

from ringfence.accounts.devices import Device


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("", ""),
        ("a socket", "a socket"),
    ],
)
def test_a_household_is_one_place(address, network):
    assert Device(address, "").network == network


@pytest.mark.parametrize(
    ("address", "site"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("", ""),
    ],
)
def test_a_site_is_what_one_customer_may_have(address, site):
    assert Device(address, "").site == site
