"""Writes of one moment leave together, in order, and none after the caller has gone."""

import asyncio
import logging

import pytest
import uvicorn

from comfy_atelier.api.connections import AT_ONCE_BYTES, MAX_HEAD_BYTES, JoiningTransport, http_protocol
from comfy_atelier.api.serving import listen


class Recorder:
    """A transport that notes what it is asked for."""

    def __init__(self):
        self.written = []
        self.closed = False

    def write(self, data):
        assert not self.closed
        self.written.append(data)

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed

    def get_extra_info(self, name):
        return f"<{name}>"


@pytest.fixture
def under():
    return Recorder()


def test_head_and_body_are_one_write(under):
    async def answer():
        transport = JoiningTransport(under)
        transport.write(b"head ")
        transport.write(b"body")
        assert under.written == []
        await asyncio.sleep(0)
        assert under.written == [b"head body"]
        transport.write(b"next")
        await asyncio.sleep(0)

    asyncio.run(answer())
    assert under.written == [b"head body", b"next"]


def test_much_does_not_wait(under):
    async def answer():
        transport = JoiningTransport(under)
        transport.write(b"head")
        transport.write(b"x" * AT_ONCE_BYTES)
        assert len(under.written) == 1
        await asyncio.sleep(0)

    asyncio.run(answer())
    assert under.written == [b"head" + b"x" * AT_ONCE_BYTES]


def test_close_sends_what_was_written(under):
    async def answer():
        transport = JoiningTransport(under)
        transport.write(b"last words")
        transport.close()
        assert under.written == [b"last words"]
        assert under.closed
        await asyncio.sleep(0)

    asyncio.run(answer())


def test_nothing_is_written_to_a_caller_who_left(under):
    async def answer():
        transport = JoiningTransport(under)
        transport.write(b"for nobody")
        under.closed = True
        await asyncio.sleep(0)

    asyncio.run(answer())
    assert under.written == []


def test_the_rest_is_the_transports_own(under):
    async def ask():
        return JoiningTransport(under).get_extra_info("peername")

    assert asyncio.run(ask()) == "<peername>"


async def echo(scope, receive, send):
    """Answers with the body's length."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(str(size)))]})
    await send({"type": "http.response.body", "body": str(size).encode()})


async def asked(*requests):
    """What a server with our protocol answers to these requests, each on a connection of its own."""
    with listen("127.0.0.1", 0) as sock:
        server = uvicorn.Server(uvicorn.Config(echo, http=http_protocol(), lifespan="off", log_config=None))
        serving = asyncio.create_task(server._serve([sock]))
        answers = []
        for parts in requests:
            reader, writer = await asyncio.open_connection(*sock.getsockname())
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0)
            answers.append(await asyncio.wait_for(reader.read(1 << 16), 20))
            writer.close()
        server.should_exit = True
        await serving
        return answers


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_head_without_end_is_refused(caplog):
    caplog.set_level(logging.CRITICAL)
    endless = [b"GET / HTTP/1.1\r\nHost: x\r\nX-Filler: ", b"a" * (MAX_HEAD_BYTES + 1)]
    trailers = [CHUNKED, b"1\r\nx\r\n0\r\n", b"X-Filler: " + b"a" * (2 * MAX_HEAD_BYTES)]
    for answer in asyncio.run(asked(endless, trailers)):
        assert answer.startswith(b"HTTP/1.1 400 ")


def test_large_bodies_are_no_heads():
    length = 4 * MAX_HEAD_BYTES
    plain = [b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length, b"b" * length]
    chunked = [CHUNKED, b"1\r\nx\r\n" * length, b"0\r\n\r\n"]
    for answer in asyncio.run(asked(plain, chunked)):
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(str(length).encode())
