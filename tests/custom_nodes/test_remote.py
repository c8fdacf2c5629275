"""Remote models against servers on this machine: what is sent, what is refused, and that no key ever shows itself."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import io
import json
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from PIL import Image

from comfy_atelier.custom_nodes import remote_bfl, remote_openai
from comfy_atelier.custom_nodes.errors import NodeInputError, RemoteError
from comfy_atelier.custom_nodes.remote_access import BFL, CHAT, IMAGES, Access, Secret, config_file, trusts_model_code
from comfy_atelier.custom_nodes.remote_http import Cancelled, Client, Hosts
from comfy_atelier.custom_nodes.remote_pictures import as_base64, decoded, encoded

_spec = importlib.util.spec_from_file_location("remote_services", Path(__file__).parent / "remote_services.py")
assert _spec
assert _spec.loader
remote_services = importlib.util.module_from_spec(_spec)
sys.modules["remote_services"] = remote_services
_spec.loader.exec_module(remote_services)
Service, KEY, png = remote_services.Service, remote_services.KEY, remote_services.png

PICTURE = np.full((24, 32, 3), 0.5, dtype=np.float32)


@pytest.fixture
async def service() -> AsyncIterator[Any]:
    made = Service()
    server = TestServer(made.app())
    await server.start_server()
    made.origin = str(server.make_url("")).rstrip("/")
    yield made
    await server.close()


class Sleeps:
    """Waits no time and keeps how long it should have been."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)


@pytest.fixture
def sleeps() -> Sleeps:
    return Sleeps()


async def bfl(service: Any, sleeps: Sleeps, *, key: str = KEY, told: Any = None, **client: Any) -> remote_bfl.Result:
    access = Access(urls=(service.origin,), key=Secret(key), model="")
    options = {"who": remote_bfl.WHO, "hosts": remote_bfl.hosts(access), "key": access.key, "sleep": sleeps} | client
    body = remote_bfl.common("a fox", 5, False, 2)
    async with aiohttp.ClientSession() as session:
        more = {"told": told} if told else {}
        return await remote_bfl.run(Client(session, **options), access, "global", "flux-pro-1.1", body, **more)


async def test_a_picture_of_flux_pro(service: Any, sleeps: Sleeps) -> None:
    service.polls = [{"status": "Task not found"}, {"status": "Pending"}, {"status": "Generating", "progress": 0.4}]
    heard: list[tuple[str, float | None]] = []
    result = await bfl(service, sleeps, told=lambda text, share: heard.append((text, share)))
    assert result.picture == service.picture
    assert result.report == "4 credits (0.04 USD), seed 7, request task-1"
    assert heard == [("waiting: 4 credits (0.04 USD)", None), ("pending", None), ("generating", 0.4)]
    submit, *polls, download = service.requests
    assert submit["path"] == "/v1/flux-pro-1.1"
    assert submit["headers"]["x-key"] == KEY
    assert submit["json"] == {
        "prompt": "a fox", "seed": 5, "prompt_upsampling": False, "safety_tolerance": 2, "output_format": "png",
    }  # fmt: skip
    assert {poll["query"] for poll in polls} == {"id=task-1"}
    assert len(polls) == 4
    assert download["path"] == "/results/sample.png"
    assert "x-key" not in {name.lower() for name in download["headers"]}
    assert sleeps.asked == sorted(sleeps.asked)
    service.cost = None
    assert (await bfl(service, sleeps)).report.startswith("cost not told, seed 7")


REFUSALS = [
    ((402, {"detail": "Insufficient credits"}), "wants payment: the account has no credits left; add some.*Insuff"),
    ((403, {"detail": "Not authenticated"}), r"does not let this key use this endpoint; set BFL_API_KEY"),
    ((401, {"detail": "no"}), r"does not know the key; set BFL_API_KEY"),
    ((422, {"detail": [{"loc": ["body", "width"], "msg": "must be a multiple of 32"}]}), "width: must be a multiple"),
    ((404, "<html>nothing</html>"), r"has no such endpoint any more; choose another model \[HTTP 404\]$"),
    ((400, {"error": {"message": "bad " * 200}}), r"refused the request; correct it \[HTTP 400\] \(bad .*…\)$"),
]


