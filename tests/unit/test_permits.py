import asyncio

import pytest

from deployments.replica.permits import Permits


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_there_are_as_many_permits_as_were_given():
    permits = Permits(2)
    assert [permits.try_acquire() for _ in range(3)] == [True, True, False]
    assert permits.used == 2


async def test_a_released_permit_can_be_taken_again():
    permits = Permits(1)
    permits.try_acquire()
    permits.release()
    assert permits.used == 0
    assert permits.try_acquire()


async def test_an_idle_replica_is_had_alone_at_once():
    permits = Permits(8)
    assert await permits.acquire_alone()
    assert permits.used == 1
    assert not permits.try_acquire()


async def test_who_wants_to_be_alone_waits_for_the_others_and_lets_nobody_in():
    permits = Permits(8)
    permits.try_acquire()
    permits.try_acquire()
    alone = asyncio.create_task(permits.acquire_alone())
    await settle()
    assert not permits.try_acquire()
    permits.release()
    await settle()
    assert not alone.done()
    permits.release()
    assert await asyncio.wait_for(alone, 5)
    assert not permits.try_acquire()


async def test_only_one_can_be_alone():
    permits = Permits(8)
    assert await permits.acquire_alone()
    assert not await permits.acquire_alone()


async def test_after_the_lonely_one_all_permits_are_back():
    permits = Permits(2)
    await permits.acquire_alone()
    permits.release_alone()
    assert permits.used == 0
    assert [permits.try_acquire() for _ in range(3)] == [True, True, False]


async def test_who_gives_up_waiting_opens_the_door_again():
    permits = Permits(2)
    permits.try_acquire()
    alone = asyncio.create_task(permits.acquire_alone())
    await settle()
    alone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await alone
    assert permits.try_acquire()


class Offers:
    """What the store is told."""

    def __init__(self, total: int) -> None:
        self.told: list[int] = []
        self.permits = Permits(total, on_offer=lambda: self.told.append(self.permits.offered))


async def test_behind_a_closed_door_what_is_offered_is_what_is_leased():
    offers = Offers(8)
    permits = offers.permits
    permits.try_acquire()
    permits.try_acquire()
    assert permits.offered == 8
    alone = asyncio.create_task(permits.acquire_alone())
    await settle()
    assert permits.offered == 3
    permits.release()
    assert permits.offered == 2
    permits.release()
    assert await asyncio.wait_for(alone, 5)
    assert permits.offered == 1
    permits.release_alone()
    assert permits.offered == 8
    assert offers.told == [3, 2, 1, 8]


async def test_who_waits_in_vain_leaves_everything_on_offer():
    offers = Offers(2)
    offers.permits.try_acquire()
    alone = asyncio.create_task(offers.permits.acquire_alone())
    await settle()
    alone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await alone
    assert offers.told == [2, 2]


async def test_of_closed_permits_those_in_use_are_offered_whoever_waits_to_be_alone():
    permits = Permits(4)
    permits.try_acquire()
    alone = asyncio.create_task(permits.acquire_alone())
    await settle()
    permits.close()
    assert permits.offered == 1
    assert not await asyncio.wait_for(alone, 5)
    permits.open()
    assert permits.offered == 4


async def test_ordinary_attempts_change_no_offer():
    offers = Offers(2)
    offers.permits.try_acquire()
    offers.permits.release()
    assert offers.told == []
