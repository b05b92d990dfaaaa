"""The classification of addresses: what outgoing requests may reach without and with the setting."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberq.outbound.addresses import AllowedTargets, is_public

#: Written down once more, by the registries of special-purpose addresses and the clouds' manuals.
REFUSED = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200"),
    *("127.0.0.1", "127.255.255.254", "169.254.0.1", "169.254.169.254", "172.16.0.1"),
    *("172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1"),
    *("198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9", "224.0.0.1"),
    *("239.255.255.250", "240.0.0.1", "255.255.255.255", "168.63.129.16", "::", "::1"),
    *("::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"),
    *("::ffff:0.0.0.0", "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe"),
    *("64:ff9b:1::8.8.8.8", "100::1", "2001::1", "2001:0:1:2:3:4:5:6", "2001:10::1"),
    *("2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1"),
    *("fd00:ec2::254", "fe80::1", "fe80::1%2", "fec0::1", "ff02::1", "4000::1", "e000::1"),
]
PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.255.255", "172.32.0.1"),
    *("192.0.1.1", "198.17.255.255", "223.255.255.255", "168.63.129.17", "2606:4700:4700::1111"),
    *("2001:4860:4860::8888", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"),
]


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert is_public(ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_in_each_spelling(address: IPv4Address) -> None:
    for prefix in ("::ffff:0:0", "64:ff9b::"):
        assert is_public(IPv6Address(int(IPv6Address(prefix)) + int(address))) == is_public(address)
    # Never public, whatever they carry: 6to4, IPv4-compatible and translated addresses, and Teredo.
    for number in (0x2002 << 112 | int(address) << 80, int(address), 0xFFFF << 48 << 16 | int(address)):
        assert not is_public(IPv6Address(number)) or number >> 32 == 0xFFFF
    assert not is_public(IPv6Address(0x20010000 << 96 | (int(address) ^ 0xFFFFFFFF)))


@given(st.ip_addresses())
def test_nothing_is_public_that_python_calls_private(address: IPv4Address | IPv6Address) -> None:
    if is_public(address):
        assert not any((address.is_loopback, address.is_link_local, address.is_multicast))
        assert not address.is_unspecified
        assert not address.is_private or getattr(address, "ipv4_mapped", None)


@given(st.ip_addresses(v=4, network="169.254.0.0/16") | st.ip_addresses(v=6, network="fe80::/10"))
def test_metadata_addresses_must_be_named(address: IPv4Address | IPv6Address) -> None:
    assert not AllowedTargets.parse("true").permits("metadata", 80, address)
    assert AllowedTargets.parse("169.254.0.0/16, fe80::/10").permits("metadata", 80, address)


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_a_network_allows_its_addresses_only(address: IPv4Address, prefix: int) -> None:
    network = IPv4Network((address, prefix), strict=False)
    allowed = AllowedTargets.parse(str(network))
    assert allowed.permits("host", 80, address)
    assert allowed.permits("host", 80, IPv6Address(f"::ffff:{address}"))
    if prefix:
        outside = IPv4Address(int(address) ^ 1 << 31)
        assert allowed.permits("host", 80, outside) == is_public(outside)


def test_true_allows_private_networks() -> None:
    allowed = AllowedTargets.parse("true")
    for address in ("127.0.0.1", "10.1.2.3", "192.168.1.1", "172.20.0.1", "100.64.0.1", "::1", "fd12::1"):
        assert allowed.permits("host", 80, ip_address(address))
    for address in ("0.0.0.0", "224.0.0.1", "168.63.129.16", "192.0.0.192", "ff02::1", "2002:7f00:1::"):
        assert not allowed.permits("host", 80, ip_address(address))


@pytest.mark.parametrize("value", ["", "false", "0", " no "])
def test_false_allows_public_addresses_only(value: str) -> None:
    assert AllowedTargets.parse(value) == AllowedTargets()


def test_a_host_is_allowed_by_its_name() -> None:
    allowed = AllowedTargets.parse("tei.models.svc, 10.2.0.0/16")
    loopback = ip_address("127.0.0.1")
    assert allowed.permits("TEI.models.svc.", 8080, loopback)
    assert not allowed.permits("evil-tei.models.svc", 8080, loopback)
    assert not allowed.permits("tei.models.svc.evil.example", 8080, loopback)


def test_a_configured_server_is_allowed_at_its_port() -> None:
    allowed = AllowedTargets().with_servers(
        ["http://localhost:8080/api", "https://hub.example", "http://[::1]"]
    )
    loopback = ip_address("::1")
    assert allowed.permits("localhost", 8080, loopback)
    assert not allowed.permits("localhost", 6379, loopback)
    assert allowed.permits("hub.example", 443, loopback)
    assert not allowed.permits("hub.example", 80, loopback)
    assert allowed.permits("::1", 80, loopback)


@pytest.mark.parametrize(
    "value", ["10.0.0.0/33", "10.0.0.1/8", "http://a/", "a b", "::g", "*", "1.2.3.4.5", "ä.example"]
)
def test_a_value_that_names_no_target_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        AllowedTargets.parse(value)


def test_every_special_network_is_refused_at_both_ends() -> None:
    for text in ("10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "0.0.0.0/8"):
        network = IPv4Network(text)
        assert not is_public(network[0])
        assert not is_public(network[-1])
    for text in ("fc00::/7", "fe80::/10", "ff00::/8", "2002::/16", "2001::/23", "::/8", "64:ff9b:1::/48"):
        wide = IPv6Network(text)
        assert not is_public(wide[0])
        assert not is_public(wide[-1])


@pytest.mark.parametrize(
    "url", ["", "open-webui", "http://", "http://host:port", "http://[::1", "http://a:99999"]
)
def test_a_url_that_cannot_be_read_allows_nothing(url: str) -> None:
    assert AllowedTargets().with_servers([url]) == AllowedTargets()
