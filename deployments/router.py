"""The queue-router: brings waiting prompts and free replicas together. Holds nothing that is not in the store too."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import ray
from ray import serve
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from redis.exceptions import RedisError

from deployments.autoscaling import demand_metric
from deployments.departed import DepartedModels
from deployments.fallback import Fallbacks
from deployments.ingress.serve_control import SharedServeControl
from deployments.ledger import open_ledger, retire_other_ledgers
from deployments.replica.outcome import Outcome
from deployments.routing import CurrentRouting
from deployments.serving import ServingReplicas
from deployments.settings import Settings
from deployments.tasks import Supervisor
from pipeline.store.bells import listen
from pipeline.store.catalogue import CatalogueStore
from pipeline.store.connection import connect_patient
from pipeline.store.keys import Keys
from pipeline.store.queue import Grant, ModelQueue

logger = logging.getLogger("ray.serve")

#: Longest time without asking the ledger, seconds: a ring of the bell may get lost.
POLL_S = 1.0
#: The same while the ledger does not answer, seconds.
LEDGER_RETRY_S = 0.1
#: How long an answer of the ledger is waited for, seconds: it may hang without being dead.
LEDGER_PATIENCE_S = 3.0
#: Pause after a replica was full, seconds.
FULL_PAUSE_S = 0.25
#: Most grants asked for in one call.
BATCH = 64
#: How long the store is waited for when the demand is read, seconds.
STATS_PATIENCE_S = 2.0


class Dispatcher:
    """Leases the prompts of one model and hands each to a replica."""

    def __init__(
        self,
        settings: Settings,
        model_id: str,
        handle: DeploymentHandle,
        queue: ModelQueue,
        supervisor: Supervisor,
    ) -> None:
        self._settings = settings
        self._model_id = model_id
        self._queue = queue
        self._handle = handle
        self._supervisor = supervisor
        self._woken = asyncio.Event()
        #: A replica was full when a grant came.
        self._full = False
        #: The call of the ledger that is under way. One that hangs is not called again: it would grant, once it goes on, to
        #: nobody who listens.
        self._asked: asyncio.Future[list[Grant]] | None = None

    def wake(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        """Ask for grants for ever. Raises ActorDiedError when the ledger has gone for good; the supervisor starts this again,
        which opens another one."""
        ledger = await asyncio.to_thread(open_ledger, self._settings, self._model_id)
        while True:
            if self._full:
                # More permits are registered than can be reached at this moment: a replica stops, or has just died. Grants
                # that come back at once must not go out again at once.
                self._full = False
                await asyncio.sleep(FULL_PAUSE_S)
            self._woken.clear()
            grants = await self._ask(ledger)
            poll_s = POLL_S
            if grants is None:
                # It restarts, which takes seconds, or hangs. A grant is one script of the store, whoever calls it; only what the
                # passing of time brings about (expiry, retries) waits for the ledger.
                grants = await self._queue.grant(BATCH, self._settings.claim_s)
                poll_s = LEDGER_RETRY_S
            for grant in grants:
                self._supervisor.spawn(self._dispatch(ledger, grant), name=f"dispatch {self._model_id}")
            if len(grants) == BATCH:
                continue
            # Nothing waits any more, or no permit is free: whatever changes that rings.
            try:
                # Not ``wait_for``: before Python 3.12 it may lose a cancellation (cpython#86296).
                async with asyncio.timeout(poll_s):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _ask(self, ledger: ray.actor.ActorHandle) -> list[Grant] | None:
        """What the ledger grants, be it in answer to an earlier call. None while it does not answer. Raises ActorDiedError."""
        patience_s = 0.0 if self._asked else LEDGER_PATIENCE_S
        if self._asked is None:
            self._asked = asyncio.ensure_future(ledger.grant.remote(BATCH))
        done, _ = await asyncio.wait({self._asked}, timeout=patience_s)
        if not done:
            if patience_s:
                logger.warning("the ledger of %s does not answer; its prompts are granted without it", self._model_id)
            return None
        answer, self._asked = self._asked, None
        try:
            return answer.result()
        except ActorUnavailableError:
            return None

    async def _dispatch(self, ledger: ray.actor.ActorHandle, grant: Grant) -> None:
        """One lease, from the handle to its end. The replica records the attempt; here only its disappearance is noticed."""
        try:
            outcome = await self._handle.run.remote(grant.ref, grant.fence, grant.alone)
            self._full = self._full or outcome == Outcome.FULL
        except ActorUnavailableError as error:
            # The connection broke, the replica may well live: its heartbeats tell, and the lease expires if they do not.
            logger.warning("a replica of %s cannot be reached (%s)", self._model_id, type(error).__name__)
        except RayActorError:
            await self._tell(ledger.lost, grant)
        except RayTaskError as error:
            # The replica failed outside of the attempt. The lease expires by itself if it was claimed.
            logger.error("a replica of %s failed a call: %s", self._model_id, type(error.cause).__name__)
            await self._tell(ledger.hand_back, grant)
        except (RayServeException, RayError) as error:
            logger.warning("no replica of %s was reached (%s)", self._model_id, type(error).__name__)
            await self._tell(ledger.hand_back, grant)

    async def _tell(self, method: ray.actor.ActorMethod, grant: Grant) -> None:
        try:
            await method.remote(grant)
        except RayError as error:
            # Then the lease expires: slower, not lost.
            logger.warning("the ledger of %s did not hear of a lost lease (%s)", self._model_id, type(error).__name__)


@serve.deployment(
    num_replicas=2, ray_actor_options={"num_cpus": 0.1}, health_check_period_s=1, health_check_timeout_s=5
)
class Router:
    """One replica dispatches for every model; several share the work by asking the same ledgers."""

    async def __init__(self, settings: Settings, models: dict[str, DeploymentHandle]) -> None:
        self._supervisor = Supervisor()
        keys = Keys(settings.redis_namespace)
        client = connect_patient(settings.redis_url.get_secret_value())
        self._queues = {model_id: ModelQueue(client, keys, model_id) for model_id in models}
        self._dispatchers = {
            model_id: Dispatcher(settings, model_id, handle, self._queues[model_id], self._supervisor)
            for model_id, handle in models.items()
        }
        by_channel = {keys.wake(model_id): dispatcher for model_id, dispatcher in self._dispatchers.items()}

        async def hear_bells() -> None:
            async for ring in listen(client, by_channel):
                for dispatcher in self._dispatchers.values() if ring is None else [by_channel[ring[0]]]:
                    dispatcher.wake()

        self._deployments = {spec.id: spec.deployment for spec in settings.models}
        self._routing = CurrentRouting(settings)
        serve_control = SharedServeControl(serve.get_replica_context().app_name, self._supervisor)
        fallbacks = Fallbacks(self._routing, self._queues, self._deployments, serve_control)
        self._supervisor.keep_running(fallbacks.run, name="fallbacks")
        departed = DepartedModels(CatalogueStore(client, keys), list(models))
        self._supervisor.keep_running(departed.run, name="departed models")
        for model_id in models:
            await asyncio.to_thread(retire_other_ledgers, settings, model_id)
        for model_id, dispatcher in self._dispatchers.items():
            self._supervisor.keep_running(dispatcher.run, name=f"dispatcher {model_id}")
            serving = ServingReplicas(models[model_id], self._queues[model_id])
            self._supervisor.keep_running(serving.follow, name=f"replicas of {model_id}")
        self._supervisor.keep_running(hear_bells, name="bells")

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Called by Serve with the ``user_config`` of this deployment, and whenever it changes (``deployments.routing``)."""
        self._routing.reconfigure(user_config)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Called by Serve every ``metrics_interval_s`` of this deployment: the demand for each model, which
        ``deployments.autoscaling`` reads. Empty while the store is away: no news leaves every model as it is."""
        try:
            async with asyncio.timeout(STATS_PATIENCE_S):
                depths = await asyncio.gather(*(queue.depth() for queue in self._queues.values()))
        except (RedisError, TimeoutError) as error:
            logger.warning("the demand cannot be read (%s)", type(error).__name__)
            return {}
        return {
            demand_metric(self._deployments[model_id]): depth.demand
            for model_id, depth in zip(self._queues, depths, strict=True)
        }

    async def check_health(self) -> None:
        """The event loop answers; a dispatcher that fails is started again by its supervisor."""

    async def __del__(self) -> None:
        await self._supervisor.stop()