@pytest.mark.parametrize(("answer", "words"), REFUSALS)
async def test_a_refusal_in_words(service: Any, sleeps: Sleeps, answer: Any, words: str) -> None:
    service.plan = [answer]
    with pytest.raises(RemoteError, match=words) as caught:
        await bfl(service, sleeps)
    assert len(service.requests) == 1
    assert "\n" not in str(caught.value)


async def test_busy_is_tried_again_as_the_server_asks(service: Any, sleeps: Sleeps) -> None:
    service.plan = [(429, "slow down", {"Retry-After": "7"}), (503, "soon"), (500, "hm"), None]
    await bfl(service, sleeps)
    assert sleeps.asked[:3] == [7.0, 2.0, 4.0]
    service.plan = [(429, "no")] * 5
    with pytest.raises(RemoteError, match=r"is busy or your account's limit is reached; try again later \[HTTP 429\]"):
        await bfl(service, sleeps)
    service.plan = [(429, "later", {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}), None]
    sleeps.asked.clear()
    await bfl(service, sleeps)
    assert sleeps.asked[0] == 60.0


@pytest.mark.parametrize(
    ("poll", "words"),
    [
        ({"status": "Request Moderated", "details": {"Moderation Reasons": ["Derivative Works Filter"]}},
         r"refused the request: its prompt or picture was moderated \(Derivative Works Filter\); change the prompt"),
        ({"status": "Content Moderated"}, "withheld the picture: it was moderated; change the prompt"),
        ({"status": "Error", "details": {"x": 1}}, "gave no picture: Error; run it again"),
        ({"status": "Failed", "error": "out of memory"}, r"gave no picture: Failed \(out of memory\)"),
        ({"status": "Ready", "result": {}}, "is done but names no picture"),
        ({}, "an answer without a status"),
    ],
)  # fmt: skip
async def test_no_picture_in_words(service: Any, sleeps: Sleeps, poll: dict[str, Any], words: str) -> None:
    service.polls = [poll]
    with pytest.raises(RemoteError, match=words):
        await bfl(service, sleeps)


async def test_a_task_that_stays_unknown(service: Any, sleeps: Sleeps) -> None:
    service.polls = [{"status": "Task not found"}] * 10
    with pytest.raises(RemoteError, match="gave no picture: Task not found"):
        await bfl(service, sleeps)


@pytest.mark.parametrize(
    "sample",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://bfl.ai.example.org/x.png",
        "https://notbfl.ai/x.png",
        "http://delivery-eu1.bfl.ai/x.png",
        "https://delivery-eu1.bfl.ai:8443/x.png",
        "https://user:word@delivery-eu1.bfl.ai/x.png",
        "file:///etc/passwd",
        "https://[::1",
    ],
)
async def test_results_come_from_the_services_own_hosts(service: Any, sleeps: Sleeps, sample: str) -> None:
    service.sample = sample
    with pytest.raises(RemoteError, match="which is none of its own hosts; refused"):
        await bfl(service, sleeps)


def test_which_hosts_are_the_services_own() -> None:
    own = remote_bfl.hosts(Access(urls=(), key=Secret(""), model=""))
    assert own.allow("https://api.eu.bfl.ai/v1/get_result?id=1")
    assert own.allow("https://delivery-us1.bfl.ai/results/x.png?sig=1")
    assert own.allow("https://bfldeliverysc.blob.core.windows.net/results/x")
    assert not own.allow("https://other.blob.core.windows.net/results/x")
    assert not own.allow("http://127.0.0.1:80/x")
    gateway = remote_bfl.hosts(Access(urls=("http://127.0.0.1:9000/bfl",), key=Secret(""), model=""))
    assert gateway.allow("http://127.0.0.1:9000/x")
    assert not gateway.allow("http://127.0.0.1:9001/x")


async def test_the_key_goes_to_no_other_host(service: Any, sleeps: Sleeps) -> None:
    service.polling = "https://example.org/steal"
    with pytest.raises(RemoteError, match=r"wants a request to https://example.org/steal, which is none of its own"):
        await bfl(service, sleeps)


