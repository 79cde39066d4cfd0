"""The vectors of SECURITY §2.5: URLs that must not be fetched, and addresses that must not be connected to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.ingress.public_url import PublicUrl, UrlRefused, is_public

REFUSED = [
    "",
    "https://",
    "http://example.com/a.png",
    "HTTPS://example.com/a.png",
    "//example.com/a.png",
    "example.com/a.png",
    "file:///etc/passwd",
    "gopher://example.com/",
    "ftp://example.com/",
    "data:image/png;base64,iVBORw0KGgo=",
    "javascript:alert(1)",
    # numbers that some parser takes for an address
    "https://127.1/",
    "https://127.0.0.1/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0177.0.0.1/",
    "https://2130706433/",
    "https://example.0x7f/",
    "https://8.8.8.8/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::]/",
    "https://[::1]/",
    "https://[2606:2800:220:1::1]/",
    "https://169.254.169.254/latest/meta-data",
    # names
    "https://localhost/",
    "https://localhost./",
    "https://example.com./",
    "https://example..com/",
    "https://-example.com/",
    "https://example-.com/",
    "https://exa_mple.com/",
    "https://" + "a" * 64 + ".com/",
    "https://" + "a." * 130 + "com/",
    # who is asked
    "https://a@b.example/",
    "https://user:password@example.com/",
    "https://good.example\\@bad.example/",
    "https://good.example%40bad.example/",
    "https://good.example#@bad.example/",
    "https://good.example:443@bad.example/",
    "https://example.com:80/",
    "https://example.com:8443/",
    "https://example.com:/",
    "https://example.com:0443/",
    # characters
    "https://example.com/a\tb",
    "https://exam\tple.com/",
    "https://example.com/a\nb",
    "https://example.com/\r\nHost: x",
    "https://example.com/a b",
    "https://example.com/\0",
    " https://example.com/",
    "https://example.com/\n",
    "https://example.com/#x",
    "https://example.com/\\..\\x",
    "https://example。com/",
    "https://example．com/",
    "https://ⓔxample.com/",
    "https://bücher.example/",
    "https://example.com/ü",
    "https://example.com/%",
    "https://example.com/%zz",
    "https://example.com/" + "a" * 2048,
]


@pytest.mark.parametrize("url", REFUSED, ids=lambda url: ascii(url[:40]))
def test_a_url_that_is_not_fetched(url: str):
    with pytest.raises(UrlRefused) as refused:
        PublicUrl.parse(url)
    assert refused.value.status == 400
    # It may hold a secret, and is not repeated.
    assert not url or len(url) < 10 or url not in refused.value.message


@pytest.mark.parametrize(
    ("url", "host", "target", "name"),
    [
        ("https://example.com", "example.com", "/", ""),
        ("https://Example.COM/a/cat.png", "example.com", "/a/cat.png", "cat.png"),
        ("https://example.com:443/cat.png?x=1/2", "example.com", "/cat.png?x=1/2", "cat.png"),
        ("https://example.com?x", "example.com", "/?x", ""),
        ("https://xn--bcher-kva.example/%C3%BC.png", "xn--bcher-kva.example", "/%C3%BC.png", "%C3%BC.png"),
        ("https://a.b-c.d0.xn--p1ai/@user/a:b", "a.b-c.d0.xn--p1ai", "/@user/a:b", "a:b"),
        ("https://metadata.google.internal/", "metadata.google.internal", "/", ""),  # its address is what stops it
    ],
)
def test_a_url_of_the_right_form(url: str, host: str, target: str, name: str):
    parsed = PublicUrl.parse(url)
    assert (parsed.host, parsed.target, parsed.file_name) == (host, target, name)


@given(st.text(max_size=80), st.sampled_from(["", "https://", "https://a.example/", "https://a.example"]))
def test_whatever_is_let_through_has_a_plain_host_and_a_plain_target(text: str, start: str):
    try:
        parsed = PublicUrl.parse(start + text)
    except UrlRefused:
        return
    assert parsed.host.isascii()
    assert not set(parsed.host) - set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    assert parsed.target.startswith("/")
    assert not set(parsed.target) & set("\\# \t\r\n\0")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.255", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "100.100.100.200", "100.127.255.255", "192.0.0.192", "192.0.2.1",
        "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
        "255.255.255.255", "192.88.99.1", "168.63.129.16",
        "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:808",
        "64:ff9b:1::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "100::1",
        "2001::1", "2001:0:7f00:1::", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:0808:0808::",
        "3fff::1", "4000::1",
        "", "localhost", "127.1", "0x7f000001", "2130706433", "8.8.8.8/32", "08.8.8.8",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public(address: str):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.0.0.1", "128.0.0.1",
     "172.15.255.255", "172.32.0.0", "192.167.1.1", "223.255.255.255", "2606:4700:4700::1111", "2a00:1450:4001::1"],
)  # fmt: skip
def test_a_public_address(address: str):
    assert is_public(address)
