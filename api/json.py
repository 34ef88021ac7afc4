"""Values of ours as the JSON that the API answers with."""

import msgspec
from aiohttp import web


def plain(value: object) -> object:
    """A value of the bus as JSON shows it: without its wire tag, with the fields that have their default."""
    match value:
        case msgspec.Struct():
            return {name: plain(field) for name, field in msgspec.structs.asdict(value).items()}
        case tuple():
            return [plain(item) for item in value]
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case _:
            return value


def written(value: object) -> bytes:
    """The value's JSON."""
    return msgspec.json.encode(value)


def json_response(value: object, status: int = 200) -> web.Response:
    """The value as an HTTP response."""
    return web.Response(body=written(value), status=status, content_type="application/json")