async def test_redirects_are_not_followed(service: Any, sleeps: Sleeps) -> None:
    service.plan = [None, None, (302, "", {"Location": "http://169.254.169.254/"})]
    with pytest.raises(RemoteError, match=r"the picture cannot be fetched \(HTTP 302\)"):
        await bfl(service, sleeps)


JUNK = [
    b"",
    b"<html>not a picture</html>",
    png()[:-40],
    b"GIF89a" + b"\0" * 64,
    b"\x89PNG\r\n\x1a\n" + b"\xff" * 400,
]


@pytest.mark.parametrize("data", JUNK, ids=range(len(JUNK)))
def test_junk_for_a_picture(data: bytes) -> None:
    with pytest.raises(RemoteError, match=r"sent something that is no whole picture \(\w+\); run it again"):
        decoded(data, "it")


def test_a_picture_that_is_too_large() -> None:
    buffer = io.BytesIO()
    Image.new("1", (20000, 4000)).save(buffer, "PNG")
    with pytest.raises(RemoteError, match="sent a picture of 20000x4000; refused"):
        decoded(buffer.getvalue(), "it")
    with pytest.raises(NodeInputError, match="a picture of 5000x5000 is more than the service takes"):
        encoded(np.zeros((5000, 5000), dtype=np.uint8))


async def test_an_answer_that_is_too_large(service: Any, sleeps: Sleeps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("comfy_atelier.custom_nodes.remote_http.MAX_PICTURE_BYTES", 1024 * 1024)
    service.picture = b"x" * (1024 * 1024 + 1)
    with pytest.raises(RemoteError, match="answers more than 1 MiB; refused"):
        await bfl(service, sleeps)


def test_pictures_there_and_back() -> None:
    values = np.linspace(0, 1, 24 * 32 * 3, dtype=np.float32).reshape(24, 32, 3)
    back = decoded(base64.b64decode(as_base64(values)), "it")
    assert back.shape == (24, 32, 3)
    assert float(np.abs(back - values).max()) <= 0.5 / 255 + 1e-6
    assert decoded(png(form="WEBP"), "it").shape == (24, 32, 3)
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (32, 24)).save(turned, "JPEG", exif=exif)
    assert decoded(turned.getvalue(), "it").shape == (32, 24, 3)


async def test_a_server_that_never_answers(service: Any, sleeps: Sleeps) -> None:
    async def hang() -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    service.plan = [hang]
    looked = 0

    def cancelled() -> bool:
        nonlocal looked
        looked += 1
        return looked > 1

    with pytest.raises(Cancelled):
        await bfl(service, sleeps, cancelled=cancelled)
    service.plan = [hang]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await bfl(service, sleeps)


async def test_a_request_that_may_be_charged_is_sent_once(service: Any, sleeps: Sleeps) -> None:
    async def cut() -> web.Response:
        raise asyncio.CancelledError  # the connection ends without an answer

    service.plan = [cut, None]
    with pytest.raises(RemoteError, match="the request may have been taken: look at your account"):
        await bfl(service, sleeps)
    assert len(service.requests) == 1
    service.requests.clear()
    service.plan = [None, cut, None]  # asking for the result may be repeated
    assert (await bfl(service, sleeps)).id == "task-1"


async def test_nobody_at_home(sleeps: Sleeps) -> None:
    gone = Service(origin="http://127.0.0.1:9")
    with pytest.raises(RemoteError, match=r"http://127.0.0.1:9/v1/flux-pro-1.1 cannot be reached; check the network"):
        await bfl(gone, sleeps)
    assert sleeps.asked == [1.0, 2.0, 4.0, 8.0]


Act = Callable[[Any, Sleeps], Awaitable[Any]]


