import re

from pipeline.ids import base62, new_id


def test_an_id_is_prefix_hyphen_and_22_base62_digits():
    assert re.fullmatch(r"prom-[0-9A-Za-z]{22}", new_id("prom"))


def test_ids_differ():
    assert len({new_id("x") for _ in range(10_000)}) == 10_000


def test_base62():
    assert [base62(n) for n in (0, 9, 10, 61, 62, 62**2)] == ["0", "9", "A", "z", "10", "100"]
