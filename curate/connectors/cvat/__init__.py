"""CVAT: projects, tasks and jobs at ``cvat://HOST/projects/3``, ``cvat://HOST/tasks/12`` and ``cvat://HOST/jobs/5``.

``cvat://HOST`` makes a project in the token owner's own workspace, ``cvat://HOST/orgs/NAME`` in an organization; what is in an
organization may be named as ``cvat://HOST/orgs/NAME/projects/3``, too.

Written for the REST API of CVAT 2.80 (its OpenAPI document is what `cvat_sdk.api_client` is generated from). The SDK gives the
headers and the upload protocol; everything is sent by `curate.connectors.http`, and replies are read as plain JSON, so that a
server that is a little newer or older does not matter.

**An item is a frame of a task**, known as ``TASK:FRAME``. Its annotations are the shapes, tags and tracks of the job it is in;
of a track there is one annotation on each frame where it is in the picture. Ground truth jobs and the replicas of consensus
tasks are layers of their own, ``annotators/NAME``.

**What CVAT has no place for.** An image that curate uploads carries its id in its file's name (`names`), and a finding its own
in the message of a review issue (`issues`). Shapes carry nothing: they are known by the ids that CVAT gives them.

**Nothing is doubled.** A task is named after the images in it, and is called unfinished until its annotations are there: a push
that was cut short is found, and goes on (`upload`). Changes in place are compared with what is there right before (`change`).

- `server`: asking the server; what an address stands for.
- `labels`: labels and attributes, read and made.
- `shapes`, `tracks`: the API's shapes and tracks, and the elements of CVAT's files, which `curate.formats.cvat` reads and writes.
- `read`: annotations as curate's rows; `write`: rows as the API's annotations.
- `names`: what uploaded files and tasks are called.
- `items`, `issues`, `upload`, `change`: what the connector does.
- `connector`: all of it as a `curate.connectors.base.Connector`.
"""

from __future__ import annotations

from typing import Final

from curate.connectors.addresses import Address
from curate.connectors.base import Connector, ConnectorSpec

TOKEN: Final = "CVAT_TOKEN"


def connect(address: Address) -> Connector:
    """The connector for a project, a task or a job; see `ConnectorSpec.connect`."""
    from curate.connectors.cvat.connector import CvatConnector
    from curate.connectors.cvat.server import Server, organization_of, scope_of
    from curate.connectors.tokens import token_for

    scope = scope_of(address)
    server = Server(address.url, token_for(address, TOKEN), organization=organization_of(address))
    return CvatConnector(address, server, scope)


CONNECTOR: Final = ConnectorSpec(
    "cvat",
    TOKEN,
    connect,
    example="cvat://app.cvat.ai/projects/3",
    login="make a personal access token, not read-only, in CVAT under Profile, Security, Access tokens",
)
