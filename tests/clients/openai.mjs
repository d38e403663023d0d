// The official OpenAI SDK against the daemon: what an application does with it.
//
// node openai.mjs BASE_URL KIND (that of the upstream, or `responses`), with CPROXY_NODE_MODULES naming the folder that holds the package openai.
// Prints a line for each check; exits non-zero at the first that fails. Run by tests/wire_openai.rs.

import assert from "node:assert/strict";
import path from "node:path";
import { createRequire } from "node:module";

const from = createRequire(path.join(path.resolve(process.env.CPROXY_NODE_MODULES), "here.js"));
const { OpenAI } = from("openai");

const [baseURL, kind] = process.argv.slice(2);
// What comes back must be the daemon's doing: the SDK itself tries nothing again.
const client = new OpenAI({ baseURL: `${baseURL}/v1`, apiKey: process.env.CLIENT_KEY, maxRetries: 0, timeout: 30_000 });
const model = "test-model";
const ask = (text, more = {}) => ({ model, messages: [{ role: "user", content: text }], ...more });

const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather in a city",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const flatWeather = { type: "function", strict: false, ...weather.function };

async function fails(request, type, status, code, words) {
  const error = await request.then(
    (answer) => assert.fail(`no error: ${JSON.stringify(answer)}`),
    (error) => error,
  );
  assert.ok(error instanceof type, `${error.constructor.name}: ${error}`);
  assert.equal(error.status, status);
  if (code) assert.equal(error.code, code);
  assert.match(error.message, words);
  assert.ok(error.requestID, "an error has its request id");
}

