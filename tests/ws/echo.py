"""The same as echo.mjs, with Debian's python3-websockets:

    python3 echo.py <address> <seed> deflate|plain
"""

import asyncio
import collections
import json
import os
import random
import sys

import websockets

ADDRESS, SEED, COMPRESSION = sys.argv[1:]

# How many messages are under way.
AHEAD = 2

# Lengths in bytes, and in how many fragments a message goes; one after the other.
SHAPES = [(1 << 20, 1), (10, 1), (1 << 20, 7), (0, 1), (65_536, 64), (125, 3), (300_000, 2)]

# One of sixteen letters for each byte.
LETTERS = bytes(97 + (byte & 15) for byte in range(256))


def say(**what):
    print(json.dumps(what), flush=True)


def fail(why):
    say(failed=why)
    os._exit(1)


def message(index):
    """Message number `index`: every other one is text, which is easy to compress."""
    length, fragments = SHAPES[index % len(SHAPES)]
    data = random.Random(f"{SEED} {index}").randbytes(length)
    return (data.translate(LETTERS).decode() if index % 2 else data), fragments


async def parts(data, fragments):
    step = -(-len(data) // fragments)
    for index in range(fragments):
        yield data[index * step : (index + 1) * step]


async def send(connection, room, under_way, ending):
    index = 0
    while True:
        await room.acquire()
        if ending.is_set():
            return
        data, fragments = message(index)
        under_way.append((index, data))
        await connection.send(data if fragments == 1 else parts(data, fragments))
        index += 1


async def hear(connection, room, under_way, closing):
    heard = 0
    async for data in connection:
        index, expected = under_way.popleft()
        if data != expected:
            fail(f"message {index} differs")
        heard += 1
        say(heard=heard)
        room.release()
    if not closing.is_set():
        fail(f"closed with {connection.close_code} after {heard} messages")
    return heard


async def wait_for_end_of_input():
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def or_fail(task):
    """Whoever waits for something else must not wait for ever."""
    try:
        return await task
    except Exception as error:
        fail(repr(error))


async def main():
    compression = "deflate" if COMPRESSION == "deflate" else None
    # Pings of its own would close a connection that is slow.
    options = {"compression": compression, "max_size": None, "ping_interval": None, "open_timeout": 60, "close_timeout": 60}
    async with websockets.connect(ADDRESS, **options) as connection:
        if bool(connection.extensions) != bool(compression):
            fail(f"extensions: {connection.extensions}")
        say(open=True)
        room, under_way = asyncio.Semaphore(AHEAD), collections.deque()
        ending, closing = asyncio.Event(), asyncio.Event()
        hearing = asyncio.create_task(or_fail(hear(connection, room, under_way, closing)))
        sending = asyncio.create_task(or_fail(send(connection, room, under_way, ending)))
        await wait_for_end_of_input()
        ending.set()
        await sending
        # The sender has taken one place; with the others free, nothing is under way.
        for _ in range(AHEAD - 1):
            await room.acquire()
        closing.set()
        await connection.close()
        say(closed=connection.close_code, heard=await hearing)


asyncio.run(or_fail(main()))
