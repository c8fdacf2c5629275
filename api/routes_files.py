"""Files: what jobs produced, and what callers send ahead."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request, Response

from . import views
from .bodies import media_type, read_body, read_form
from .calls import gone_artifact, json_response
from .documents import problems
from .problems import Problem
from .streams import file_answer

if TYPE_CHECKING:
    from .service import Service

ARTIFACT_ID = re.compile(r"([0-9a-f-]{36})-(\d{1,6})", re.ASCII)

UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "string", "format": "binary"}},
                    "required": ["file"],
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


def routes(service: Service) -> APIRouter:
    """``/artifacts`` and ``/uploads``."""
    router = APIRouter(tags=["files"])

    @router.head("/artifacts/{artifact_id}", include_in_schema=False)
    @router.get(
        "/artifacts/{artifact_id}",
        summary="A file that a job produced",
        responses={
            200: {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}, "description": "The file"},
            206: {"description": "The range asked for"},
            304: {"description": "The file with that ETag"},
            **problems(404, 416, 503),
        },
        response_class=Response,
    )
    async def get_artifact(request: Request, artifact_id: str) -> Response:
        """Takes `Range`, `If-Range` and `If-None-Match`; the ETag is the file's SHA-256."""
        match = ARTIFACT_ID.fullmatch(artifact_id)
        job = await service.job(match[1], owner=request.state.owner) if match is not None else None
        if match is None or job is None or int(match[2]) >= len(job.outputs):
            raise Problem(404, "not-found", "there is no such artifact; a job's outputs name theirs")
        file = job.outputs[int(match[2])].file
        path = service.artifacts.where(file)
        if not path.is_file():
            raise gone_artifact()
        return file_answer(request, path, file)

    @router.post(
        "/uploads",
        status_code=201,
        summary="Send a file ahead",
        openapi_extra=UPLOAD_BODY,
        responses={
            201: {"model": views.Upload, "description": "Kept; give its id as a file parameter"},
            **problems(400, 408, 413, 415, 422, 503, 507),
        },
    )
    async def upload(
        request: Request,
        parameter: Annotated[str | None, Query(max_length=64, description="The parameter it is for.")] = None,
        filename: Annotated[str, Query(max_length=255, description="Its name, for a body that is the file.")] = "",
    ) -> Response:
        """The file as the only part of a multipart body, or as the body itself."""
        wanted = None
        if parameter is not None:
            wanted = service.files.parameter(parameter)
            if wanted is None:
                raise Problem(422, "invalid-inputs", f"no file parameter is named {parameter!a}")
        if media_type(request) == "multipart/form-data":
            parts = await read_form(request, service.limits)
            if len(parts.files) != 1 or parts.texts:
                raise Problem(422, "bad-multipart", "send exactly one part, a file; more need a request each")
            filename, data = next(iter(parts.files.values()))
        else:
            data = await read_body(request, service.limits)
        kept = await service.files.upload(data, owner=request.state.owner, filename=filename, parameter=wanted)
        return json_response(
            {
                "id": kept.id,
                "kind": kept.kind,
                "filename": kept.file.filename,
                "media_type": kept.file.media_type,
                "size": kept.file.size,
                "sha256": kept.file.sha256,
            },
            status=201,
        )

    return router
