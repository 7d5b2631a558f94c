"""A network cable: a proxy for one port that can be cut."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field


@dataclass
class Cable:
    """Forwards connections from a port of its own to another one on loopback.

    While it is cut, nothing gets through and no error is raised: connections stay open, data waits, and new connections
    are accepted but not answered. After mend() the waiting data is sent, as TCP does.
    """

    target: int
    port: int = 0
    whole: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.whole.set()
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        # the server checks the Host header, so its port is replaced; both ports have five digits
        self._names = tuple(f"127.0.0.1:{port}".encode() for port in (self.port, self.target))
        threading.Thread(target=self._welcome, daemon=True).start()

    def cut(self) -> None:
        """Stop forwarding."""
        self.whole.clear()

    def mend(self) -> None:
        """Forward again."""
        self.whole.set()

    def close(self) -> None:
        """Accept no more connections."""
        self._door.close()

    def _welcome(self) -> None:
        while True:
            try:
                caller, _ = self._door.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._connect, args=(caller,), daemon=True).start()

    def _connect(self, caller: socket.socket) -> None:
        self.whole.wait()
        try:
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            caller.close()
            return
        threading.Thread(target=self._pass, args=(server, caller, False), daemon=True).start()
        self._pass(caller, server, True)

    def _pass(self, source: socket.socket, sink: socket.socket, asks: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.whole.wait()
                sink.sendall(data.replace(*self._names) if asks else data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
