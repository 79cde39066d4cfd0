import re
import uuid

from pipeline.ids import base62, new_id, time_ordered_id


def test_an_id_is_prefix_hyphen_and_22_base62_digits():
    assert re.fullmatch(r"prom-[0-9A-Za-z]{22}", new_id("prom"))


def test_ids_differ():
    assert len({new_id("x") for _ in range(10_000)}) == 10_000


def test_base62():
    assert [base62(n) for n in (0, 9, 10, 61, 62, 62**2)] == ["0", "9", "A", "z", "10", "100"]


def test_ids_with_the_time_in_them_are_in_order_of_creation():
    ids = [time_ordered_id() for _ in range(200)]
    assert len(set(ids)) == 200
    assert {(uuid.UUID(name).version, uuid.UUID(name).variant) for name in ids} == {(7, uuid.RFC_4122)}
    # Two of the same quarter of a microsecond may stand in any order.
    assert [name[:18] for name in ids] == sorted(name[:18] for name in ids)
