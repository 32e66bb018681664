"""Which image Roboflow made another from, told by the name it gave: ``a_jpg.rf.0123….jpg`` was made from ``a.jpg``.

Roboflow exports several augmented versions of one image, in any split, under names that differ in the hash alone. Versions of
one source are one group: they must not be spread over splits, and are no duplicates of each other by accident.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

# The source's name with its last dot written as '_', and a hash: 32 hexadecimal digits, in newer exports 20 letters and digits.
_PATTERN: Final = (
    r"^(?:.*/)?(?P<stem>[^/]+)_(?P<suffix>(?i:jpe?g|jfif|png|bmp|webp|tiff?|gif|avif|heic|mov|mp4|avi|mkv))"
    r"\.rf\.(?:[0-9a-f]{32}|[0-9A-Za-z]{20})\.[A-Za-z]{3,4}$"
)


def group_by_source(images: pa.Table) -> pa.Table:
    """Fill the group of images that have none and a name that Roboflow gives.

    Args:
        images: Columns of `curate.dataset.schema.IMAGES`.
    """
    parts = pc.extract_regex(images["location"], _PATTERN)
    sources = pc.binary_join_element_wise(pc.struct_field(parts, "stem"), pc.struct_field(parts, "suffix"), ".")
    place = images.column_names.index("group")
    return images.set_column(place, images.schema.field("group"), pc.coalesce(images["group"], sources))
