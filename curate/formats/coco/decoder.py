"""A piece of a JSON array as typed structs, with every key that its objects have."""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Iterator
from typing import Any, Final, Generic, TypeVar

import msgspec

NOTHING: Final = msgspec.Raw(b"")
"""What a struct's Raw field holds when the object does not have it."""

_UNNAMEABLE = re.compile(r'[\\"\x00-\x1f]')

S = TypeVar("S", bound=msgspec.Struct)


class ObjectDecoder(Generic[S]):
    """Decodes pieces of an array into structs, and learns which further keys its objects have.

    A struct that forbids unknown fields is decoded first; when an object has a key that it does not know, the struct is
    made anew with that key as a raw field. So nothing is overlooked, and the common case costs nothing.

    Args:
        base: A struct type with ``gc=False, forbid_unknown_fields=True``.

    Attributes:
        extra_keys: The keys beyond those of `base` that were met, in the order they were met.
    """

    def __init__(self, base: type[S]) -> None:
        self.base = base
        self.known = {info.encode_name for info in msgspec.structs.fields(base)}
        self.extra_keys: list[str] = []
        self._rebuild()

    def decode(self, piece: bytes) -> list[S]:
        """Decode a JSON array of objects.

        Raises:
            msgspec.DecodeError: Some element does not have the struct's types, or is not strict JSON.
        """
        try:
            return self._decoder.decode(piece)
        except msgspec.DecodeError:
            objects = msgspec.json.decode(piece, type=list[dict[str, msgspec.Raw]])
            self.learn({key: None for item in objects for key in item})
        return self._decoder.decode(piece)

    def learn(self, keys: dict[str, None]) -> None:
        """Know these keys (in their order) from now on."""
        new = [key for key in keys if key not in self.known]
        if new:
            self.extra_keys += new
            self.known.update(new)
            self._rebuild()

    def build(self, fields: dict[str, Any], extras: dict[str, bytes]) -> S:
        """Make a struct by hand; every key of `extras` must have been learned."""
        raw = {f"extra_{self.extra_keys.index(key)}": msgspec.Raw(value) for key, value in extras.items()}
        return self._type(**fields, **raw)

    def extras(self, items: list[S]) -> dict[str, list[bytes]]:
        """The JSON text of each extra key in each of n structs: lists of length n, b"" where an object lacks the key."""
        return {
            key: [bytes(getattr(item, name)) for item in items]
            for key, name in ((key, f"extra_{number}") for number, key in enumerate(self.extra_keys))
        }

    def _rebuild(self) -> None:
        # msgspec cannot name some keys: objects that have one are never decoded at once, only built by hand.
        names = {
            f"extra_{number}": f"<{number}>" if _UNNAMEABLE.search(key) else key
            for number, key in enumerate(self.extra_keys)
        }
        self._type: type[S] = (
            msgspec.defstruct(  # type: ignore[assignment]
                self.base.__name__,
                [(name, msgspec.Raw, NOTHING) for name in names],
                bases=(self.base,),
                rename=names,
                gc=False,
                forbid_unknown_fields=True,
            )
            if names
            else self.base
        )
        self._decoder: msgspec.json.Decoder[list[S]] = msgspec.json.Decoder(list[self._type])  # type: ignore[name-defined]


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """No garbage collection: a hundred thousand new objects would set it off again and again, and it would find nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
