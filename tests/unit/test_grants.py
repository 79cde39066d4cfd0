"""Who may do what: roles, patterns, permits, and how fresh they are."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from deployments.ingress.auth import Permission
from deployments.ingress.fresh import Fresh
from deployments.ingress.grants import Grants
from deployments.ingress.principal import Principal
from pipeline.accounts import Role
from pipeline.errors import StoreUnavailable
from pipeline.permits import Permit, is_grant, is_permission, permit_id

ALICE = Principal(
    user_id="usr-1",
    slug="alice",
    roles=(Role.USER,),
    app_id="app-1",
    device="",
    token_id="tok-1",
    expires_at=1,
    app_host="unnamed",
)
GUEST = replace(ALICE, slug="guest", roles=())
PERMIT = Permit(id="p", permissions=("doc-svc:doc:read",), created_at=1, updated_at=2)


class Permits:
    def __init__(self, *permits: Permit) -> None:
        self.permits = list(permits)
        self.reads = 0

    async def all(self) -> list[Permit]:
        self.reads += 1
        return self.permits

    async def some(self, ids: list[str]) -> dict[str, Permit]:
        return {permit.id: permit for permit in self.permits if permit.id in ids}

    async def save(self, permits: list[Permit]) -> None:
        ids = [permit.id for permit in permits]
        self.permits = [p for p in self.permits if p.id not in ids] + [p for p in permits if not p.is_empty]


def grants(*permits: Permit, **options: Any) -> Grants:
    store: Any = Permits(*permits)
    return Grants(permits=store, **options)


def is_for_every_user(permission: str) -> bool:
    """What the document lets every user do; whatever else there is, is for admins."""
    service, _, rest = permission.partition(":")
    if service in {"prompt-svc", "chat-svc", "file-svc"}:
        return True
    return rest.endswith(":view") if service == "model-svc" else permission == "firehose-svc:event:stream"


@pytest.mark.parametrize("permission", list(Permission))
async def test_what_roles_may_by_default(permission: Permission):
    assert await grants().allow(replace(ALICE, roles=(Role.ADMIN,)), permission)
    assert await grants().allow(ALICE, permission) is is_for_every_user(permission)
    assert not await grants().allow(GUEST, permission)


async def test_an_operator_may_grant_users_less_or_more():
    none = grants(to_users=())
    assert not await none.allow(ALICE, Permission.PROMPT_CREATE)
    assert await none.allow(replace(ALICE, roles=(Role.ADMIN,)), Permission.PROMPT_CREATE)
    more = grants(to_users=("policy-svc:*:view",))
    assert await more.allow(ALICE, Permission.POLICY_INSTANCE_VIEW)
    assert not await more.allow(ALICE, Permission.POLICY_INSTANCE_EDIT)


@pytest.mark.parametrize(
    ("changes", "caller", "allowed"),
    [
        ({"slugs": ("alice",)}, ALICE, True),
        ({"slugs": ("bob",)}, ALICE, False),
        ({"roles": (Role.USER,)}, ALICE, True),
        ({"roles": (Role.USER,)}, GUEST, False),
        ({"roles": ("org:x",), "slugs": ("guest",)}, GUEST, True),
        ({"slugs": ("alice",), "app_id": "app-1"}, ALICE, True),
        ({"slugs": ("alice",), "app_id": "app-2"}, ALICE, False),
        ({}, ALICE, False),
    ],
)
async def test_a_permit_is_for_roles_and_users_of_an_app(changes: dict, caller: Principal, allowed: bool):
    assert await grants(replace(PERMIT, **changes)).allow(caller, "doc-svc:doc:read") is allowed
    assert not await grants(replace(PERMIT, **changes)).allow(caller, "doc-svc:doc:write")


async def test_who_has_a_permission_by_role_costs_no_look_at_the_permits():
    store: Any = Permits()
    await Grants(permits=store).allow(ALICE, Permission.PROMPT_CREATE)
    assert store.reads == 0


async def test_what_is_saved_is_in_force_at_once_and_keeps_its_age():
    some = grants()
    assert not await some.allow(GUEST, "doc-svc:doc:read")
    await some.save([replace(PERMIT, slugs=("guest",))])
    assert await some.allow(GUEST, "doc-svc:doc:read")
    (again,) = await some.save([replace(PERMIT, slugs=("guest", "bob"), created_at=9, updated_at=9)])
    assert (again.created_at, again.updated_at) == (1, 9)
    await some.save([PERMIT])
    assert not await some.allow(GUEST, "doc-svc:doc:read")


async def test_permits_that_cannot_be_looked_at_allow_nothing():
    class Away(Permits):
        async def all(self) -> list[Permit]:
            raise StoreUnavailable

    store: Any = Away()
    with pytest.raises(StoreUnavailable):
        await Grants(permits=store).allow(GUEST, Permission.PROMPT_CREATE)
    assert await Grants(permits=store).allow(ALICE, Permission.PROMPT_CREATE)


def test_names_of_permissions_and_patterns():
    assert is_permission("prompt-svc:prompt:create")
    assert all(is_permission(permission) for permission in Permission)
    for name in ("", "prompt", "a:b c", "prompt-svc:*", "a:b:c:d:e:f:g", "a:" + "b" * 130, "a:b\n"):
        assert not is_permission(name)
    assert is_grant("model-svc:*:view")
    for name in ("", "a b", "[a-z]", "x?", "a\n"):
        assert not is_grant(name)


def test_a_permit_without_an_id_is_named_after_what_it_says():
    first = permit_id(["a:b:c"], ["r", "s"], [], "*")
    assert first == permit_id(["a:b:c"], ["s", "r"], [], "*")
    assert len({first, permit_id(["a:b:c"], ["r"], ["s"], "*"), permit_id(["a:b:c"], ["r", "s"], [], "app")}) == 3


async def test_a_value_is_read_again_when_it_is_old():
    now, reads = [0.0], []

    async def read() -> int:
        reads.append(now[0])
        return len(reads)

    fresh = Fresh(read, max_age_s=1, clock=lambda: now[0])
    assert [await fresh.get(), await fresh.get()] == [1, 1]
    now[0] = 1.0
    assert await fresh.get() == 2
    fresh.forget()
    assert await fresh.get() == 3


async def test_callers_of_one_moment_share_a_read_and_its_failure():
    gate, reads = asyncio.Event(), []

    async def read() -> int:
        reads.append(1)
        await gate.wait()
        raise StoreUnavailable

    fresh = Fresh(read)
    callers = [asyncio.ensure_future(fresh.get()) for _ in range(50)]
    callers[0].cancel()
    await asyncio.sleep(0)
    gate.set()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes[1:])
    assert len(reads) == 1


async def test_a_read_that_began_before_a_change_is_not_remembered():
    gates, reads = [asyncio.Event(), asyncio.Event()], []

    async def read() -> int:
        number = len(reads)
        reads.append(number)
        await gates[number].wait()
        return number

    fresh = Fresh(read)
    early = asyncio.ensure_future(fresh.get())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    fresh.forget()
    late = asyncio.ensure_future(fresh.get())
    await asyncio.sleep(0)
    gates[1].set()
    assert await late == 1
    gates[0].set()
    assert await early == 0
    assert await fresh.get() == 1
