"""policy-svc: keep policies, and answer whether a call is allowed (contract §6)."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from pydantic import BeforeValidator, Field
from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress.accepted import NO_CONTROLS
from deployments.ingress.auth import Gate, GuardedRoute, Permission
from deployments.ingress.body import read_json
from deployments.ingress.fields import Integer, Strings, Text, WireModel, has_controls
from deployments.ingress.policies import Policies
from deployments.ingress.policy_svc_operations import LIST, REMOVE, check, upsert
from deployments.ingress.routing import RoutesBelow
from pipeline.durations import parse_duration
from pipeline.errors import InvalidField, NotFound, Shown
from pipeline.policy import (
    LONGEST_WINDOW_S,
    MOST_BLOCKED,
    MOST_REQUESTS,
    Blocklist,
    Call,
    Entity,
    Policy,
    RateLimit,
    Scope,
    Template,
    parse_network,
)

_MAX_TEXT = 256
_TEXT_RULE = f"at most {_MAX_TEXT} characters without control characters"
_TEXT = {"anyOf": [{"type": "string", "maxLength": _MAX_TEXT, "pattern": NO_CONTROLS}, {"type": ["number", "boolean"]}]}

#: ``user`` is how people say it.
_Entity = Annotated[Entity, BeforeValidator(lambda value: Entity.USER if value == "user" else value)]


class _RateLimit(WireModel):
    max_requests: Integer = Field(ge=1, le=MOST_REQUESTS, description=f"an integer from 1 to {MOST_REQUESTS}")
    time_window: Text = Field(description="a time such as 1m or 1d")
    entity: _Entity = Field(default=Entity.USER, description="userId or ip")
    scope: Scope = Field(default=Scope.ENDPOINT, description="endpoint or global")


class _Blocklist(WireModel):
    blocked_ips: Strings = Field(alias="blockedIPs", max_length=MOST_BLOCKED, description=f"{MOST_BLOCKED} addresses")


class _Parameters(WireModel):
    rate_limit: _RateLimit | None = Field(default=None, description="an object")
    blocklist: _Blocklist | None = Field(default=None, description="an object")


class _Instance(WireModel):
    endpoint: Text = Field(default="", description="the path of an endpoint")
    template_id: Template = Field(description="rate-limit or blocklist")
    parameters: _Parameters = Field(description="an object with rateLimit or blocklist")

    def policy(self, policy_id: str) -> Policy:
        """Raises InvalidField."""
        _check_text("instance.endpoint", self.endpoint)
        return Policy(id=policy_id, endpoint=self.endpoint, rule=self._rule())

    def _rule(self) -> RateLimit | Blocklist:
        """What the template uses. The other one is checked all the same if it is there."""
        where = "instance.parameters"
        limit = _rate_limit(f"{where}.rateLimit", self.parameters.rate_limit)
        blocklist = _blocklist(f"{where}.blocklist", self.parameters.blocklist)
        rule = limit if self.template_id is Template.RATE_LIMIT else blocklist
        if rule is None:
            name = "rateLimit" if self.template_id is Template.RATE_LIMIT else "blocklist"
            raise InvalidField(f"{where}.{name}", Shown("nothing"), "an object")
        return rule


def _rate_limit(where: str, said: _RateLimit | None) -> RateLimit | None:
    if said is None:
        return None
    return RateLimit(
        max_requests=said.max_requests,
        time_window=said.time_window,
        window_s=parse_duration(said.time_window, f"{where}.timeWindow", longest_s=LONGEST_WINDOW_S),
        entity=said.entity,
        scope=said.scope,
    )


def _blocklist(where: str, said: _Blocklist | None) -> Blocklist | None:
    if said is None:
        return None
    for address in said.blocked_ips:
        _check_address(f"{where}.blockedIPs", address)
    return Blocklist(blocked=said.blocked_ips)


class _Upsert(WireModel):
    instance: _Instance = Field(description="an object")


class _Check(WireModel):
    """``method`` is not looked at: policies are about endpoints."""

    endpoint: Text = Field(default="", description="the path of an endpoint")
    ip: Text = Field(default="", description="an address")
    user_id: Text = Field(default="", description="the id of a user")


class PolicySvc:
    """The endpoints of policy-svc. Listing and removing are additions: the original has neither."""

    def __init__(self, policies: Policies, *, max_body_bytes: int) -> None:
        self._policies = policies
        self._max_body_bytes = max_body_bytes

    def routes(self, gate: Gate) -> list[GuardedRoute]:
        route = RoutesBelow("/policy-svc", gate)
        return [
            route("PUT", "/instance/{instance_id}", self.upsert, Permission.POLICY_INSTANCE_EDIT, upsert(_TEXT)),
            route("DELETE", "/instance/{instance_id}", self.remove, Permission.POLICY_INSTANCE_EDIT, REMOVE),
            route("POST", "/instances", self.list, Permission.POLICY_INSTANCE_VIEW, LIST),
            route("POST", "/check", self.check, Permission.POLICY_CHECK, check(_TEXT)),
        ]

    async def upsert(self, request: Request) -> Response:
        """Keep a policy in place of one with the same id; the id in the path goes before one in the body."""
        policy_id = request.path_params["instance_id"]
        _check_text("instanceId", policy_id)
        if not policy_id:
            raise NotFound
        body = _Upsert.parse(await self._body(request))
        await self._policies.upsert(body.instance.policy(policy_id))
        return _json({})

    async def remove(self, request: Request) -> Response:
        """Forget a policy."""
        await self._body(request)
        if not await self._policies.remove(request.path_params["instance_id"]):
            raise NotFound
        return _json({})

    async def list(self, request: Request) -> Response:
        """All policies."""
        await self._body(request)
        return _json({"instances": [instance_object(policy) for policy in await self._policies.all()]})

    async def check(self, request: Request) -> Response:
        """Whether a call would be allowed, counted as one. What is not said is not held against a policy."""
        body = _Check.parse(await self._body(request))
        for field, value in (("endpoint", body.endpoint), ("userId", body.user_id)):
            _check_text(field, value)
        if body.ip:
            _check_address("ip", body.ip)
        call = Call(endpoint=body.endpoint, ip=body.ip or None, user_id=body.user_id or None)
        return _json({"allowed": await self._policies.allows(call)})

    async def _body(self, request: Request) -> dict[str, Any]:
        return await read_json(request, max_bytes=self._max_body_bytes)


def instance_object(policy: Policy) -> dict[str, Any]:
    """The Instance object."""
    parameters: dict[str, Any]
    if isinstance(policy.rule, RateLimit):
        limit = policy.rule
        parameters = {
            "rateLimit": {
                "maxRequests": limit.max_requests,
                "timeWindow": limit.time_window,
                "entity": limit.entity,
                "scope": limit.scope,
            }
        }
    else:
        parameters = {"blocklist": {"blockedIPs": policy.rule.blocked}}
    return {
        "id": policy.id,
        "endpoint": policy.endpoint,
        "templateId": policy.template,
        "parameters": parameters,
    }


def _check_text(field: str, value: str) -> None:
    if len(value) > _MAX_TEXT or has_controls(value):
        raise InvalidField(field, Shown(f"a string of {len(value)} characters"), _TEXT_RULE)


def _check_address(field: str, value: str) -> None:
    try:
        parse_network(value)
    except ValueError:
        shown = value if len(value) <= 64 and value.isprintable() else Shown(f"{len(value)} characters")
        raise InvalidField(field, shown, "an address or network such as 203.0.113.7 or 2001:db8::/32") from None


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
