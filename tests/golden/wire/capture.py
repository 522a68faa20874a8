#!/usr/bin/env python3
"""Stands between real clients and a real broker, and writes down what they say.

    capture.py LISTEN_PORT BROKER_PORT OUT CLIENT

The broker has to advertise LISTEN_PORT. For each API and version the first request of up to 4000
bytes and its answer become a line of OUT: CLIENT, api key, version, request, answer ("-" for none);
frames without their size, in hex. End it with SIGTERM or SIGINT.
"""
import asyncio
import sys

listen, broker, out, client = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
LIMIT = 4000
seen = {}


async def frame(reader):
    size = await reader.readexactly(4)
    return size, await reader.readexactly(int.from_bytes(size, "big"))


def note(key, request, answer):
    # Several of the same API are worth keeping only when they differ much: an empty fetch and a full one.
    count = seen.setdefault(key, [])
    want = 8 if key[0] in (0, 1) else 1
    size = len(answer or b"") // 64
    if len(request) > LIMIT or len(answer or b"") > LIMIT or len(count) >= want or (size in count and key[0] == 1):
        return
    count.append(size)
    with open(out, "a") as file:
        print(client, key[0], key[1], request.hex(), answer.hex() if answer else "-", file=file)


async def serve(reader, writer):
    up_reader, up_writer = await asyncio.open_connection("127.0.0.1", broker)
    waiting = asyncio.Queue()

    async def upward():
        while True:
            size, request = await frame(reader)
            key = (int.from_bytes(request[:2], "big"), int.from_bytes(request[2:4], "big"))
            await waiting.put((key, request))
            up_writer.write(size + request)
            await up_writer.drain()

    async def downward():
        while True:
            size, answer = await frame(up_reader)
            key, request = await waiting.get()
            while request[4:8] != answer[:4]:
                note(key, request, None)
                key, request = await waiting.get()
            note(key, request, answer)
            writer.write(size + answer)
            await writer.drain()

    tasks = [asyncio.ensure_future(upward()), asyncio.ensure_future(downward())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    writer.close()
    up_writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", listen)
    async with server:
        await server.serve_forever()


asyncio.run(main())
