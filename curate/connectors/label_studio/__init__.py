"""Label Studio, community edition 1.8 and later: projects of images (https://api.labelstud.io).

A task is an item; one with several images is as many. A region of the annotation that holds is an annotation of the ground
truth, known as ``ANNOTATION:REGION``: of several annotators' the one marked as ground truth, else the first. Each annotator's
own is in the layer ``annotators/EMAIL`` then; what curate has put there is nobody's until somebody saves it. A task that is
skipped, or whose annotations are deleted, is unlabelled: nothing is handed in. Drafts are left alone.

What curate puts there it finds again: a region's ``meta.curate.id`` is the annotation's id, a task's
``meta.curate.images`` has the image's id and the digest of its bytes. Findings are in ``meta.curate.findings``, with the
region that each is about (``meta.text``), and as the columns `curate_score` and `curate_finding` of the task: by the first
the tab 'curate' is ordered, the second is shown above the image in a project that curate has made. That tab is where to work:
tasks that come with labels are done as far as the label stream goes, which leaves them out.

- `login`: both kinds of tokens.
- `api`: the requests.
- `tasks`: from tasks to items; `results`, `edits`: from rows to a task's results, new ones and in place.
- `config`: the labelling configuration, new or with labels added.
- `projects`, `create`, `change`: what the connector does with them.

Tasks and results are read and written by `curate.formats.label_studio`, as files are.
"""

from __future__ import annotations

from typing import Final

from curate.connectors.base import ConnectorSpec
from curate.connectors.label_studio.connector import TOKEN, connect

CONNECTOR: Final = ConnectorSpec(
    name="labelstudio",
    token=TOKEN,
    connect=connect,
    example="labelstudio://host:8080/projects/7",
    login="'Account & Settings' in Label Studio: a personal access token, or a legacy token",
)
