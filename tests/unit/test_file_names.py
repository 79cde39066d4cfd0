"""The names users give to files (the vectors of SECURITY §2.5), and the header they come back in."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_multipart.multipart import parse_options_header

from pipeline.files.names import MOST_BYTES, NAMELESS, clean_name, content_disposition

NASTY = {
    "../../etc/passwd": "passwd",
    "..\\..\\windows\\win.ini": "win.ini",
    "/etc/shadow": "shadow",
    "C:\\fakepath\\cat.png": "cat.png",
    "%2e%2e%2fpasswd": "%2e%2e%2fpasswd",
    "a\0b.png": "ab.png",
    'x"\r\nSet-Cookie: a=b': 'x"Set-Cookie: a=b',
    "a\nb": "ab",
    "a\u2028b": "ab",
    "exe.\u202egnp.txt": "exe.gnp.txt",
    "\ufeffa\u200bb": "ab",
    "a\ud800b": "ab",
    "": NAMELESS,
    ".": NAMELESS,
    "..": NAMELESS,
    " . . ": NAMELESS,
    "\0": NAMELESS,
    "a/": NAMELESS,
    ".bashrc": "bashrc",
    "trailing. . ": "trailing",
    "CON": "_CON",
    "con.txt": "_con.txt",
    "NUL .png": "_NUL .png",
    "COM1": "_COM1",
    "lpt9.tar.gz": "_lpt9.tar.gz",
    "console.txt": "console.txt",
    "naïve 🙂.png": "naïve 🙂.png",
    "blob": "blob",
}


@pytest.mark.parametrize("sent", NASTY, ids=ascii)
def test_a_nasty_name(sent: str):
    assert clean_name(sent) == NASTY[sent]


@pytest.mark.parametrize("letter", ["a", "ü", "🙂"])
def test_a_long_name_is_cut_and_keeps_its_extension(letter: str):
    name = clean_name(letter * 300 + ".jpeg")
    assert MOST_BYTES - 4 <= len(name.encode()) <= MOST_BYTES
    assert name.endswith(letter + ".jpeg")
    assert len(clean_name("a." + "b" * 300).encode()) == MOST_BYTES


@given(st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=400))
def test_any_name_becomes_one_that_harms_nobody(sent: str):
    name = clean_name(sent)
    assert 1 <= len(name.encode()) <= MOST_BYTES
    assert not set(name) & set("/\\")
    assert name == name.strip(" .")
    assert not [c for c in name if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert clean_name(name) == name


@given(st.text(max_size=300))
def test_the_header_is_one_ascii_line_with_one_name(sent: str):
    header = content_disposition("attachment", clean_name(sent))
    assert header.isascii()
    assert header.isprintable()
    kind, options = parse_options_header(header)
    assert kind == b"attachment"
    assert set(options) == {b"filename"}
    assert not set(options[b"filename"]) & set(b'"\\/%;')


def test_the_header_carries_the_whole_name_for_readers_that_know_how():
    assert content_disposition("inline", "cat.png") == 'inline; filename="cat.png"'
    assert content_disposition("attachment", 'ü%2f"x.png') == (
        "attachment; filename=\"__2f_x.png\"; filename*=UTF-8''%C3%BC%252f%22x.png"
    )
