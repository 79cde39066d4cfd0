"""The admin account that the first start creates, and the default password that must not be reachable from outside."""

from __future__ import annotations

from pipeline.accounts import ADMIN_SLUG, MIN_PASSWORD, Account, Accounts, Role
from pipeline.errors import ServerError
from pipeline.passwords import MAX_PASSWORD

#: The password of the document's examples, good only where nobody else can connect (issue 2, point 5).
DOCUMENTED_PASSWORD = "changeme"


class AdminRefused(ServerError):
    """The service does not start: its admin account is not safe."""


async def ensure_admin(accounts: Accounts, password: str, *, bound_to_loopback: bool) -> Account:
    """Create the admin on the first start; on later ones make sure that the documented password is not exposed.

    ``password`` is the configured one, empty if there is none. It is what a new admin gets, and what replaces the documented
    password of an existing one; a password chosen since is left alone. Safe to run in several processes at once.

    Raises:
        AdminRefused: with the one line an operator needs.
        StoreUnavailable: nothing was decided.
    """
    _check(password, bound_to_loopback)
    store = accounts.store
    admin = await store.by_slug(ADMIN_SLUG)
    if admin is None:
        drafted = await accounts.draft(
            slug=ADMIN_SLUG,
            password=password or _default(bound_to_loopback),
            name="",
            roles=(Role.ADMIN, Role.USER),
        )
        if await store.create(drafted):
            return drafted
        admin = await store.by_slug(ADMIN_SLUG)  # another replica was faster
    if admin is None or Role.ADMIN not in admin.roles:
        raise AdminRefused(f"The account {ADMIN_SLUG!r} in the store is not an admin; remove it or use another store")
    if await accounts.passwords.verify(admin.password_hash, DOCUMENTED_PASSWORD):
        wanted = password or _default(bound_to_loopback)
        if wanted != DOCUMENTED_PASSWORD:
            await store.replace_password(admin, await accounts.passwords.hash(wanted), accounts.clock())
            admin = await store.by_slug(ADMIN_SLUG) or admin
    return admin


def _default(bound_to_loopback: bool) -> str:
    if bound_to_loopback:
        return DOCUMENTED_PASSWORD
    raise AdminRefused(
        f"The admin {ADMIN_SLUG!r} has no password of its own and the service is reachable from other machines: "
        "set PROMPT_SVC_ADMIN_PASSWORD (or bind to 127.0.0.1)"
    )


def _check(password: str, bound_to_loopback: bool) -> None:
    if not password or bound_to_loopback:
        if len(password) > MAX_PASSWORD:
            raise AdminRefused(f"PROMPT_SVC_ADMIN_PASSWORD is longer than {MAX_PASSWORD} characters")
        return
    if password == DOCUMENTED_PASSWORD or not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise AdminRefused(
            f"PROMPT_SVC_ADMIN_PASSWORD must have {MIN_PASSWORD} to {MAX_PASSWORD} characters and not be the "
            "documented default while the service is reachable from other machines"
        )
