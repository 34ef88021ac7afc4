"""What users of a soak ask for, drawn from a seed: every errand names all that may come of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from random import Random

from scripts.soaking.forms import TOOL, Form

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
EMBED = "/v1/embeddings"

Message = dict[str, str]

SYSTEMS = 3
SYSTEM_TOKENS = (300, 800)
LONGEST_CHAT = 2000
"""Tokens; then a user begins another one."""
CONTEXT = 16384
"""Of the model; more than the budget has room for."""
OFFERED = 50
"""Tokens that a tool's definition takes in a prompt, about."""
MOST_QUOTED = 1200
"""Characters of an answer that are part of a prompt."""
FORMED = 160
"""Tokens that are enough for any form."""


class Key(Enum):
    """Who asks, and what they may: each key is the enum's value."""

    ORDINARY = "sk-ordinary"
    PREFERRED = "sk-preferred"
    LIMITED = "sk-limited"
    UNKNOWN = "sk-unknown"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.value}"}

    @staticmethod
    def file() -> dict[str, object]:
        """As a node reads it; more is served earlier."""
        ordinary: dict[str, object] = {"key": Key.ORDINARY.value, "name": "ordinary"}
        preferred: dict[str, object] = {"key": Key.PREFERRED.value, "name": "preferred", "priority": 2}
        limited: dict[str, object] = {"key": Key.LIMITED.value, "name": "limited", "running": 1}
        return {"keys": [ordinary, preferred, limited]}


class Leaves(Enum):
    """How a user ends a request before it has ended by itself."""

    STAYS = "stays"
    CLOSES = "closes the connection"
    CANCELS = "cancels"
    TIMES_OUT = "has little time"


class Refused(Enum):
    """Whether a request is to be refused, and how."""

    NEVER = "not refused"
    TOO_LONG = "too long"
    NOT_SERVED = "not served"
    UNKNOWN = "of nobody who is known"


@dataclass(frozen=True, slots=True)
class Errand:
    """One request."""

    name: str
    kind: str
    path: str
    body: dict[str, object]
    tokens: int
    """KV cache that it wants at most, all its answers together."""
    max_tokens: int
    leaves: Leaves = Leaves.STAYS
    after_pieces: int = 0
    """Who leaves, does so after so many pieces; 0: before the first."""
    form: Form = Form.FREE
    refused: Refused = Refused.NEVER
    key: Key = Key.ORDINARY

    @property
    def streams(self) -> bool:
        return self.body.get("stream") is True

    @property
    def answers(self) -> int:
        n = self.body.get("n", 1)
        return n if isinstance(n, int) else 1

    @property
    def is_greedy(self) -> bool:
        return self.body.get("temperature") == 0 and self.path != EMBED

    @property
    def echoes(self) -> str:
        """What each answer begins with; empty: it is not known before."""
        prompt = self.body.get("prompt")
        return prompt if self.body.get("echo") and isinstance(prompt, str) else ""


@dataclass
class _Conversation:
    messages: list[Message] = field(default_factory=list)
    tokens: int = 0


