"""``python -m benchmarks.ray_llm_server PORT``: ray.serve.llm as its documentation starts it, on the CPU, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import tempfile


def main(port: int) -> None:
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    # Ray, which reads its environment at import.
    import ray
    from ray import serve
    from ray.serve.llm import LLMConfig, build_openai_app

    from benchmarks.systems import ENGINE_ARGS, MODEL_ID, model_dir

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ray.init(
        address="local",
        num_cpus=8,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=256 * 1024**2,
        _temp_dir=os.path.join(tempfile.gettempdir(), "ray"),
    )
    config = LLMConfig(
        model_loading_config={"model_id": MODEL_ID, "model_source": str(model_dir())},
        accelerator_config={"kind": "cpu"},
        placement_group_config={"bundles": [{"CPU": 1}]},
        engine_kwargs=dict(ENGINE_ARGS),
        deployment_config={"num_replicas": 1, "max_ongoing_requests": 64},
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    try:
        serve.run(build_openai_app({"llm_configs": [config]}), blocking=True)
    except RuntimeError:
        for deployment in serve.status().applications["default"].deployments.values():
            print(deployment.message, flush=True)
        raise


if __name__ == "__main__":
    main(int(sys.argv[1]))
