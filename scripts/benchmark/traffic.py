"""What a client is asked to do, and what it saw: the words between the benchmark and its client process."""

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of a chat."""

    role: str
    content: str
    tool_call_id: str | None = None


class Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request for OpenAI's /v1/completions, or, with messages, for /v1/chat/completions."""

    model: str
    prompt: str | None = None
    messages: tuple[Message, ...] = ()
    tools: tuple[dict[str, object], ...] = ()
    max_tokens: int
    temperature: float
    stream: bool
    stream_options: dict[str, bool] | None = None
    response_format: dict[str, object] | None = None
    ignore_eos: bool = False


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a client, and when the client leaves. Times in seconds."""

    url: str
    body: Body
    delay_s: float = 0.0
    """After the start of the plan that it is part of."""
    hang_up_after_s: float | None = None
    """The client leaves so long after it asked, if there is no answer to its end before that."""
    background: bool = False
    """The client leaves when all others of its plan have ended."""
    insist_s: float = 0.0
    """So long it asks again while nobody answers: for a server that is starting."""
    turns: tuple[tuple[Message, ...], ...] = ()
    """Of a chat: what is said after each answer. The client asks again, with all that was said so far."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that belong together, and how long all of them may take."""

    wishes: tuple[Wish, ...]
    deadline_s: float


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """How one request went. Moments are seconds of the system's monotonic clock."""

    sent_s: float
    ended_s: float
    """The answer's end, or when the client left."""
    hung_up: bool = False
    status: int = 0
    """HTTP's; 0: there was no answer."""
    error: str = ""
    token_s: tuple[float, ...] = ()
    """When each piece of text came."""
    comment_s: tuple[float, ...] = ()
    """When each sign of life came that is not text."""
    text: str = ""
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt, as the server tells it."""

    @property
    def first_token_s(self) -> float:
        """Time to first token."""
        return self.token_s[0] - self.sent_s if self.token_s else float("nan")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a plan: in the order of its wishes, each wish's turns one after the other."""

    seen: tuple[Seen, ...]
    cpu_s: float
    """Processor time that the client process itself took for it."""