class User:
    """Draws one user's errands; what is asked next in a chat hangs on what was answered."""

    def __init__(self, seed: int, number: int, words: Sequence[str], model: str) -> None:
        """`words`: of one token each."""
        self._random = Random(f"{seed}/user/{number}")
        self._words, self._model, self._number = words, model, number
        shared = Random(f"{seed}/systems")
        self._systems = [self._text(shared.randint(*SYSTEM_TOKENS), shared) for _ in range(SYSTEMS)]
        self._chat = _Conversation()
        self._said = ""
        """The longest of the last answers: what is quoted."""
        self._asked = 0

    def next(self) -> Errand:
        """The next one."""
        self._asked += 1
        kinds = {
            "completion": (self._completion, 16),
            "quoting": (self._quoting, 10),
            "chat": (self._next_turn, 34),
            "several answers": (self._several, 8),
            "form": (self._formed, 12),
            "tools": (self._tools, 5),
            "logprobs": (self._logprobs, 4),
            "scored": (self._scored, 3),
            "long prompt": (self._long, 6),
            "too long": (self._too_long, 2),
            "embedding": (self._embedding, 1),
        }
        weights = [weight for _, weight in kinds.values()]
        (kind,) = self._random.choices(list(kinds), weights)
        return kinds[kind][0](kind)

    def heard(self, errand: Errand, text: str) -> None:
        """What came of a chat's turn: it is part of the next one. Nothing came: the chat is begun anew."""
        if errand.kind in ("completion", "quoting") and len(text) > MOST_QUOTED / 2:
            self._said = text[-MOST_QUOTED:]
        if errand.kind != "chat":
            return
        if not text or self._chat.tokens > LONGEST_CHAT:
            self._chat = _Conversation()
        else:
            self._chat.messages.append({"role": "assistant", "content": text})
            self._chat.tokens += errand.max_tokens

    # -- the kinds -----------------------------------------------------------------------------------

    def _completion(self, kind: str) -> Errand:
        prompt, most = self._random.randint(8, 200), self._random.randint(8, 300)
        return self._of(kind, TEXT, {"prompt": self._text(prompt)}, prompt, most)

    def _quoting(self, kind: str) -> Errand:
        """Goes on with what was said before: look-up has a text to guess from."""
        quoted = self._said or self._text(100)
        prompt = quoted + quoted[: self._random.randint(20, len(quoted))]
        most = self._random.randint(60, 300)
        return self._of(kind, TEXT, {"prompt": prompt}, len(prompt), most)

    def _next_turn(self, kind: str) -> Errand:
        chat, new = self._chat, self._random.randint(10, 200)
        if not chat.messages:
            system = self._random.choice(self._systems)
            chat.messages.append({"role": "system", "content": system})
            chat.tokens = SYSTEM_TOKENS[1]
        if chat.messages[-1]["role"] == "user":  # asked again: the last answer never came
            chat.messages.pop()
        chat.messages.append({"role": "user", "content": self._text(new)})
        chat.tokens += new
        body: dict[str, object] = {"messages": list(chat.messages)}
        return self._of(kind, CHAT, body, chat.tokens, self._random.randint(8, 200))

    def _several(self, kind: str) -> Errand:
        prompt, most = self._random.randint(100, 400), self._random.randint(8, 80)
        n, text = self._random.choice((2, 4)), self._text(prompt)
        if self._random.random() < 0.5:
            return self._of(kind, TEXT, {"prompt": text, "n": n}, n * prompt, most, answers=n)
        body: dict[str, object] = {"messages": [{"role": "user", "content": text}], "n": n}
        return self._of(kind, CHAT, body, n * (prompt + OFFERED), most, answers=n)

    def _formed(self, kind: str) -> Errand:
        form = self._random.choice([form for form in Form if form is not Form.FREE])
        prompt, n = self._random.randint(10, 100), self._random.choice((1, 1, 1, 2))
        body = {"messages": [{"role": "user", "content": self._text(prompt)}], **form.fields, "n": n}
        return self._of(kind, CHAT, body, n * (prompt + OFFERED), FORMED, answers=n, form=form)

    def _tools(self, kind: str) -> Errand:
        prompt = self._random.randint(10, 100)
        messages = [
            {"role": "system", "content": self._systems[0]},
            {"role": "user", "content": self._text(prompt)},
        ]
        body: dict[str, object] = {"messages": messages, "tools": [TOOL]}
        tokens = prompt + OFFERED + SYSTEM_TOKENS[1]
        return self._of(kind, CHAT, body, tokens, self._random.randint(8, 100))

    def _logprobs(self, kind: str) -> Errand:
        prompt = self._random.randint(10, 100)
        body: dict[str, object] = {
            "messages": [{"role": "user", "content": self._text(prompt)}],
            "logprobs": True,
            "top_logprobs": 20,
        }
        return self._of(kind, CHAT, body, prompt, self._random.randint(4, 40))

    def _scored(self, kind: str) -> Errand:
        """The prompt is part of the answer, with what each of its tokens was likely to be."""
        prompt = self._random.randint(10, 200)
        body: dict[str, object] = {"prompt": self._text(prompt), "echo": True, "logprobs": 5}
        return self._of(kind, TEXT, body, prompt, self._random.randint(4, 20))

    def _long(self, kind: str) -> Errand:
        prompt = self._random.randint(1000, 2400)
        return self._of(kind, TEXT, {"prompt": self._text(prompt)}, prompt, self._random.randint(8, 60))

    def _too_long(self, kind: str) -> Errand:
        body: dict[str, object] = {
            "model": self._model,
            "prompt": self._text(CONTEXT + self._random.randint(1, 400)),
            "max_tokens": 300,
            "temperature": 0,
        }
        return Errand(self._name, kind, TEXT, body, 0, 300, refused=Refused.TOO_LONG)

    def _embedding(self, kind: str) -> Errand:
        body: dict[str, object] = {"model": self._model, "input": self._text(20)}
        return Errand(self._name, kind, EMBED, body, 0, 0, refused=Refused.NOT_SERVED)

    # -- what they have in common --------------------------------------------------------------------

    def _of(
        self,
        kind: str,
        path: str,
        body: dict[str, object],
        prompt: int,
        most: int,
        answers: int = 1,
        form: Form = Form.FREE,
    ) -> Errand:
        (leaves,) = self._random.choices(list(Leaves), (76, 11, 7, 6))
        (key,) = self._random.choices(list(Key), (86, 6, 6, 2))
        whole = {"model": self._model, "max_tokens": most, **body, **self._sampling()}
        if form is Form.FREE:
            whole["ignore_eos"] = True
            if self._random.random() < 0.1:
                whole["stop"] = self._random.choices(self._words, k=2)
        if self._random.random() < 0.3:
            whole["priority"] = self._random.choice((-3, 1, 5))
        if leaves is Leaves.TIMES_OUT:
            whole["timeout"] = self._random.choice((0.05, 0.3, 1.0))
        if leaves in (Leaves.CLOSES, Leaves.CANCELS) or self._random.random() < 0.7:
            whole |= {"stream": True, "stream_options": {"include_usage": True}}
        after = self._random.choice((0, 1, self._random.randint(1, most)))
        tokens = prompt + answers * most
        refused = Refused.UNKNOWN if key is Key.UNKNOWN else Refused.NEVER
        return Errand(self._name, kind, path, whole, tokens, most, leaves, after, form, refused, key)

    def _sampling(self) -> dict[str, object]:
        if self._random.random() < 0.6:
            return {"temperature": 0}
        warm: dict[str, object] = {"temperature": 0.8, "seed": self._random.randrange(2**31)}
        (more,) = self._random.choices(
            ({}, {"top_p": 0.9}, {"top_k": 20, "min_p": 0.02}, {"frequency_penalty": 0.5}), k=1
        )
        return {**warm, **more}

    @property
    def _name(self) -> str:
        return f"user {self._number}, request {self._asked}"

    def _text(self, tokens: int, random: Random | None = None) -> str:
        return "".join((random or self._random).choices(self._words, k=tokens))
