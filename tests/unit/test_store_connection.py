import pytest
from redis._parsers.base import BaseParser
from redis.exceptions import ConnectionError, RedisError, ResponseError, TimeoutError

from pipeline.store.connection import means_unavailable


@pytest.mark.parametrize(
    "reply",
    [
        "LOADING Valkey is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "MISCONF Errors writing to the AOF file: No space left on device",
        "NOREPLICAS Not enough good replicas to write.",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "READONLY You can't write against a read only replica.",
    ],
)
def test_a_store_that_takes_no_writes_now_is_away(reply: str):
    assert means_unavailable(BaseParser.parse_error(reply))


@pytest.mark.parametrize("error", [ConnectionError(), TimeoutError(), ResponseError("-MISCONF no disk")])
def test_one_that_is_not_reached_is_away(error: RedisError):
    assert means_unavailable(error)


@pytest.mark.parametrize(
    "reply", ["WRONGTYPE Operation against a key", "ERR unknown command", "NOSCRIPT No matching script", "OOMPH x", ""]
)
def test_waiting_does_not_help_against_other_refusals(reply: str):
    assert not means_unavailable(BaseParser.parse_error(reply))
