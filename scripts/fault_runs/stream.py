"""Server-sent events, one by one as they come."""

from collections.abc import AsyncIterator

import aiohttp

LONGEST_LINE = 1 << 24
"""A session's `read_bufsize`: a snapshot of a cluster is one line."""


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, str]]:
    """Name and data of each event, and each comment as an event named `:`.

    Raises aiohttp.ClientError or OSError when the connection breaks.
    """
    name, data = "", list[str]()
    async for raw in response.content:
        line = raw.decode(errors="replace").rstrip("\r\n")
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield name, "\n".join(data)
            name, data = "", []
        elif not field:
            yield ":", value
        elif field == "data":
            data.append(value)
        elif field == "event":
            name = value
