"""The service: an ASGI application that answers with a classifier."""

import asyncio
import contextlib
import dataclasses
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, Literal
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from torchnin.classifier import Classifier
from torchnin.saved import without_places
from torchnin.web.access import EXPOSED, MODEL, Access, Door, Gate
from torchnin.web.answers import Outcome, encode, not_asked_so, refused, respond, send_outcome
from torchnin.web.limits import Limits, RefusedError, failed
from torchnin.web.looker import Task
from torchnin.web.looking import network_json
from torchnin.web.metrics import CONTENT_TYPE, Metrics
from torchnin.web.openapi import describe
from torchnin.web.pages import add_page
from torchnin.web.queue import BatchingQueue
from torchnin.web.samples import samples_json
from torchnin.web.uploads import Uploads


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """Everything about the service but the classifier."""

    access: Access = dataclasses.field(default_factory=Access)
    """Who may ask."""
    limits: Limits = dataclasses.field(default_factory=Limits)
    """How much is taken."""
    own_processes: bool = False
    """Whether processes of their own look at the pictures where that is faster, on as many cores as torch may use (at most four)."""


class Service:
    """A classifier and what answers with it: the endpoints of the application."""

    def __init__(self, classifier: Classifier, settings: ServiceSettings) -> None:
        self.classifier = classifier
        self.settings = settings
        self.metrics = Metrics()
        self.door = Door(settings.access)
        self.uploads = Uploads(settings.limits)
        self.queue = BatchingQueue(classifier, settings.limits, self.metrics.batch, own_processes=settings.own_processes)
        self.metrics.watch_waiting(lambda: self.queue.waiting)
        self.metrics.watch_memory(lambda: self.queue.memory)
        self._model = encode(model_json(classifier))
        self._known_by = hashlib.sha256(self._model).hexdigest()[:16]
        self._description = encode(describe(classifier, settings.access, settings.limits))
        self._samples: asyncio.Task[bytes] | None = None
        self.failure: Exception | None = None
        """Why it could not begin."""

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """While the application runs, so does the queue."""
        try:
            await self.queue.start()
        except Exception as error:
            self.failure = error
            raise
        try:
            yield
        finally:
            await self.queue.stop()

    async def predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/predict."""
        try:
            if scope["query_string"]:
                _parameters(scope, {})
            taken = await self.uploads.take(scope, receive)
            try:
                futures = iter(self.queue.ask([Task("predict", file) for file in taken.files if isinstance(file, bytes)]))
                # Not gathered: a future of the queue never ends in an exception.
                outcomes = [await next(futures) if isinstance(file, bytes) else file for file in taken.files]
            finally:
                self.uploads.give_back(taken)
            if all(isinstance(outcome, RefusedError) for outcome in outcomes):
                raise _worst(outcomes)
            parts = [outcome if isinstance(outcome, bytes) else encode(outcome.to_dict()) for outcome in outcomes]
            await send_outcome(send, b"[" + b", ".join(parts) + b"]" if taken.several else parts[0])
        except RefusedError as refusal:
            await send_outcome(send, refusal)

    def predict_at_once(self, headers: Sequence[tuple[bytes, bytes]], body: bytes, answered: Callable[[Outcome], None]) -> bool:
        """POST /v1/predict of one picture whose body came with its headers: the same answers without the layers in between.

        Args:
            headers: of the request, names in lower case.
            body: the picture.
            answered: called with the outcome, now or later, in the event loop.

        Returns:
            False where only the endpoint can answer; then nothing was done.
        """
        if self.settings.access.allow_origins:
            return False  # their headers are made by a layer in between
        begin = perf_counter()

        def finish(outcome: Outcome) -> None:
            status = 200 if isinstance(outcome, bytes) else outcome.status
            self.metrics.answered("/v1/predict", status, perf_counter() - begin)
            answered(outcome)

        try:
            self.door.admit("/v1/predict", "POST", headers)
            taken = self.uploads.take_whole(headers, body)
        except Exception as error:
            finish(error if isinstance(error, RefusedError) else failed(error))
            return True
        if taken is None:
            return False

        def finish_taken(outcome: Outcome) -> None:
            self.uploads.give_back(taken)
            finish(outcome)

        try:
            self.queue.predict(body, finish_taken)
        except Exception as error:
            finish_taken(error if isinstance(error, RefusedError) else failed(error))
        return True

    async def explain(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/explain."""
        try:
            given = _parameters(scope, {"layers": "true"})
            layers = _truth("layers", given["layers"])
            taken = await self.uploads.take(scope, receive)
            try:
                if len(taken.files) > 1:
                    raise RefusedError(400, f"the request has {len(taken.files)} pictures; one is explained at a time")
                file = taken.files[0]
                work: Literal["explain", "explain layers"] = "explain layers" if layers else "explain"
                outcome = await self.queue.ask([Task(work, file)])[0] if isinstance(file, bytes) else file
            finally:
                self.uploads.give_back(taken)
            await send_outcome(send, outcome, (MODEL.lower().encode(), self._known_by.encode()))
        except RefusedError as refusal:
            await send_outcome(send, refusal)

    async def model(self, _: Request) -> Response:
        """GET /v1/model."""
        return Response(self._model, headers={MODEL: self._known_by}, media_type="application/json")

    async def samples(self, _: Request) -> Response:
        """GET /v1/samples."""
        if self._samples is None or (self._samples.done() and self._samples.exception() is not None):  # what failed may be over
            access = self.settings.access  # another Host or origin is that of others, as behind a proxy
            own = access.is_local and access.token is None and not access.allow_hosts and not access.allow_origins
            self._samples = asyncio.create_task(asyncio.to_thread(lambda: encode(samples_json(self.classifier, own=own))))
        return Response(await asyncio.shield(self._samples), media_type="application/json")

    async def description(self, _: Request) -> Response:
        """GET /openapi.json."""
        return Response(self._description, media_type="application/json")

    async def health(self, _: Request) -> Response:
        """GET /healthz."""
        if not self.queue.alive:
            raise RefusedError(503, "the service has stopped looking at pictures; start it again")
        return respond({"status": "ok"})

    async def read_metrics(self, _: Request) -> Response:
        """GET /metrics."""
        return Response(self.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def create_app(classifier: Classifier, settings: ServiceSettings | None = None) -> Starlette:
    """The service as an ASGI application.

    Args:
        classifier: what answers. While the application runs, its network is left as it is: several threads compute with it.
        settings: who may ask and how much; by default programs and pages of this machine.

    Raises:
        ValueError: the classifier looks at neither grey nor colour pictures, and files hold no others.
    """
    channels = classifier.preprocessing.channels
    if channels not in (1, 3):
        raise ValueError(f"the classifier takes pictures of {channels} channels; what is sent to a service has 1 (grey) or 3 (colour)")
    settings = settings or ServiceSettings()
    service = Service(classifier, settings)
    routes: list[BaseRoute] = [
        Route("/v1/predict", _Posted(service.predict)),
        Route("/v1/explain", _Posted(service.explain)),
        Route("/v1/model", service.model),
        Route("/v1/samples", service.samples),
        Route("/openapi.json", service.description),
        Route("/healthz", service.health),
        Route("/metrics", service.read_metrics),
    ]
    middleware = [Middleware(Gate, service.door, service.metrics)]
    if settings.access.allow_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.access.allow_origins,
                allow_methods=("GET", "POST"),
                allow_headers=("Authorization", "Content-Type"),
                expose_headers=EXPOSED,
            )
        )
    handlers = {RefusedError: refused, HTTPException: refused}
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=handlers, lifespan=service.lifespan)
    add_page(app)
    app.state.service = service
    return app


