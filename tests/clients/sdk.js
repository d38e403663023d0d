// The official JavaScript SDK against the daemon: what an application does with it.
//
// node sdk.js BASE_URL KIND, with CPROXY_NODE_MODULES naming the folder that holds @anthropic-ai/sdk.
// Prints a line for each check; exits non-zero at the first that fails. Run by tests/sdk.rs.
"use strict";

const assert = require("node:assert/strict");
const path = require("node:path");
const { createRequire } = require("node:module");

const from = createRequire(path.join(path.resolve(process.env.CPROXY_NODE_MODULES), "here.js"));
const { Anthropic } = from("@anthropic-ai/sdk");

const [baseURL, kind] = process.argv.slice(2);
// What comes back must be the daemon's doing: the SDK itself tries nothing again.
const client = new Anthropic({ baseURL, apiKey: process.env.CLIENT_KEY, maxRetries: 0, timeout: 30_000 });
const model = "claude-opus-4-8";
const ask = (text, more = {}) => ({ model, max_tokens: 1024, messages: [{ role: "user", content: text }], ...more });

const weather = {
  name: "get_weather",
  description: "The weather in a city",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

const checks = {
  async "a whole answer"() {
    const { data, response } = await client.messages.create(ask("say plain and simple")).withResponse();
    assert.equal(data.type, "message");
    assert.equal(data.role, "assistant");
    assert.equal(data.stop_reason, "end_turn");
    assert.deepEqual(data.content.map((block) => [block.type, block.text]), [["text", "plain and simple"]]);
    assert.ok(data.usage.input_tokens > 0 && data.usage.output_tokens > 0, JSON.stringify(data.usage));
    assert.ok(response.headers.get("request-id"), "request-id on every answer");
  },

  async "a stream, put together by the SDK"() {
    const stream = client.messages.stream(ask("say one two three four five six seven eight nine ten"));
    const pieces = [];
    const kinds = [];
    stream.on("text", (piece) => pieces.push(piece));
    stream.on("streamEvent", (event) => kinds.push(event.type));
    const message = await stream.finalMessage();
    assert.equal(await stream.finalText(), "one two three four five six seven eight nine ten");
    assert.ok(pieces.length > 1, "the text came in pieces, as it came");
    assert.equal(pieces.join(""), "one two three four five six seven eight nine ten");
    assert.equal(message.stop_reason, "end_turn");
    assert.ok(message.usage.output_tokens > 0);
    const count = (kind) => kinds.filter((each) => each === kind).length;
    assert.deepEqual([count("message_start"), count("message_delta"), count("message_stop")], [1, 1, 1], String(kinds));
    assert.equal(kinds.at(-1), "message_stop");
  },

  async "tools, there and back, streamed"() {
    const messages = [{ role: "user", content: 'call get_weather {"city":"Tromsø"}\nsay it is {{result}}' }];
    const first = await client.messages.stream({ model, max_tokens: 1024, tools: [weather], messages }).finalMessage();
    assert.equal(first.stop_reason, "tool_use");
    const call = first.content.find((block) => block.type === "tool_use");
    assert.equal(call.name, "get_weather");
    assert.deepEqual(call.input, { city: "Tromsø" });
    messages.push({ role: "assistant", content: first.content });
    messages.push({ role: "user", content: [{ type: "tool_result", tool_use_id: call.id, content: "cold" }] });
    const second = await client.messages.create({ model, max_tokens: 1024, tools: [weather], messages });
    assert.equal(second.stop_reason, "end_turn");
    assert.equal(second.content.at(-1).text, "it is cold");
  },

  async "parallel tools"() {
    const text = 'call get_weather {"city":"Oslo"} + get_weather {"city":"Rome"}\nsay done';
    const messages = [{ role: "user", content: text }];
    const first = await client.messages.create({ model, max_tokens: 1024, tools: [weather], messages });
    const calls = first.content.filter((block) => block.type === "tool_use");
    assert.deepEqual(calls.map((call) => call.input.city), ["Oslo", "Rome"]);
    assert.notEqual(calls[0].id, calls[1].id);
    messages.push({ role: "assistant", content: first.content });
    const results = calls.map((call) => ({ type: "tool_result", tool_use_id: call.id, content: `${call.input.city}: fine` }));
    messages.push({ role: "user", content: results });
    const second = await client.messages.stream({ model, max_tokens: 1024, tools: [weather], messages }).finalText();
    assert.equal(second, "done");
  },

  async "a system prompt in blocks, an image, a stop sequence"() {
    const dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    const answer = await client.messages.create({
      model,
      max_tokens: 1024,
      system: [{ type: "text", text: "Be brief." }, { type: "text", text: "Be kind.", cache_control: { type: "ephemeral" } }],
      stop_sequences: ["STOP"],
      messages: [
        {
          role: "user",
          content: [
            { type: "image", source: { type: "base64", media_type: "image/png", data: dot } },
            { type: "text", text: "say before STOP after" },
          ],
        },
      ],
    });
    // Where an API has no stop sequences, as Responses, the daemon meets them itself.
    assert.equal(answer.content[0].text.trim(), "before");
    if (kind === "anthropic") assert.deepEqual([answer.stop_reason, answer.stop_sequence], ["stop_sequence", "STOP"]);
  },

  async "tokens are counted"() {
    const short = await client.messages.countTokens({ model, messages: [{ role: "user", content: "short" }] });
    const long = await client.messages.countTokens({ model, messages: [{ role: "user", content: "long ".repeat(500) }] });
    assert.ok(short.input_tokens > 0 && long.input_tokens > short.input_tokens, JSON.stringify([short, long]));
  },

  async "models are listed, and one by one"() {
    const ids = [];
    for await (const entry of client.models.list({ limit: 1000 })) ids.push(entry.id);
    const known = kind === "anthropic" ? "claude-simulator" : "simulator";
    assert.ok(ids.some((id) => id.includes(known)), `${known} in ${ids}`);
    const one = await client.models.retrieve(ids[0]);
    assert.equal(one.id, ids[0]);
    assert.equal(one.type, "model");
  },

  async "errors have their classes and words"() {
    const fails = async (request, type, status, words) => {
      const error = await request.then(
        (answer) => assert.fail(`no error: ${JSON.stringify(answer)}`),
        (error) => error,
      );
      assert.ok(error instanceof type, `${error.constructor.name}: ${error}`);
      assert.equal(error.status, status);
      assert.equal(error.error.type, "error");
      assert.match(error.error.error.message, words);
      assert.ok(error.requestID, "an error has its request-id");
    };
    await fails(client.messages.create({ model, max_tokens: 10 }), Anthropic.BadRequestError, 400, /messages/);
    await fails(client.messages.create(ask("fail with 429", { stream: true })), Anthropic.RateLimitError, 429, /./);
    await fails(client.messages.create(ask("fail as too long")), Anthropic.BadRequestError, 400, /prompt is too long/);
    await fails(client.models.retrieve("no-such-model"), Anthropic.NotFoundError, 404, /no-such-model/);
  },

  async "a stream that breaks off does not look whole"() {
    const stream = client.messages.stream(ask("cut this answer short"));
    const error = await stream.finalMessage().then(
      (message) => assert.fail(`it looks whole: ${JSON.stringify(message)}`),
      (error) => error,
    );
    assert.ok(error instanceof Anthropic.AnthropicError, String(error));
  },

  // Last: the test in Rust looks at what it leaves behind.
  async "a caller that leaves"() {
    const stream = client.messages.stream(ask("go slowly"));
    await new Promise((resolve, reject) => {
      stream.on("text", resolve);
      stream.on("error", reject);
    });
    stream.on("error", () => {});
    stream.abort();
    await assert.rejects(stream.done(), Anthropic.APIUserAbortError);
  },
};

(async () => {
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
      console.log(`ok: ${name}`);
    } catch (error) {
      console.log(`FAILED: ${name} (${kind})\n${error.stack}`);
      process.exitCode = 1;
      return;
    }
  }
  console.log("all well");
})();
