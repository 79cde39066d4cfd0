"""Which roles there can be, who may give them, and what a token says of them."""

import pytest

from pipeline.accounts import Account, Role
from pipeline.roles import enroll_id, is_role, owns


def account(**fields: object) -> Account:
    return Account(id="usr-1", slug="ann", password_hash="", created_at=1, updated_at=1, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("role", ["a:b", "my-service:editor", "user-svc:org:org-1:admin", "x" * 126 + ":y"])
def test_a_role_has_an_owner(role: str):
    assert is_role(role)


@pytest.mark.parametrize(
    "role", ["", "editor", ":b", "a:", "a::b", "a:b c", "a:*", "a:b\n", "a:b:c:d:e:f", "x" * 127 + ":y"]
)
def test_anything_else_is_none(role: str):
    assert not is_role(role)


@pytest.mark.parametrize(
    ("role", "slug", "roles", "owned"),
    [
        ("user-svc:admin", "root", (Role.ADMIN,), True),
        ("news:editor", "root", (Role.ADMIN,), True),
        ("ann:friend", "ann", (Role.USER,), True),
        ("anna:friend", "ann", (Role.USER,), False),
        ("news:editor", "ann", ("news:admin",), True),
        ("news:editor", "ann", ("news:editor",), False),
        ("news:org:1:user", "ann", ("news:org:1:admin",), True),
        ("news:org:2:user", "ann", ("news:org:1:admin",), False),
        # Whoever registers with such a slug, or is an admin of an organisation, gets nothing of the service itself.
        ("user-svc:admin", "user-svc", (Role.USER,), False),
        ("user-svc:org:1:user", "ann", ("user-svc:org:1:admin",), False),
    ],
)
def test_who_owns_a_role(role: str, slug: str, roles: tuple[str, ...], owned: bool):
    assert owns(role, slug=slug, roles=roles) is owned


def test_a_token_has_the_roles_of_its_app_each_once():
    ann = account(enrolled=(("b:x", "app-1"), ("a:x", "*"), ("c:x", "app-2"), (Role.USER, "*"), ("a:x", "app-1")))
    assert ann.roles_in("app-1") == (Role.USER, "a:x", "b:x")
    assert ann.roles_in("app-2") == (Role.USER, "a:x", "c:x")


def test_the_same_enroll_has_one_id():
    assert enroll_id("u", "a:b", "*") == enroll_id("u", "a:b", "*")
    assert len({enroll_id("u", "a:b", "*"), enroll_id("v", "a:b", "*"), enroll_id("u", "a:c", "*")}) == 3
