"""Archives as folders: zip (PKWARE APPNOTE 6.3.10) and tar (POSIX pax, GNU, v7; plain, gzip, bzip2, xz).

A source that is an archive is unpacked into the dataset's own folder and then read as the folder that was packed; an export
to a name that ends like an archive's is packed. What an archive says of itself is never trusted: names, sizes and kinds are
checked, and bytes are counted as they come.

- `kinds`: whether a file is an archive, by its content.
- `members`: what is in one, whichever kind it is, in the order in which it lies there.
- `budget`: how much may come out of one.
- `unpack`: an archive as a folder, whole or not at all.
- `pack`: a folder as an archive.
"""

from __future__ import annotations

from curate.formats.archives.budget import Limits
from curate.formats.archives.kinds import archive_kind, kind_of_name
from curate.formats.archives.pack import pack
from curate.formats.archives.unpack import unpack

__all__ = ["Limits", "archive_kind", "kind_of_name", "pack", "unpack"]
