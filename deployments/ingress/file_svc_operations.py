"""What file-svc's routes say of themselves in the OpenAPI document."""

from __future__ import annotations

from dataclasses import replace

from deployments.ingress.accepted import NULL
from deployments.ingress.operation import (
    INTEGER,
    NOTHING,
    STRING,
    TIME,
    Component,
    Link,
    Operation,
    Parameter,
    exactly,
    list_of,
)

UPLOAD_OBJECT = Component(
    name="Upload",
    schema=exactly(
        {
            "id": STRING,
            "fileId": {**STRING, "description": "What everything else calls the file"},
            "fileName": {**STRING, "description": "Empty for an admin who looks at another user's"},
            "filePath": STRING,
            "fileSize": {**INTEGER, "description": "Bytes"},
            "nodeId": {"const": ""},
            "userId": STRING,
            "createdAt": TIME,
            "updatedAt": TIME,
        }
    ),
)
DOWNLOAD_OBJECT = Component(
    name="Download",
    schema=exactly(
        {
            "id": STRING,
            "url": STRING,
            "fileName": STRING,
            "filePath": {**STRING, "description": "The id of the file"},
            "fileSize": {**INTEGER, "description": "Bytes"},
            "downloadedBytes": INTEGER,
            "progress": {"const": 100},
            "status": {"const": "completed"},
            "createdAt": TIME,
            "updatedAt": TIME,
        }
    ),
)

UPLOAD = Operation(
    request={
        "type": "object",
        "properties": {"file": {"type": "string", "format": "binary", "description": "The field may have any name"}},
        "required": ["file"],
    },
    request_media_type="multipart/form-data",
    response=exactly({"upload": UPLOAD_OBJECT}),
    errors=(408, 429),
    links=tuple(
        Link(to=name, parameter="file_id", value="$response.body#/upload/fileId")
        for name in ("GET /file-svc/serve/upload/{file_id}", "DELETE /file-svc/upload/{file_id}")
    ),
)
#: The answer of a listing.
UPLOADS = exactly({"uploads": list_of(UPLOAD_OBJECT)})
_FILE_ID = Parameter(name="file_id", place="path", schema={"type": "string", "format": "file-id"})
SERVE_DOWNLOAD = Operation(
    response={},
    media_type="*/*",
    partial=True,
    parameters=(
        Parameter(
            name="Range",
            place="header",
            description="`bytes=0-99`, `bytes=100-` or `bytes=-100`; anything else gets the whole file",
            schema={"type": "string", "format": "byte-range"},
        ),
        Parameter(
            name="If-Range",
            place="header",
            description="The ETag of the file that the range is of; with another one the whole file comes",
            schema=STRING,
        ),
    ),
    errors=(416,),
)
SERVE = replace(SERVE_DOWNLOAD, parameters=(_FILE_ID, *SERVE_DOWNLOAD.parameters))
DELETE = Operation(response=NOTHING)
DOWNLOAD = Operation(
    request={
        "type": "object",
        "properties": {
            "url": {"type": "string", "format": "https-url", "maxLength": 2048, "description": "Of a raster image"}
        },
        "required": ["url"],
    },
    response=NOTHING,
    errors=(429,),
)
GET_DOWNLOAD = Operation(
    response=exactly({"exists": {"type": "boolean"}, "download": {"anyOf": [DOWNLOAD_OBJECT, NULL]}})
)
DOWNLOADS = Operation(request={"type": "object"}, response=exactly({"downloads": list_of(DOWNLOAD_OBJECT)}))
