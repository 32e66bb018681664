"""The App's server as a program: ``python -m curate.connectors.fiftyone.serve PORT``. Started by `server`, by nobody else.

FiftyOne's server as it is, but it answers to this machine's own names only, so that no web page can reach it by another; its
pages may load nothing from elsewhere, where FiftyOne's own ask for fonts; and it ends with the process at the other end of its
input.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final

_LOCAL: Final = "127.0.0.1"
_POLICY: Final = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:; "
    "connect-src 'self' ws: blob: data:; frame-ancestors 'none'"
)

Message = dict[str, Any]


class _OwnPagesOnly:
    """Tells browsers that pages may load nothing from other hosts."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Any, send: Callable[[Message], Awaitable[None]]) -> None:
        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                header = (b"content-security-policy", _POLICY.encode())
                message = {**message, "headers": [*message.get("headers", ()), header]}
            await send(message)

        await self._app(scope, receive, with_policy)


def main(port: int) -> None:
    """Serve until the input ends."""
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
    os.environ["FIFTYONE_SERVER"] = "1"  # before FiftyOne is imported
    from importlib import import_module

    app = import_module("fiftyone.server.app").app
    hosts = import_module("starlette.middleware.trustedhost").TrustedHostMiddleware
    app.add_middleware(_OwnPagesOnly)
    app.add_middleware(hosts, allowed_hosts=[_LOCAL, "localhost"])
    import_module("fiftyone.server.main").start_server(port=port, address=_LOCAL)


if __name__ == "__main__":
    main(int(sys.argv[1]))
