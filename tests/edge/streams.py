"""A camera in the network: motion JPEG over HTTP on this machine, as many cameras give it."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import numpy.typing as npt


@dataclass
class MotionJpeg:
    """How the camera behaves; may be changed while it runs.

    Attributes:
        url: Of the stream.
        pictures: What it shows, over and over.
        pause: Seconds between frames.
        frames_per_client: After which it breaks off; None for never.
        hangs: Whether it keeps the connection and says nothing instead of breaking off.
        refuses: Whether it answers with an error.
        wants: User and password, `USER:PASSWORD`; empty for none.
        clients: That came so far.
        sent: Frames that were sent in all.
    """

    url: str
    pictures: list[bytes]
    pause: float = 0.02
    frames_per_client: int | None = None
    hangs: bool = False
    refuses: bool = False
    wants: str = ""
    clients: int = 0
    sent: int = 0
    ended: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving_mjpeg(pictures: list[npt.NDArray[np.uint8]] | None = None) -> Iterator[MotionJpeg]:
    """A camera that shows RGB pictures; without any, grey ones that get lighter by 4 each."""
    shown = pictures or [np.full((48, 64, 3), 4 * number, np.uint8) for number in range(60)]
    encoded = [
        cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes() for picture in shown
    ]
    camera = MotionJpeg("", encoded)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            expected = f"Basic {base64.b64encode(camera.wants.encode()).decode()}"
            if camera.refuses:
                self.send_error(503)
            elif camera.wants and self.headers.get("Authorization") != expected:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.end_headers()
            else:
                self._show()

        def _show(self) -> None:
            camera.clients += 1
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            number = 0
            while not camera.ended.is_set() and number != camera.frames_per_client:
                data = camera.pictures[number % len(camera.pictures)]
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                try:
                    self.wfile.write(head.encode() + data + b"\r\n")
                except OSError:
                    return
                number += 1
                camera.sent += 1
                camera.ended.wait(camera.pause)
            while camera.hangs and not camera.ended.wait(0.05):
                pass

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
