"""The service's own account: jobs and actors that name no user act as this one. Nobody can log in to it."""

from __future__ import annotations

import logging
import secrets
from dataclasses import replace

from pipeline.accounts import Accounts, Role

logger = logging.getLogger("ray.serve")

SERVICE_SLUG = "service-job"
#: No registered user can have it: theirs are made by the service and are longer.
SERVICE_ID = "usr-service-job"


async def ensure_service_account(accounts: Accounts) -> bool:
    """Create the account on the first start. Safe to run in several processes at once.

    Returns:
        Whether it is there; False where a user has its slug.

    Raises:
        StoreUnavailable: it cannot be told.
    """
    if await accounts.by_id(SERVICE_ID) is not None:
        return True
    # A password that is forgotten at once, so that a login takes the same way, and time, as any other.
    drafted = await accounts.draft(
        slug=SERVICE_SLUG, password=secrets.token_urlsafe(48), name="Ray jobs", roles=(Role.USER,)
    )
    if await accounts.store.create(replace(drafted, id=SERVICE_ID)):
        return True
    if await accounts.by_id(SERVICE_ID) is not None:
        return True  # another replica was faster
    logger.warning("the slug %r is a user's: jobs have to name the user they act for", SERVICE_SLUG)
    return False
