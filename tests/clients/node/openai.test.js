// openai-node against the gateway: the same promises as python/, in short.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const url = `${process.env.TOLLGATE_URL}/v1`;
const key = process.env.TOLLGATE_KEY;
const client = new OpenAI({ baseURL: url, apiKey: key, maxRetries: 0, timeout: 20_000 });

const ask = (content, more = {}) =>
  client.chat.completions.create({ model: "fake-chat", messages: [{ role: "user", content }], ...more });

test("an answer", async () => {
  const answer = await ask("say one two three");
  assert.equal(answer.choices[0].message.content, "one two three");
  assert.equal(answer.model, "fake-chat");
  assert.ok(answer._request_id);
});

test("a stream", async () => {
  let text = "";
  for await (const chunk of await ask("say one two", { stream: true })) {
    assert.equal(chunk.usage ?? null, null);
    text += chunk.choices[0].delta.content ?? "";
  }
  assert.equal(text, "one two ");
});

test("a stream with usage", async () => {
  let last;
  for await (const chunk of await ask("say one two", { stream: true, stream_options: { include_usage: true } })) last = chunk;
  assert.deepEqual(last.choices, []);
  assert.equal(last.usage.completion_tokens, 2);
});

test("embeddings", async () => {
  const answer = await client.embeddings.create({ model: "fake-embed", input: ["a", "b"] });
  assert.deepEqual(answer.data.map((item) => item.embedding), [[0.5, -0.25, 0.125], [0.5, -0.25, 0.125]]);
});

test("models", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.ok(names.includes("fake-chat"));
  assert.equal((await client.models.retrieve("fake-embed")).id, "fake-embed");
});

test("errors have their classes", async () => {
  const stranger = new OpenAI({ baseURL: url, apiKey: "tg_demo_wrong", maxRetries: 0 });
  await assert.rejects(stranger.models.list(), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.equal(error.code, "invalid_api_key");
    assert.ok(error.requestID);
    return true;
  });
  const cases = [
    [() => ask("say x", { model: "none" }), OpenAI.NotFoundError, "model_not_found"],
    [() => ask("fail 400"), OpenAI.BadRequestError],
    [() => ask("fail 422"), OpenAI.BadRequestError],
    [() => ask("fail 500"), OpenAI.InternalServerError],
    [() => ask("fail 401"), OpenAI.InternalServerError],
  ];
  for (const [request, kind, code] of cases) {
    await assert.rejects(request, (error) => {
      assert.ok(error instanceof kind, `${error}`);
      if (code) assert.equal(error.code, code);
      return true;
    });
  }
});

test("a deadline of the client", async () => {
  const hasty = client.withOptions({ timeout: 500 });
  const request = hasty.chat.completions.create({ model: "fake-chat", messages: [{ role: "user", content: "hang" }] });
  await assert.rejects(request, OpenAI.APIConnectionTimeoutError);
});

test("a cut stream raises", async () => {
  const stream = await ask("cut", { stream: true });
  await assert.rejects(async () => {
    for await (const _ of stream);
  });
});

test("a browser may ask", async () => {
  const origin = "https://app.test";
  const preflight = await fetch(`${url}/chat/completions`, {
    method: "OPTIONS",
    headers: {
      origin,
      "access-control-request-method": "POST",
      "access-control-request-headers": "authorization,content-type,x-stainless-lang",
    },
  });
  assert.ok(preflight.ok, `${preflight.status}`);
  assert.equal(preflight.headers.get("access-control-allow-origin"), origin);
  const allowed = preflight.headers.get("access-control-allow-headers").toLowerCase();
  for (const name of ["authorization", "content-type"]) assert.ok(allowed.includes(name), allowed);
  const answer = await fetch(`${url}/models`, { headers: { origin, authorization: `Bearer ${key}` } });
  assert.equal(answer.headers.get("access-control-allow-origin"), origin);
  assert.match(answer.headers.get("access-control-expose-headers"), /x-request-id/i);
});