def model_json(classifier: Classifier) -> dict[str, Any]:
    """What `GET /v1/model` says: the network, its layers, its classes, and what is recorded of its training."""
    return {
        **network_json(classifier),
        "network": classifier.config.to_dict(),
        "preprocessing": classifier.preprocessing.to_dict(),
        "layers": [dataclasses.asdict(row) for row in classifier.summarize().rows],
        "metadata": _public_record(classifier.metadata),
    }


def _public_record(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A classifier's record for anyone who asks: of its data neither the place nor files nor notes."""
    told = without_places(metadata)
    if isinstance(data := told.get("data"), Mapping):
        told["data"] = {key: value for key, value in data.items() if key not in ("source", "files", "notes", "skipped")}
    return told


class _Posted:
    """An endpoint that reads the request itself: Starlette hands it over as it came, for POST alone."""

    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            path, method = scope["path"], scope["method"]
            await send_outcome(send, RefusedError(405, not_asked_so(path, method), headers={"Allow": "POST"}))
        else:
            await self._endpoint(scope, receive, send)


def _worst(outcomes: Sequence[Outcome]) -> RefusedError:
    """What a request is answered of which no picture could be: the first refusal, for several with their number."""
    refusals = [outcome for outcome in outcomes if isinstance(outcome, RefusedError)]
    first = max(refusals, key=lambda refusal: refusal.status >= 500)
    if len(refusals) == 1:
        return first
    return RefusedError(
        first.status, f"none of the {len(refusals)} pictures could be used; of the first: {first.reason}", headers=first.headers
    )


def _parameters(scope: Scope, accepted: dict[str, str]) -> dict[str, str]:
    """The query's parameters over their defaults.

    Raises:
        RefusedError: 400, one is not known or stands there twice.
    """
    given: dict[str, str] = {}
    known = f"which is not known or stands there twice; accepted: {', '.join(accepted)}" if accepted else "and no parameter is known here"
    for name, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        if name not in accepted or name in given:
            raise RefusedError(400, f"the query has {name[:50]!r}, {known}")
        given[name] = value
    return {**accepted, **given}


def _truth(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise RefusedError(400, f"{name} is {value[:50]!r}; accepted: true, false")
    return value == "true"
