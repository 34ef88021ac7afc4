"""What to generate and what came of it, with a value in every field."""

from bus.messages.base import SequenceId
from bus.messages.generation import (
    ChatMessage,
    ChatPrompt,
    Delta,
    Finish,
    FinishReason,
    JsonFormat,
    Sampling,
    Stopping,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    TopLogprob,
)

TOOL_CALL = ToolCall("call-1", "weather", '{"town": "Zürich"}')
CHAT = ChatPrompt(
    messages=(
        ChatMessage("system", "Be kind."),
        ChatMessage("assistant", None, reasoning="Hm.", name="a", tool_calls=(TOOL_CALL,)),
        ChatMessage("tool", "12 °C", tool_call_id="call-1"),
    ),
    tools=('{"type": "function"}',),
    template_options='{"enable_thinking": false}',
    thinking=True,
    effort="high",
)
JSON_FORMAT = JsonFormat('{"type": "object"}', "weather")
CALL_DELTA = ToolCallDelta(1, "call-1", "weather", '{"town')
SAMPLING = Sampling(0.5, 0.9, 40, 0.1, 1.1, 0.2, 0.3, {7: -100.0, 9: 2.5}, 2**40)
STOPPING = Stopping(100, ("\n\n", "ende"), ignore_eos=True, reasoning_tokens=50, calls=1)
LOGPROB = TokenLogprob(5, "é", b"\xc3\xa9", -0.25, (TopLogprob(6, "", b"\xc3", -1.5),))
FINISH = Finish(FinishReason.TOOL_CALLS, 12, 4, "ende", 8)
DELTA = Delta(SequenceId("s-1"), "é", "so", (CALL_DELTA,), 3, (LOGPROB,), FINISH, (7, 8, 9), b"\x00\x00\x80?")
