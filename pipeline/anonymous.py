"""The account that callers without a token share, where the service lets them in at all."""

from __future__ import annotations

import secrets

from pipeline.accounts import Account, Accounts, Role
from pipeline.errors import ServerError

#: Marks the account: somebody's own must not become everybody's because it has the same slug.
ANONYMOUS = "user-svc:anonymous"


class AnonymousRefused(ServerError):
    """The service does not start: the slug of the anonymous account is somebody's."""


async def ensure_anonymous(accounts: Accounts, slug: str) -> Account:
    """The account, made if it is not there. Nobody can log in to it. Safe to run in several processes at once.

    Raises:
        AnonymousRefused: with the one line an operator needs.
        StoreUnavailable: nothing was decided.
    """
    account = await accounts.store.by_slug(slug)
    if account is None:
        drafted = await accounts.draft(
            slug=slug,
            password=secrets.token_urlsafe(32),
            name="Callers without a token",
            roles=(Role.USER, ANONYMOUS),
        )
        if await accounts.store.create(drafted):
            return drafted
        account = await accounts.store.by_slug(slug)  # another replica was faster
    if account is None or ANONYMOUS not in account.roles:
        raise AnonymousRefused(
            f"The account {slug!r} is somebody's, so it cannot be that of callers without a token: set "
            "PROMPT_SVC_LLM_INFERENCE_ACCOUNT to a slug that is free, or PROMPT_SVC_LLM_INFERENCE_ANONYMOUS to off"
        )
    return account
