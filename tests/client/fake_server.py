"""A server that answers by a script, to break off at exactly the moment a test is about."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable

import hiredis

Answer = Callable[[list[bytes]], bytes | None]


class FakeServer:
    """Answers each command by `answer(argv)`; None closes the connection without a reply. `seen` holds all commands."""

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.tls = tls
        self.seen: list[list[bytes]] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        reader = hiredis.Reader()
        if self.tls is not None:
            try:
                connection = self.tls.wrap_socket(connection, server_side=True)
            except OSError:
                return
        with connection:
            while True:
                try:
                    data = connection.recv(65536)
                except OSError:
                    return
                if not data:
                    return
                reader.feed(data)
                while (argv := reader.gets()) is not False:
                    if argv[0] == b"CLIENT":
                        connection.sendall(b"+OK\r\n")
                        continue
                    self.seen.append(argv)
                    reply = self.answer(argv)
                    if reply is None:
                        return
                    connection.sendall(reply)

    def names(self) -> list[bytes]:
        return [argv[0] for argv in self.seen]

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *rest: object) -> None:
        self.listener.close()
        for connection in self.connections:
            connection.close()