@pytest.mark.parametrize(
    "prepare",
    [
        lambda s: s.plan.append((403, {"detail": f"Invalid key {KEY}"})),
        lambda s: s.plan.append((422, f"x-key: {KEY}")),
        lambda s: s.plan.extend([None, (500, KEY)] + [(500, KEY)] * 5),
        lambda s: s.polls.append({"status": KEY}),
        lambda s: s.polls.append({"status": "Request Moderated", "details": {"Moderation Reasons": [KEY]}}),
        lambda s: setattr(s, "polling", f"https://example.org/?key={KEY}"),
        lambda s: setattr(s, "picture", KEY.encode()),
        lambda s: setattr(s, "sample", f"https://example.org/{KEY}?{KEY}"),
    ],
)
async def test_no_error_tells_the_key(
    service: Any, sleeps: Sleeps, prepare: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    prepare(service)

    async def shown_picture() -> None:
        decoded((await bfl(service, sleeps)).picture, remote_bfl.WHO)

    with pytest.raises(RemoteError) as caught:
        await shown_picture()
    told = "".join(traceback.format_exception(caught.value)) + caplog.text
    shown = told.replace(f"https://example.org/{KEY}", "")  # a server that puts it into a path knows it already
    assert KEY not in shown
    assert KEY not in repr(Access(urls=(), key=Secret(KEY), model="")) + str(Secret(KEY)) + f"{Secret(KEY)}"


def test_what_each_request_says() -> None:
    shared = remote_bfl.common("a fox", 2**40 + 3, True, 5)
    assert shared["seed"] == 3
    ultra = remote_bfl.generate_body("flux-pro-1.1-ultra", shared, ("16:9", 16 / 9), True, PICTURE, 0.3)
    assert (ultra["aspect_ratio"], ultra["raw"], ultra["image_prompt_strength"]) == ("16:9", True, 0.3)
    assert decoded(base64.b64decode(ultra["image_prompt"]), "").shape == (24, 32, 3)
    plain = remote_bfl.generate_body("flux-pro-1.1", shared, ("16:9", 16 / 9), False, None, 0.1)
    assert (plain["width"], plain["height"]) == (1376, 768)
    assert not {"aspect_ratio", "raw", "image_prompt"} & set(plain)
    for ratio in (21 / 9, 9 / 21, 1.0, 2 / 3):
        width, height = remote_bfl.size_for(ratio)
        assert width % 32 == height % 32 == 0
        assert 256 <= min(width, height) <= max(width, height) <= 1440
        assert abs(width / height / ratio - 1) < 0.04
    edit = remote_bfl.edit_body(shared, None, [PICTURE, PICTURE])
    assert {"input_image", "input_image_2"} <= set(edit)
    assert (edit["safety_tolerance"], "aspect_ratio" in edit) == (2, False)
    assert remote_bfl.edit_body(shared, "1:1", [])["safety_tolerance"] == 5
    filled = remote_bfl.fill_body(shared, PICTURE, PICTURE[..., 0], 50, 60.0)
    assert Image.open(io.BytesIO(base64.b64decode(filled["mask"]))).mode == "L"
    with pytest.raises(NodeInputError, match="the mask is 16x12 and the picture 32x24; make them equal"):
        remote_bfl.fill_body(shared, PICTURE, PICTURE[::2, ::2, 0], 50, 60.0)
    canny = remote_bfl.control_body(shared, PICTURE, False, 50, 30.0, (50, 200))
    assert ("control_image" in canny, canny["canny_high_threshold"]) == (True, 200)
    depth = remote_bfl.control_body(shared, PICTURE, True, 50, 15.0, None)
    assert ("preprocessed_image" in depth, "control_image" in depth) == (True, False)
    with pytest.raises(NodeInputError, match="the prompt is empty"):
        remote_bfl.common("  ", 0, False, 2)


def test_keys_and_addresses_come_from_the_user(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    assert not BFL.access({}, file).key
    with pytest.raises(NodeInputError, match=r"wants a key .*; set BFL_API_KEY before ComfyUI starts, or key in"):
        remote_bfl.headers(BFL.access({}, file))
    file.write_text('[bfl]\nkey = " from-file "\n[images]\nurl = ["http://a:1/v1/", "http://b:2"]\nmodel = "m"\n')
    assert BFL.access({}, file).key.reveal() == "from-file"
    assert BFL.access({"BFL_API_KEY": "from-env"}, file).key.reveal() == "from-env"
    images = IMAGES.access({}, file)
    assert (images.urls, images.model) == (("http://a:1/v1", "http://b:2"), "m")
    assert IMAGES.access({"ATELIER_IMAGES_URL": "https://c"}, file).urls == ("https://c",)
    with pytest.raises(NodeInputError, match="server 'http://evil:9/x' is not configured"):
        images.url("http://user:secret@evil:9/x?key=1")
    with pytest.raises(NodeInputError, match=r"'ftp://x' .* is no plain http or https address"):
        IMAGES.access({"ATELIER_IMAGES_URL": "ftp://x"}, file)
    with pytest.raises(NodeInputError, match="characters that no key has") as caught:
        BFL.access({"BFL_API_KEY": "line\nbreak"}, file)
    assert "break" not in str(caught.value)
    file.write_text('[bfl]\nkey = "half')
    with pytest.raises(NodeInputError, match="cannot be read as TOML") as caught:
        BFL.access({}, file)
    assert "half" not in "".join(traceback.format_exception(caught.value))


def test_the_configuration_file_is_the_services_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    platformdirs = pytest.importorskip("platformdirs")
    assert config_file() == platformdirs.user_config_path("comfy-atelier", appauthor=False) / "config.toml"
    if sys.platform.startswith("linux"):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        assert config_file() == tmp_path / "comfy-atelier" / "config.toml"


def test_model_code_is_run_only_where_the_user_says_so(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    assert not trusts_model_code({}, file)
    assert trusts_model_code({"ATELIER_TRUST_MODEL_CODE": "1"}, file)
    file.write_text("[models]\ntrust_code = true\n")
    assert trusts_model_code({}, file)
    assert not trusts_model_code({"ATELIER_TRUST_MODEL_CODE": "0"}, file)
    file.write_text('[models]\ntrust_code = "true"\n')
    assert not trusts_model_code({}, file)


async def openai(service: Any, sleeps: Sleeps, work: Any, *, key: str = KEY, server: str = "") -> Any:
    access = Access(urls=(service.origin, "http://127.0.0.1:9"), key=Secret(key), model="m")
    base, head, hosts = remote_openai.connection(IMAGES, access, server)
    async with aiohttp.ClientSession() as session:
        return await work(Client(session, who="the server", hosts=hosts, key=access.key, sleep=sleeps), base, head)


def fields(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"prompt": "a fox", "model": "hunyuan", "size": (1280, 768), "count": 2, "seed": 3}
    return remote_openai.image_fields(**(values | {"steps": 0, "guidance": 0.0, "negative": ""} | changes))


async def test_pictures_of_an_openai_server(service: Any, sleeps: Sleeps) -> None:
    found = await openai(service, sleeps, lambda c, b, h: remote_openai.images(c, b, h, fields(), []))
    assert found.files == (service.picture, service.picture)
    assert (found.report, found.revised_prompt) == ("321 tokens", "as drawn")
    (request,) = service.requests
    assert request["path"] == "/v1/images/generations"
    assert request["headers"]["Authorization"] == f"Bearer {KEY}"
    assert request["json"] == {
        "prompt": "a fox", "n": 2, "response_format": "b64_json", "seed": 3, "model": "hunyuan", "size": "1280x768",
    }  # fmt: skip
    more = fields(size=None, steps=50, guidance=7.5, negative="blurry", model="")
    assert set(more) == {"prompt", "n", "response_format", "seed", "num_inference_steps", "guidance_scale",
                         "negative_prompt"}  # fmt: skip


async def test_edits_are_sent_as_files(service: Any, sleeps: Sleeps) -> None:
    service.plan = [(503, "starting"), None]  # the form is made anew for the second try
    found = await openai(
        service, sleeps, lambda c, b, h: remote_openai.images(c, b, h, fields(count=1), [PICTURE, PICTURE])
    )
    assert len(found.files) == 1
    request = service.requests[-1]
    assert request["path"] == "/v1/images/edits"
    assert [name for name, _, size in request["files"] if size > 50] == ["image", "image"]
    assert request["fields"]["prompt"] == "a fox"


async def test_pictures_by_address_come_from_the_same_server(service: Any, sleeps: Sleeps) -> None:
    service.form = "url"
    found = await openai(service, sleeps, lambda c, b, h: remote_openai.images(c, b, h, fields(count=1), []))
    assert found.files == (service.picture,)
    service.sample = "http://169.254.169.254/x"
    with pytest.raises(RemoteError, match="none of its own hosts"):
        await openai(service, sleeps, lambda c, b, h: remote_openai.images(c, b, h, fields(count=1), []))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((400, {"detail": "Invalid size format: '1024x'."}), r"refused the request \[HTTP 400\]: Invalid size format"),
        ((402, {"error": {"message": "pay"}}), r"wants payment: no credits are left \[HTTP 402\]: pay"),
        ((200, {"data": []}), "answered without a picture"),
        ((200, {"data": [{}]}), "answered without a picture"),
        ((200, {"data": [{"b64_json": "no base64!"}]}), "sent a picture that is no base64"),
        ((200, "hello"), "answered no JSON; is it an OpenAI-compatible server"),
    ],
)
async def test_an_openai_servers_refusals(service: Any, sleeps: Sleeps, answer: Any, words: str) -> None:
    service.plan = [answer]
    with pytest.raises(RemoteError, match=words):
        await openai(service, sleeps, lambda c, b, h: remote_openai.images(c, b, h, fields(count=1), []))


def test_servers_are_the_users_and_keys_go_to_the_first() -> None:
    access = Access(urls=("http://a/v1", "http://b"), key=Secret(KEY), model="")
    assert remote_openai.connection(IMAGES, access, "")[1]["Authorization"] == f"Bearer {KEY}"
    base, head, hosts = remote_openai.connection(IMAGES, access, " http://b/ ")
    assert (base, "Authorization" in head, hosts) == ("http://b/v1", False, Hosts(origins=("http://b",)))
    with pytest.raises(NodeInputError, match=r"no server is configured for this; set ATELIER_IMAGES_URL"):
        remote_openai.connection(IMAGES, Access(urls=(), key=Secret(""), model=""), "http://x")
    with pytest.raises(NodeInputError, match="a workflow cannot bring its own"):
        remote_openai.connection(IMAGES, access, "http://169.254.169.254")


def chat_body(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"model": "m", "system": "be brief", "prompt": "a fox", "picture": None}
    return remote_openai.chat_body(**(values | {"temperature": 0.0, "seed": 2**33, "limit": 64} | changes))


async def test_a_chat(service: Any, sleeps: Sleeps) -> None:
    service.chat = '<think>hm\n</think>\n```text\n"A red fox in snow."\n```'
    text, used = await openai(service, sleeps, lambda c, b, h: remote_openai.chat(c, b, h, chat_body(picture=PICTURE)))
    assert (text, used) == ("A red fox in snow.", "99 tokens")
    sent = service.requests[0]["json"]
    assert sent["messages"][0] == {"role": "system", "content": "be brief"}
    kinds = [part["type"] for part in sent["messages"][1]["content"]]
    assert kinds == ["text", "image_url"]
    url = sent["messages"][1]["content"][1]["image_url"]["url"]
    assert decoded(base64.b64decode(url.removeprefix("data:image/jpeg;base64,")), "").shape == (24, 32, 3)
    assert (sent["temperature"], sent["seed"], sent["stream"]) == (0.0, 0, False)
    assert chat_body()["messages"][1]["content"] == "a fox"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"finish": "length"}, "was cut short at 64 tokens; raise max_tokens"),
        ({"chat": "<think>only thoughts</think>"}, "answered nothing; try another model"),
        (
            {"plan": [(401, {"error": {"message": f"Incorrect API key: {KEY}"}})]},
            r"accept the key \[HTTP 401\]: I.*\*",
        ),
        ({"plan": [(200, {"choices": []})]}, "answered nothing"),
        ({"plan": [(200, json.dumps({"choices": [{"message": {"content": 5}}]}))]}, "answered nothing"),
    ],
)
async def test_a_chat_that_fails(service: Any, sleeps: Sleeps, change: dict[str, Any], words: str) -> None:
    for name, value in change.items():
        setattr(service, name, value)
    with pytest.raises(RemoteError, match=words) as caught:
        await openai(service, sleeps, lambda c, b, h: remote_openai.chat(c, b, h, chat_body()))
    assert KEY not in str(caught.value)


def test_chat_is_off_until_configured(tmp_path: Path) -> None:
    access = CHAT.access({}, tmp_path / "none.toml")
    assert access.urls == ()
    assert "ATELIER_CHAT_URL" in CHAT.remedy("url")
