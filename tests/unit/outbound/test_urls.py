"""The form of URLs that settings may name."""

from __future__ import annotations

import pytest
from httpx import URL
from hypothesis import given
from hypothesis import strategies as st

from emberq.outbound.urls import check_url


@pytest.mark.parametrize(
    "url",
    [
        *("https://api.example/v1", "http://tei:8080", "http://10.0.0.1:80/v1", "http://[::1]:8080/v1"),
        *("https://API.Example./v1?version=2", "http://my_host/", "http://xn--bcher-kva.example"),
    ],
)
def test_an_absolute_http_url_is_accepted(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "api.example",
            "ftp://api.example",
            "file:///etc/passwd",
            "gopher://x/",
            "//api.example",
            "http:/x",
        ),
        *("http://", "http:///v1", "http://:80", "http://user@api.example", "http://a:b@c", "http://a@b@c"),
        *("http://api.example#x", "http://api.example:0", "http://api.example:65536", "http://api.example:x"),
        *("http://a b", "http://a\tb", "http://a\nb", "http://a\\@b", "http://a%2eb", "http://a%00b"),
        *(
            "http://127。0。0。1",
            "http://①②⑦.0.0.1",
            "http://ⓛocalhost",
            "http://a\u202eb",
            "http://[fe80::1%25lo]",
        ),
        *(
            "http://[::1",
            "http://::1",
            "http://[v1.x]",
            "http://a[b]",
            "http://-a",
            "http://.",
            "http://" + "a" * 2050,
        ),
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must"):
        check_url(url)


@given(st.text(), st.text())
def test_an_accepted_url_means_the_same_host_to_the_client(host: str, rest: str) -> None:
    url = f"http://{host}/{rest}"
    try:
        check_url(url)
    except ValueError:
        return
    parsed = URL(url)
    assert parsed.userinfo == b""
    assert host.lower().startswith((parsed.host, f"[{parsed.host}]"))


@given(st.from_regex(r"http://[a-z0-9.@:\[\]%\\/-]{1,20}/x", fullmatch=True))
def test_the_checker_and_the_client_agree_on_hosts(url: str) -> None:
    try:
        check_url(url)
    except ValueError:
        return
    host = URL(url).host
    assert host
    assert url.removeprefix("http://").lstrip("[").startswith(host)
