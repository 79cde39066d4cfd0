"""An application that starts fast, to test the launcher with."""

from __future__ import annotations

import os
from typing import Any

from ray import serve


@serve.deployment(ray_actor_options={"num_cpus": 0.1}, graceful_shutdown_wait_loop_s=0.1)
class Toy:
    async def __call__(self, request: Any) -> dict[str, str]:
        names = (
            "REDIS_URL",
            "PROMPT_SVC_DATA_DIR",
            "PROMPT_SVC_MODELS_DIR",
            "HF_HUB_OFFLINE",
            "TOKENIZERS_PARALLELISM",
        )
        return {name: os.environ.get(name, "") for name in names}


def build(args: dict[str, Any]) -> serve.Application:
    if "fail" in args:
        raise ValueError(args["fail"])
    return Toy.bind()
