"""The admin port itself: listening, and what each path answers."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import ipaddress
import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from zattredis.commands.table import resolve
from zattredis.errors import ReplyError
from zattredis.observability.events import get_logger
from zattredis.observability.exposition import CONTENT_TYPE
from zattredis.peer.tls_listener import cannot_listen
from zattredis.server.admin.health import Health
from zattredis.server.admin.http import HttpConnection, Request, Response
from zattredis.server.admin.metrics import render_metrics
from zattredis.server.admin.state import console_state
from zattredis.server.strangers import is_local

if TYPE_CHECKING:
    from zattredis.server.node import Node

SHOWN_BY: Final = ([b"INFO"], [b"RAFT", b"STATUS"], [b"SLOWLOG", b"GET"])
"""The commands that show what the console shows: who may not run them may not see it here either."""
TOKEN_HEADER: Final = "x-zattredis-token"
FAILED_LOGIN_S: Final = 0.5
"""An answer to a wrong password waits so long; with the bound on connections that bounds guessing."""
_FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/console.css": ("console.css", "text/css; charset=utf-8"),
    "/console.js": ("console.js", "text/javascript; charset=utf-8"),
}
_JSON: Final = "application/json"

_log = get_logger(room="admin")


class Refused(Exception):
    """A request that gets this answer instead of what it asked for."""

    def __init__(self, status: int, text: str, **headers: str) -> None:
        super().__init__(text)
        self.response = Response(status, text.encode() + b"\n", headers=headers)


class AdminServer:
    """One per node that has an admin port."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._health = Health(node)
        self._token = secrets.token_urlsafe(24)
        self._connections: set[HttpConnection] = set()
        self._server: asyncio.Server | None = None
        self._looking: asyncio.TimerHandle | None = None
        files = resources.files("zattredis.server.admin") / "console"
        self._files = {
            path: Response(200, (files / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()
        }
        self._routes: dict[str, dict[str, Callable[[Request], Awaitable[Response]]]] = {
            "/metrics": {"GET": self._metrics},
            "/livez": {"GET": self._livez},
            "/readyz": {"GET": self._readyz},
            "/api/state": {"GET": self._state},
            "/api/transfer": {"POST": self._transfer},
            "/api/snapshot": {"POST": self._snapshot},
            **{path: {"GET": self._file} for path in _FILES},
        }

    async def start(self, host: str, port: int) -> None:
        """Listen. Raises FatalError where that is not possible."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: HttpConnection(self.handle, self._connections), host, port, reuse_address=True
            )
        except OSError as error:
            raise cannot_listen("the admin port", host, port, error) from error
        self._look()

    def _look(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(1.0, self._look)
        if self._node.is_open:
            self._health.look()

    def close(self) -> None:
        """Stop listening and close every connection."""
        if self._looking is not None:
            self._looking.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.close()

    # -- one request -------------------------------------------------------------------------------------------------

    async def handle(self, request: Request) -> Response:
        """Return the answer to a request; whatever goes wrong is one, too."""
        methods = self._routes.get(request.path)
        if methods is None:
            return _text(404, "there is no such page; see / for the console")
        method = "GET" if request.method == "HEAD" else request.method
        handler = methods.get(method)
        if handler is None:
            allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
            return Response(405, f"only {allowed}\n".encode(), headers={"Allow": allowed})
        try:
            return await handler(request)
        except Refused as refused:
            return refused.response
        except Exception as error:
            _log.error("admin_request_failed", path=request.path, error=repr(error), exc_info=error)
            return _text(500, "this request failed; see the log of the node")

    async def _metrics(self, _request: Request) -> Response:
        if not self._node.is_open:
            raise Refused(503, "the node has ended")
        return Response(200, render_metrics(self._node).encode("utf-8", "replace"), CONTENT_TYPE)

    async def _livez(self, _request: Request) -> Response:
        if not self._node.is_open:
            return _text(503, "the node has ended")
        return _text(200, "ok")

    async def _readyz(self, _request: Request) -> Response:
        reasons = self._health.unready()
        return _text(503, "not ready: " + "; ".join(reasons)) if reasons else _text(200, "ready")

    async def _file(self, request: Request) -> Response:
        await self._check_access(request)
        return self._files[request.path]

    async def _state(self, request: Request) -> Response:
        await self._check_access(request)
        state = console_state(self._node, self._health.unready())
        return _json(200, {**state, "token": self._token})

    async def _transfer(self, request: Request) -> Response:
        await self._check_action(request, [b"RAFT", b"TRANSFER"])
        target = _fields(request).get("target", "")
        if not isinstance(target, str) or len(target) > 256:
            raise Refused(400, "target must be the id of a member")
        return await self._act(self._node.services.cluster.transfer(target.encode()), "leader", target)

    async def _snapshot(self, request: Request) -> Response:
        await self._check_action(request, [b"RAFT", b"SNAPSHOT"])
        _fields(request)
        return await self._act(self._node.services.save_snapshot(), "snapshot", "")

    async def _act(self, action: Awaitable[Any], name: str, detail: str) -> Response:
        try:
            result = await action
        except ReplyError as error:
            return _json(409, {"error": str(error)})
        _log.info("admin_action", action=name, detail=detail, result=result)
        return _json(200, {name: result if result is not None else "done"})

    # -- who may -----------------------------------------------------------------------------------------------------

    async def _check_access(self, request: Request, commands: Sequence[list[bytes]] = SHOWN_BY) -> None:
        """Raise Refused unless the request's user may see, or do, what these commands of Redis show or do.

        Who names nobody is the default user, as on the client port; and as there, where that needs no password, hosts
        other than this one are kept out by protected mode.
        """
        access = self._node.services.access
        if not access.password_required:
            if not _names_itself(request.headers.get("host", ""), self._known_hosts()):
                raise Refused(421, "this host name is none of the node's: use its address, or set a password")
            if self._node.dispatcher.protected and not is_local(request.peer):
                raise Refused(403, "protected mode: without a password this is for this machine alone")
        user, password = _credentials(request.headers.get("authorization", ""))
        if not access.authenticate(user, password):
            if password:
                _log.warning("admin_login_failed", user=user.decode("utf-8", "replace"))
                await asyncio.sleep(FAILED_LOGIN_S)
            raise Refused(
                401, "a password is needed", **{"WWW-Authenticate": 'Basic realm="zattredis", charset="UTF-8"'}
            )
        row = access.user(user)
        permissions = access.permissions(row) if row is not None else None
        for argv in commands if permissions is not None else ():
            assert permissions is not None
            if permissions.denies(resolve(argv), argv)[0]:
                command = b" ".join(argv).decode()
                raise Refused(403, f"user {user.decode('utf-8', 'replace')} has no permission to run {command}")

    def _known_hosts(self) -> set[str]:
        settings = self._node.settings
        return {"localhost", settings.host.lower(), settings.admin_bind.lower()}

    async def _check_action(self, request: Request, command: list[bytes]) -> None:
        """Raise Refused unless a page of this very origin sent the request, or a program that has the token.

        Its user must be one who may run `command`.
        """
        await self._check_access(request, [command])
        headers = request.headers
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower():
            raise Refused(403, "another web site may not do that")
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise Refused(403, "another web site may not do that")
        if not hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode(), self._token.encode()):
            raise Refused(403, "the token is missing or old: load the page again")
        if headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
            raise Refused(415, f"the body must be {_JSON}")


def _names_itself(host: str, known: set[str]) -> bool:
    """Return whether a Host header is an address, or a name that only this machine can have for itself.

    A foreign name that leads here is how a web site would make a browser take this server for part of it.
    """
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name.lower().rstrip(".") in known
    return True


def _credentials(header: str) -> tuple[bytes, bytes]:
    """Return user and password of HTTP's Basic authentication; no user means the default one."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return b"default", b""
    try:
        user, _, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return b"default", b""
    return user or b"default", password


def _fields(request: Request) -> dict[str, Any]:
    try:
        found = json.loads(request.body or b"{}")
    except (ValueError, RecursionError):
        raise Refused(400, "the body is no JSON") from None
    if not isinstance(found, dict):
        raise Refused(400, "the body must be a JSON object")
    return found


def _text(status: int, text: str) -> Response:
    return Response(status, text.encode() + b"\n")


def _json(status: int, value: object) -> Response:
    return Response(status, json.dumps(value, ensure_ascii=True).encode(), _JSON)
