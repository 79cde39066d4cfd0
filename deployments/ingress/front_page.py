"""GET /: what this is, for whoever opens the service in a browser. Clients that do not ask for HTML get the same as JSON."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from html import escape

import orjson
from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress.auth import Access, Gate, GuardedRoute
from deployments.ingress.operation import STRING, Operation, exactly
from deployments.ingress.routing import RoutesBelow

NAME = "Prompt Svc"
_ABOUT = (
    "A durable prompt service for language models on a Ray cluster: what it accepts survives crashes, streams while it is "
    "answered, and ends exactly once."
)
#: Relative: the service may be mounted below a prefix.
LINKS = {"openapi": "openapi.json", "health": "health"}
#: The README's first ones (a test compares). $URL is where this page is.
COMMANDS = (
    r"""TOKEN=$(curl -s $URL/user-svc/login -d '{"appHost": "unnamed", "slug": "1backend", "password": "changeme"}' \
  | sed -n 's/.*"token":"\([^"]*\)".*/\1/p')""",
    r"""curl -s $URL/prompt-svc/prompt -H "Authorization: Bearer $TOKEN" -d '{
  "prompt": "What is the capital of France?", "sync": true,
  "parameters": {"textToText": {"temperature": 0}}}'""",
)

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem;color-scheme:light dark}"
    "pre{overflow-x:auto;padding:1rem;border:1px solid;border-radius:.3rem;font-size:.85rem}"
)
_PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{NAME}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{NAME}</h1>
<p>{escape(_ABOUT)}</p>
<p>There is nothing to click here: it speaks HTTP and JSON. With <code>URL</code> set to the address of this page, and the
password of the admin:</p>
<pre>{escape(chr(10).join(COMMANDS))}</pre>
<ul>
<li><a href="{LINKS["openapi"]}">openapi.json</a>: every route, what it takes and what it answers</li>
<li><a href="{LINKS["health"]}">health</a>: the models, and what waits for them</li>
<li>README.md and docs/http-api.md of its source: the same in words, streams and the command line <code>oo</code> too</li>
</ul>
</body>
</html>
""".encode()
_HTML_HEADERS = {
    # Nothing but the page itself, and it in no frame.
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'",
    "Vary": "Accept",
}
_JSON = orjson.dumps({"name": NAME, "about": _ABOUT, **LINKS})


class FrontPage:
    """The page at the root."""

    def routes(self, gate: Gate) -> list[GuardedRoute]:
        described = Operation(
            response=exactly({"name": STRING, "about": STRING, **{link: STRING for link in LINKS}}),
            other_media_types=("text/html",),
        )
        return [RoutesBelow("", gate)("GET", "/", self.show, Access.PUBLIC, described)]

    async def show(self, request: Request) -> Response:
        """What this is and where to go on. As a page if `Accept` names `text/html`, as browsers do."""
        if _wants_html(request.headers.get("accept", "")):
            return Response(_PAGE, media_type="text/html", headers=_HTML_HEADERS)
        return Response(_JSON, media_type="application/json", headers={"Vary": "Accept"})


def _wants_html(accept: str) -> bool:
    kinds = {kind.partition(";")[0].strip().lower() for kind in accept.split(",")}
    return "text/html" in kinds
