"""A camera in the network: Motion JPEG over HTTP on this machine, as many cameras give it.

with network_camera([frame.pixels for frame in film_frames(Belt(), 300)], rate=25) as camera:
    ...     # curate run PACKAGE --source camera.url
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from curate.demo.render import encode_jpeg
from curate.imaging import Pixels

_QUALITY: Final = 95
_HEAD: Final = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
_LATE: Final = 1.0  # seconds of delay that are made up for; what is later than that is not sent faster


@dataclass
class NetworkCamera:
    """How the camera behaves; may be changed while it runs.

    Attributes:
        pictures: JPEG files that it shows, to each client from the first one on.
        rate: Of them in a second, however fast they are taken.
        repeats: Whether it begins anew after the last one, or else shows that one on and on.
        url: Of the stream.
        frames_per_client: After which it breaks off; None for never.
        hangs: Whether it keeps the connection and says nothing instead of breaking off.
        refuses: Whether it answers with an error.
        wants: User and password, `USER:PASSWORD`; empty for none.
        clients: That came so far.
        sent: Frames that were handed to the network so far.
        ended: Set when it is switched off.
    """

    pictures: Sequence[bytes]
    rate: float
    repeats: bool = True
    url: str = ""
    frames_per_client: int | None = None
    hangs: bool = False
    refuses: bool = False
    wants: str = ""
    clients: int = 0
    sent: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def picture(self, number: int) -> bytes:
        """The one that a client gets after so many others."""
        last = len(self.pictures) - 1
        return self.pictures[number % (last + 1) if self.repeats else min(number, last)]


@contextmanager
def network_camera(
    pictures: Sequence[Pixels | bytes], *, rate: float = 25.0, repeat: bool = True
) -> Iterator[NetworkCamera]:
    """A camera at an address of this machine, until the block ends.

    Args:
        pictures: What it shows: RGB, uint8 of shape (height, width, 3), or JPEG files as they are.
        rate: Frames a second.
        repeat: Whether it shows them over and over, or the last one for good.
    """
    files = [each if isinstance(each, bytes) else encode_jpeg(each, _QUALITY) for each in pictures]
    camera = NetworkCamera(files, rate, repeat)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, camera)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    camera.url = f"http://127.0.0.1:{server.server_port}/video.mjpg"
    try:
        yield camera
    finally:
        camera.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(client: BaseHTTPRequestHandler, camera: NetworkCamera) -> None:
    """Let a client in, or not."""
    expected = f"Basic {base64.b64encode(camera.wants.encode()).decode()}"
    if camera.refuses:
        client.send_error(503)
    elif camera.wants and client.headers.get("Authorization") != expected:
        client.send_response(401)
        client.send_header("WWW-Authenticate", 'Basic realm="camera"')
        client.end_headers()
    else:
        camera.clients += 1
        client.send_response(200)
        client.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        client.end_headers()
        _show(client, camera)


def _show(client: BaseHTTPRequestHandler, camera: NetworkCamera) -> None:
    """Send pictures until the client or the camera has enough."""
    number, due = 0, time.monotonic()
    while not camera.ended.is_set() and number != camera.frames_per_client:
        data = camera.picture(number)
        try:
            client.wfile.write(_HEAD % len(data) + data + b"\r\n")
        except OSError:
            return
        number += 1
        camera.sent += 1
        due = max(due + 1 / camera.rate, time.monotonic() - _LATE)
        camera.ended.wait(max(0.0, due - time.monotonic()))
    while camera.hangs and not camera.ended.wait(0.05):
        pass
