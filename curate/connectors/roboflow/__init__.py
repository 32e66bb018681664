"""Roboflow (https://docs.roboflow.com/developer/rest-api), over plain HTTP: what its own package asks, without that package.

    roboflow://WORKSPACE/PROJECT            the images as they are now; annotators' work is read and written here
    roboflow://WORKSPACE/PROJECT/VERSION    a version: a frozen export, only read
    roboflow://WORKSPACE                    a project to be made

What the service does not have, and what stands in for it:

- Annotations have no ids. What curate sent is noted in the image's metadata, and recognised by label and place
  (`recognition`), so that a box keeps its id when an annotator moves it or gives it another class.
- There is no priority. Images go into batches in order of score; the batch's name says which scores it holds, and the tags
  ``curate-p1`` to ``curate-p3`` (score from 2/3, from 1/3, below) can be filtered by.
- An annotation job is made of each batch if CURATE_ROBOFLOW_LABELER (and CURATE_ROBOFLOW_REVIEWER) hold the e-mail address of
  a member of the workspace; otherwise batches wait to be assigned there.
- Every image is in train, valid or test. One without a split, or in another, is in train there, which its metadata notes; group
  and frame are metadata as well, and tags are tags, beside curate's own.
- There are no comments. A finding is a tag (``curate-mislabeled``) and a sentence in the image's metadata. Whoever has
  dealt with it takes the tag off, or accepts the image into the dataset: either settles it.
- Nothing tells when an image was annotated, so every image's details are asked for, one request each; its version is a
  digest of them. Work counts as handed in when the image is in the project's dataset.
- One image has one set of annotations: predictions are sent only where there is no ground truth to send.
- Equal bytes are one image: of two images with the same bytes the second is not sent, and said to be lost.

From the service to curate's rows, and back:

- `api`: the requests, and replies as they come. `downloads`: files from the hosts that the service refers to.
- `details`: one image as it is there. `recognition`: which annotation is which. `drawing`: rows as the service's shapes.
- `connector`: a live project. `version`: an export.
"""

from __future__ import annotations

from typing import Final

from curate.connectors.base import ConnectorSpec
from curate.connectors.roboflow.connector import TOKEN, connect

CONNECTOR: Final = ConnectorSpec(
    name="roboflow",
    token=TOKEN,
    connect=connect,
    example="roboflow://my-workspace/my-project",
    login="In Roboflow: Settings, the workspace, API Keys: the private key",
)
