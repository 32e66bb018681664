"""Hugging Face datasets: Parquet, what `save_to_disk` wrote, and ImageFolder with a metadata file.

**Parquet and Arrow.** Each row is an image: a column of bytes, or of ``{bytes, path}``. The key ``huggingface`` of the schema's
metadata says what columns mean (`datasets.Features` as JSON): which are images, and the names behind the numbers of a
ClassLabel. Where a file does not have it, dataset_info.json, dataset_infos.json or the README's ``dataset_info`` is asked.
Files are named after their split ('data/train-00000-of-00002.parquet', 'test/0000.parquet'). The bytes are written where
the dataset keeps files of its own, under the name that the column has for them, else under the row's number.

**ImageFolder.** metadata.csv, metadata.jsonl or metadata.parquet beside the images, with a column `file_name`. Folders of
classes without such a file are `curate.formats.imagefolder`'s.

**Columns.** There is no rule for annotations; these are what the public sets and the documentation use. `label` (or
`labels`, `category`) is the whole image's class. `objects`, a list of structs or a struct of lists, has `bbox` as in COCO
([x, y, width, height] in pixels), `category`, and perhaps `id`, `area`, `iscrowd`, `segmentation` and `keypoints`; what else
it has are attributes. `image_id`, `width` and `height` are what they say; all other columns are the image's metadata.

Writing embeds the images' bytes and makes data/<split>-00000-of-00001.parquet, as `Dataset.push_to_hub` does, with a README.
What only curate knows (colors and skeletons of classes, the set's own notes) is in the schema's metadata under ``curate``.

- `features`: what columns mean.
- `tables`: Parquet and Arrow files as batches of rows; `folders`: metadata files as rows.
- `images`: bytes as files.
- `rows`, `objects`: a row as an image with its annotations.
- `read`, `write`, `schema`: from and to the tables.
"""

from __future__ import annotations

from curate.formats.base import Format
from curate.formats.huggingface.read import detect, read
from curate.formats.huggingface.write import write

FORMAT = Format("huggingface", detect, read, write)
