"""The body of DELETE /prompt-svc/prompt/{id} and POST /prompt-svc/remove (contract §1.3)."""

from __future__ import annotations

from pydantic import Field

from deployments.ingress.fields import Text, WireModel


class Removal(WireModel):
    prompt_id: Text | None = Field(default=None, description="the id of a prompt")
    #: Whose prompt it is; only an admin's word counts.
    user_id: Text | None = Field(default=None, description="the id of a user")
