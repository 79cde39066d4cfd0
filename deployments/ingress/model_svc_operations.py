"""What model-svc's routes, and /health, say of themselves in the OpenAPI document."""

from __future__ import annotations

from deployments.ingress.operation import BOOLEAN, INTEGER, STRING, Component, Operation, exactly

MODEL_STATUS = Component(
    name="ModelStatus", schema=exactly({"assetsReady": BOOLEAN, "running": BOOLEAN, "address": STRING})
)
STATUS = Operation(response=exactly({"status": MODEL_STATUS}))

HEALTH = Operation(
    response=exactly(
        {
            "status": {"const": "ok"},
            "models": {
                "type": "object",
                "description": "By model id",
                "additionalProperties": exactly({"running": BOOLEAN, "waiting": INTEGER, "leased": INTEGER}),
            },
        }
    )
)
