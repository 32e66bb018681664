"""The camera in the network: what it shows, over and over or for good, and that its pictures arrive."""

from __future__ import annotations

from urllib.error import HTTPError
from urllib.request import urlopen

import cv2
import numpy as np
import pytest

from curate.demo import network_camera


def test_it_shows_its_pictures_over_and_over() -> None:
    with network_camera([b"one", b"two"], rate=1000) as camera, urlopen(camera.url, timeout=10) as stream:
        text = stream.read(4 * 60)
    assert text.index(b"one") < text.index(b"two") < text.rindex(b"one")
    assert camera.sent >= 3
    assert camera.clients == 1


def test_the_last_picture_stays_where_nothing_is_repeated() -> None:
    with network_camera([b"one", b"two"], rate=1000, repeat=False) as camera, urlopen(camera.url, timeout=10) as stream:
        text = stream.read(8 * 60)
    assert text.count(b"one") == 1
    assert text.count(b"two") > 1


def test_pixels_arrive_as_they_were_shown() -> None:
    shown = np.zeros((48, 64, 3), np.uint8)
    shown[..., 0] = 200
    with network_camera([shown], rate=100) as camera:
        video = cv2.VideoCapture(camera.url)
        read, pixels = video.read()
        video.release()
    assert read
    assert np.abs(pixels[..., ::-1].astype(int) - shown).max() < 12


def test_it_may_refuse() -> None:
    with network_camera([b"one"]) as camera:
        camera.refuses = True
        with pytest.raises(HTTPError, match="503") as caught:
            urlopen(camera.url, timeout=10)
        caught.value.close()
