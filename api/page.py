"""`GET /` and `/ui/…`: the status page's files, as they lie in their package."""

from importlib.resources import files
from pathlib import Path

from aiohttp import hdrs, web

from api.errors import ApiError, Fault


def page_folder() -> Path:
    """Where the page's files are."""
    return Path(str(files("ui_static")))


class PageRoutes:
    """The handlers; a browser asks again each time, so that a new version is seen at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    async def index(self, _request: web.Request) -> web.StreamResponse:
        """The page itself."""
        return self._file("index.html")

    async def file(self, request: web.Request) -> web.StreamResponse:
        """One of its files."""
        return self._file(request.match_info["path"])

    def _file(self, path: str) -> web.FileResponse:
        file = self._locate(path)
        if file is None or file.suffix in (".py", ".pyc"):
            raise ApiError(Fault(404, "The page has no such file.", code="unknown_url"))
        headers = {hdrs.CACHE_CONTROL: "no-cache", "X-Content-Type-Options": "nosniff"}
        return web.FileResponse(file, headers=headers)

    def _locate(self, path: str) -> Path | None:
        """The file, if it is inside the folder."""
        try:
            file = (self._folder / path).resolve()
            inside = file.is_relative_to(self._folder) and file.is_file()
        except (OSError, ValueError):
            return None
        return file if inside else None