const checks = {
  async "chat: a whole answer"() {
    const { data, response } = await client.chat.completions.create(ask("say plain and simple")).withResponse();
    assert.equal(data.object, "chat.completion");
    assert.equal(data.choices.length, 1);
    assert.equal(data.choices[0].message.role, "assistant");
    assert.equal(data.choices[0].message.content, "plain and simple");
    assert.equal(data.choices[0].finish_reason, "stop");
    assert.ok(data.usage.prompt_tokens > 0 && data.usage.completion_tokens > 0, JSON.stringify(data.usage));
    assert.ok(response.headers.get("x-request-id"), "x-request-id on every answer");
  },

  async "chat: a stream"() {
    const stream = await client.chat.completions.create(
      ask("say one two three four five six seven eight nine ten", {
        stream: true,
        stream_options: { include_usage: true },
      }),
    );
    const pieces = [];
    let finish = null;
    let usage = null;
    let chunks = 0;
    for await (const chunk of stream) {
      chunks += 1;
      assert.equal(chunk.object, "chat.completion.chunk");
      const piece = chunk.choices[0]?.delta?.content;
      if (piece) pieces.push(piece);
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    assert.equal(pieces.join(""), "one two three four five six seven eight nine ten");
    assert.ok(pieces.length > 1 && chunks > 2, "the text came in pieces, as it came");
    assert.equal(finish, "stop");
    assert.ok(usage.total_tokens > 0, "the usage that was asked for");
  },

  async "chat: tools, there and back, streamed"() {
    const messages = [{ role: "user", content: 'call get_weather {"city":"Tromsø"}\nsay it is {{result}}' }];
    const runner = client.chat.completions.stream({ model, tools: [weather], messages });
    const first = await runner.finalChatCompletion();
    assert.equal(first.choices[0].finish_reason, "tool_calls");
    const [call] = first.choices[0].message.tool_calls;
    assert.equal(call.function.name, "get_weather");
    assert.deepEqual(JSON.parse(call.function.arguments), { city: "Tromsø" });
    messages.push(first.choices[0].message, { role: "tool", tool_call_id: call.id, content: "cold" });
    const second = await client.chat.completions.create({ model, tools: [weather], messages });
    assert.equal(second.choices[0].finish_reason, "stop");
    assert.equal(second.choices[0].message.content, "it is cold");
  },

  async "chat: parallel tools"() {
    const text = 'call get_weather {"city":"Oslo"} + get_weather {"city":"Rome"}\nsay done';
    const messages = [{ role: "system", content: "Be brief." }, { role: "user", content: text }];
    const first = await client.chat.completions.create({ model, tools: [weather], messages });
    const calls = first.choices[0].message.tool_calls;
    assert.deepEqual(calls.map((call) => JSON.parse(call.function.arguments).city), ["Oslo", "Rome"]);
    assert.notEqual(calls[0].id, calls[1].id);
    messages.push(first.choices[0].message);
    for (const call of calls) messages.push({ role: "tool", tool_call_id: call.id, content: "fine" });
    const stream = client.chat.completions.stream({ model, tools: [weather], messages });
    assert.equal(await stream.finalContent(), "done");
  },

  async "chat: an image, a stop sequence, reasoning asked for"() {
    const dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    const answer = await client.chat.completions.create({
      model,
      stop: "STOP",
      max_completion_tokens: 20_000,
      messages: [
        {
          role: "user",
          content: [
            { type: "image_url", image_url: { url: `data:image/png;base64,${dot}` } },
            { type: "text", text: "say before STOP after" },
          ],
        },
      ],
    });
    // Where an API has no stop sequences, as Responses, the daemon meets them itself.
    const said = "before";
    assert.equal(answer.choices[0].message.content.trim(), said);
    const thought = await client.chat.completions.create(ask("say well considered", { reasoning_effort: "low" }));
    assert.equal(thought.choices[0].message.content, "well considered");
  },

  async "chat: errors have their classes and words"() {
    const create = (body) => client.chat.completions.create(body);
    await fails(create({ model }), OpenAI.BadRequestError, 400, null, /messages/);
    await fails(create(ask("fail with 429", { stream: true })), OpenAI.RateLimitError, 429, null, /./);
    const tooLong = /too long|maximum context|input token count|exceed/i;
    await fails(create(ask("fail as too long")), OpenAI.BadRequestError, 400, null, tooLong);
    // OpenRouter says so with a 400, and what an upstream of the caller's dialect says goes through as it is.
    const unknown = kind === "openrouter" ? [OpenAI.BadRequestError, 400] : [OpenAI.NotFoundError, 404];
    await fails(create(ask("fail as unknown")), ...unknown, null, /./);
  },

  async "chat: a stream that breaks off does not look whole"() {
    const stream = await client.chat.completions.create(ask("cut this answer short", { stream: true }));
    let finish = null;
    let text = "";
    const error = await (async () => {
      for await (const chunk of stream) {
        text += chunk.choices[0]?.delta?.content ?? "";
        finish = chunk.choices[0]?.finish_reason ?? finish;
      }
    })().then(
      () => assert.fail(`it looks whole: ${text}`),
      (error) => error,
    );
    assert.equal(finish, null, "nothing said that the answer was done");
    assert.ok(error instanceof OpenAI.APIError, `${error.constructor.name}: ${error}`);
    assert.ok(text.length > 0, "what came before the cut was passed on");
  },

  async "responses: a whole answer"() {
    const answer = await client.responses.create({ model, instructions: "Be brief.", input: "say plain and simple" });
    assert.equal(answer.object, "response");
    assert.equal(answer.status, "completed");
    assert.equal(answer.output_text, "plain and simple");
    assert.ok(answer.usage.input_tokens > 0 && answer.usage.output_tokens > 0, JSON.stringify(answer.usage));
  },

  async "responses: a stream"() {
    const stream = client.responses.stream({ model, input: [{ role: "user", content: "say one two three four five" }] });
    const kinds = [];
    let text = "";
    stream.on("event", (event) => {
      kinds.push(event.type);
      if (event.type === "response.output_text.delta") text += event.delta;
    });
    const answer = await stream.finalResponse();
    assert.equal(text, "one two three four five");
    assert.equal(answer.output_text, text);
    assert.deepEqual([kinds[0], kinds.at(-1)], ["response.created", "response.completed"]);
  },

  async "responses: tools, there and back"() {
    const input = [{ role: "user", content: 'call get_weather {"city":"Oslo"} + get_weather {"city":"Rome"}\nsay it is {{result}}' }];
    const first = await client.responses.stream({ model, tools: [flatWeather], input }).finalResponse();
    const calls = first.output.filter((item) => item.type === "function_call");
    assert.deepEqual(calls.map((call) => JSON.parse(call.arguments).city), ["Oslo", "Rome"]);
    input.push(...first.output);
    for (const call of calls) input.push({ type: "function_call_output", call_id: call.call_id, output: "cold" });
    const second = await client.responses.create({ model, tools: [flatWeather], input });
    assert.match(second.output_text, /^it is cold/);
  },

  async "responses: errors and cuts"() {
    await fails(client.responses.create({ model }), OpenAI.BadRequestError, 400, null, /input/);
    await fails(client.responses.create({ model, input: "fail with 429" }), OpenAI.RateLimitError, 429, null, /./);
    const kinds = [];
    const stream = await client.responses.create({ model, input: "cut this answer short", stream: true });
    const ended = await (async () => {
      for await (const event of stream) kinds.push(event.type);
    })().then(() => null, (error) => error);
    assert.ok(!kinds.includes("response.completed"), String(kinds));
    assert.ok(ended || kinds.at(-1) === "response.failed" || kinds.at(-1) === "error", String(kinds));
  },

  async "models are listed, and one by one"() {
    const ids = [];
    for await (const entry of client.models.list()) ids.push(entry.id);
    assert.ok(ids.includes(model), String(ids));
    const one = await client.models.retrieve(model);
    assert.deepEqual([one.id, one.object], [model, "model"]);
  },

  async "a caller that leaves in the middle"() {
    const stream = await client.chat.completions.create(ask("go slowly", { stream: true }));
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta?.content) break;
    }
    stream.controller.abort();
  },
};

const only = process.env.ONLY;
for (const [name, check] of Object.entries(checks)) {
  if (only && !name.includes(only)) continue;
  try {
    await check();
    // The upstream of the simulator asks to be left alone for a second after its 429.
    if (name.includes("errors")) await new Promise((resolve) => setTimeout(resolve, 1100));
    console.log(`ok ${name}`);
  } catch (error) {
    console.log(`FAILED ${kind}: ${name}\n${error.stack}`);
    process.exit(1);
  }
}
console.log("all well");
