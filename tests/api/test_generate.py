"""POST /generate from the outside."""

from __future__ import annotations

import base64
import io

from PIL import Image


def color_of(data: bytes) -> tuple[int, ...]:
    return Image.open(io.BytesIO(data)).convert("RGB").getpixel((0, 0))


async def test_answers_the_file_itself(make_service, run_service):
    async with run_service(make_service()) as client:
        answer = await client.post("/generate", json={"color": 0x102030, "width": 8})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert color_of(answer.content) == (0x10, 0x20, 0x30)
    assert Image.open(io.BytesIO(answer.content)).size == (8, 64)


async def test_answers_json_to_who_wants_it(make_service, run_service):
    async with run_service(make_service()) as client:
        answer = await client.post("/generate", json={"color": 5}, headers={"Accept": "application/json"})
        job = answer.json()
        assert job["status"] == "succeeded"
        assert job["inputs"] == {"color": 5, "count": 1, "width": 64} or job["inputs"]["color"] == 5
        (output,) = job["outputs"]
        picture = await client.get(output["url"])
    assert picture.status_code == 200
    assert color_of(picture.content) == (0, 0, 5)


async def test_several_outputs_are_json(make_service, run_service):
    async with run_service(make_service()) as client:
        answer = await client.post("/generate", json={"count": 3})
    assert [(o["name"], o["index"]) for o in answer.json()["outputs"]] == [("image", 0), ("image", 1), ("image", 2)]


async def test_multipart_with_a_picture(make_service, run_service, photo_prompt, draw):
    async with run_service(make_service(photo_prompt)) as client:
        answer = await client.post(
            "/generate", files={"photo": ("a.png", draw(4, 4, 0xFF0000), "image/png")}, data={"title": "one"}
        )
        job = answer.json()
        assert job["status"] == "succeeded", job
        picture = await client.get(next(o["url"] for o in job["outputs"] if o["name"] == "picture"))
        words = await client.get(next(o["url"] for o in job["outputs"] if o["name"] == "words"))
    assert color_of(picture.content) == (255, 0, 0)
    assert words.text == "one"


async def test_picture_in_json(make_service, run_service, photo_prompt, draw):
    encoded = base64.b64encode(draw(4, 4, 0x00FF00)).decode()
    async with run_service(make_service(photo_prompt)) as client:
        uploaded = (await client.post("/uploads", files={"file": ("x.png", draw(4, 4, 0x0000FF))})).json()
        for value, color in (
            (f"data:image/png;base64,{encoded}", (0, 255, 0)),
            (encoded, (0, 255, 0)),
            (uploaded["id"], (0, 0, 255)),
        ):
            job = (await client.post("/generate", json={"photo": value})).json()
            picture = await client.get(next(o["url"] for o in job["outputs"] if o["name"] == "picture"))
            assert color_of(picture.content) == color
