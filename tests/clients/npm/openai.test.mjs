// The three routes as the npm `openai` package uses them, against the node at EXO_URL.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import OpenAI from 'openai'

const client = new OpenAI({ baseURL: `${process.env.EXO_URL}/v1`, apiKey: 'none', maxRetries: 0 })
const model = process.env.EXO_TEST_MODEL
const messages = [{ role: 'user', content: 'What is exo_actors?' }]
const greedy = { model, messages, temperature: 0, max_tokens: 24 }
const tool = {
  type: 'function',
  function: {
    name: 'weather',
    parameters: {
      type: 'object',
      properties: { city: { enum: ['Oslo', 'Rome'] } },
      required: ['city'],
      additionalProperties: false,
    },
  },
}

async function collect(stream) {
  const chunks = []
  for await (const chunk of stream) chunks.push(chunk)
  return chunks
}

const text = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')

test('models are listed and retrieved', async () => {
  const ids = []
  for await (const found of client.models.list()) ids.push(found.id)
  assert.ok(ids.includes(model))
  assert.equal((await client.models.retrieve(model)).id, model)
})

test('an unknown model is NotFoundError', async () => {
  await assert.rejects(client.models.retrieve('nobody/nothing'), OpenAI.NotFoundError)
  await assert.rejects(client.chat.completions.create({ ...greedy, model: 'nobody/nothing' }), {
    status: 404,
    code: 'model_not_found',
  })
})

test('a whole answer and a streamed one are the same text', async () => {
  const whole = await client.chat.completions.create(greedy)
  const chunks = await collect(await client.chat.completions.create({ ...greedy, stream: true }))
  assert.ok(whole.choices[0].message.content.length > 0)
  assert.equal(text(chunks), whole.choices[0].message.content)
  assert.equal(chunks.filter((chunk) => chunk.choices[0].delta.role).length, 1)
  assert.equal(chunks.at(-1).choices[0].finish_reason, whole.choices[0].finish_reason)
})

test('the stream helper puts the answer together', async () => {
  const helper = client.chat.completions.stream({ ...greedy, stream_options: { include_usage: true } })
  const answer = await helper.finalChatCompletion()
  assert.ok(answer.choices[0].message.content.length > 0)
  assert.ok(answer.usage.completion_tokens > 0)
})

test('include_usage ends the stream with the usage', async () => {
  const options = { ...greedy, stream: true, stream_options: { include_usage: true } }
  const last = (await collect(await client.chat.completions.create(options))).at(-1)
  assert.deepEqual(last.choices, [])
  assert.equal(last.usage.total_tokens, last.usage.prompt_tokens + last.usage.completion_tokens)
})

test('n answers, logprobs and a seed', async () => {
  const options = { model, messages, max_tokens: 8, n: 2, seed: 7, logprobs: true, top_logprobs: 2 }
  const first = await client.chat.completions.create(options)
  const second = await client.chat.completions.create(options)
  assert.equal(first.choices.length, 2)
  assert.deepEqual(
    first.choices.map((choice) => choice.message.content),
    second.choices.map((choice) => choice.message.content),
  )
  const entries = first.choices[0].logprobs.content
  assert.ok(entries.every((entry) => entry.logprob <= 0 && entry.top_logprobs.length <= 2))
})

test('max_tokens ends with length', async () => {
  const answer = await client.chat.completions.create({ ...greedy, max_tokens: 2 })
  assert.equal(answer.choices[0].finish_reason, 'length')
  assert.equal(answer.usage.completion_tokens, 2)
})

test('an answer keeps to its schema, streamed and not', async () => {
  const schema = {
    type: 'object',
    properties: { mood: { enum: ['calm', 'busy'] }, ready: { type: 'boolean' } },
    required: ['mood', 'ready'],
    additionalProperties: false,
  }
  const json_schema = { name: 'state', strict: true, schema }
  const options = { ...greedy, max_tokens: 64, response_format: { type: 'json_schema', json_schema } }
  const whole = await client.chat.completions.create(options)
  const found = JSON.parse(whole.choices[0].message.content)
  assert.ok(schema.properties.mood.enum.includes(found.mood))
  assert.equal(typeof found.ready, 'boolean')
  const streamed = await client.chat.completions.stream(options).finalContent()
  assert.deepEqual(JSON.parse(streamed), found)
})

test('a schema that makes no sense is refused', async () => {
  const json_schema = { name: 'x', schema: { $ref: '#/$defs/nothing' } }
  const options = { ...greedy, response_format: { type: 'json_schema', json_schema } }
  await assert.rejects(client.chat.completions.create(options), { status: 400, param: 'response_format' })
})

test('a tool that has to be called is called, and the stream helper puts the call together', async () => {
  const options = { ...greedy, max_tokens: 96, tools: [tool], parallel_tool_calls: false }
  const whole = await client.chat.completions.create({ ...options, tool_choice: 'required' })
  assert.equal(whole.choices[0].finish_reason, 'tool_calls')
  const [call] = whole.choices[0].message.tool_calls
  assert.equal(call.function.name, 'weather')
  const named = { type: 'function', function: { name: 'weather' } }
  const streamed = await client.chat.completions
    .stream({ ...options, tool_choice: named })
    .finalChatCompletion()
  assert.equal(streamed.choices[0].finish_reason, 'stop')
  assert.equal(streamed.choices[0].message.tool_calls[0].function.name, 'weather')
})

test('a model that was not made for embeddings says so', async () => {
  await assert.rejects(client.embeddings.create({ model, input: 'a' }), { status: 400 })
})

test('tools may be offered', async () => {
  const answer = await client.chat.completions.create({ ...greedy, tools: [tool], tool_choice: 'auto' })
  assert.ok(['stop', 'length', 'tool_calls'].includes(answer.choices[0].finish_reason))
})

test('abort ends a stream and the next request is served', async () => {
  const stream = await client.chat.completions.create({
    model,
    messages,
    stream: true,
    extra_body: undefined,
    ignore_eos: true,
  })
  for await (const chunk of stream) {
    if (chunk.choices[0].delta.content) break
  }
  stream.controller.abort()
  assert.ok((await client.chat.completions.create(greedy)).id)
})

test('plain completions of several prompts, streamed and not', async () => {
  const options = { model, prompt: ['The node', 'The engine'], temperature: 0, max_tokens: 6 }
  const whole = await client.completions.create(options)
  assert.deepEqual(
    whole.choices.map((choice) => choice.index),
    [0, 1],
  )
  const parts = ['', '']
  for await (const chunk of await client.completions.create({ ...options, stream: true })) {
    for (const choice of chunk.choices) parts[choice.index] += choice.text
  }
  assert.deepEqual(
    parts,
    whole.choices.map((choice) => choice.text),
  )
})

test('an echo begins with the prompt', async () => {
  const answer = await client.completions.create({ model, prompt: 'The node', echo: true, max_tokens: 2 })
  assert.ok(answer.choices[0].text.startsWith('The node'))
})
