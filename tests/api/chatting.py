"""What tests of chats have in common."""

from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]


async def collect(client: AsyncOpenAI, **options: object) -> list[ChatCompletionChunk]:
    stream = await client.chat.completions.create(model="m", messages=HI, stream=True, extra_body=options)
    return [chunk async for chunk in stream]
