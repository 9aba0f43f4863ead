"""openai-python against the gateway: answers, streams and every class of error."""

import asyncio
import os
import re
import time
import urllib.request

import openai
import pytest

from conftest import KEY, URL


def test_an_answer(ask):
    answer = ask("say one two three")
    assert answer.choices[0].message.content == "one two three"
    assert answer.model == "fake-chat"
    assert answer.usage.completion_tokens == 3
    assert answer._request_id


def test_a_stream_without_usage(ask):
    chunks = list(ask("say one two three", stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one two three "
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_stream_with_usage(ask):
    chunks = list(ask("say one two", stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 2


def test_one_connection_serves_many_streams(ask):
    for _ in range(10):
        assert len(list(ask("say x", stream=True))) == 3


def test_unknown_fields_and_content_parts_pass(client):
    parts = [{"type": "text", "text": "say parts"}]
    answer = client.chat.completions.create(
        model="fake-chat", messages=[{"role": "user", "content": parts}], extra_body={"top_k": 5}, max_completion_tokens=9
    )
    assert answer.choices[0].message.content == "parts"


def test_completions(client):
    assert client.completions.create(model="fake-chat", prompt="say legacy").choices[0].text == "legacy"


def test_async():
    async def many():
        async with openai.AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0, timeout=20) as client:
            async def one(number):
                stream = await client.chat.completions.create(
                    model="fake-chat", messages=[{"role": "user", "content": f"say {number}"}], stream=True
                )
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return await asyncio.gather(*(one(number) for number in range(20)))

    assert asyncio.run(many()) == [f"{number} " for number in range(20)]


def test_embeddings_in_both_encodings(client):
    for encoding in ({}, {"encoding_format": "float"}):
        answer = client.embeddings.create(model="fake-embed", input=["a", "b"], **encoding)
        assert [item.embedding for item in answer.data] == [[0.5, -0.25, 0.125]] * 2
        assert answer.usage.prompt_tokens == 4


def test_models(client):
    names = {model.id for model in client.models.list()}
    assert {"fake-chat", "fake-embed"} <= names
    assert client.models.retrieve("fake-chat").id == "fake-chat"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_raw_headers(client):
    raw = client.chat.completions.with_raw_response.create(
        model="fake-chat", messages=[{"role": "user", "content": "say hi"}], extra_headers={"x-request-id": "mine-1"}
    )
    assert raw.headers["x-request-id"] == "mine-1"
    assert int(raw.headers["openai-processing-ms"]) >= 0


def test_authentication_error():
    for key in ("tg_demo_wrong", "sk-other", KEY + "x"):
        client = openai.OpenAI(base_url=URL, api_key=key, max_retries=0)
        with pytest.raises(openai.AuthenticationError) as caught:
            client.models.list()
        assert caught.value.code == "invalid_api_key"
        assert caught.value.request_id
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="fake-chat", messages=[], stream=True)


def test_not_found_error(ask):
    with pytest.raises(openai.NotFoundError) as caught:
        ask("say hi", model="no-such-model")
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"


def test_bad_request_errors(ask):
    with pytest.raises(openai.BadRequestError) as caught:
        ask("fail 400")
    assert "told to fail" in caught.value.message
    assert caught.value.code is None or isinstance(caught.value.code, str)
    with pytest.raises(openai.BadRequestError):
        ask("say hi", stream="yes")


def test_a_servers_422_is_a_bad_request(ask):
    # FastAPI's status for a body that it cannot read; OpenAI's own is 400.
    with pytest.raises(openai.BadRequestError):
        ask("fail 422")


def test_rate_limit_error():
    client = openai.OpenAI(base_url=URL, api_key=KEY.replace("tg_demo_", "tg_tight_"), max_retries=0)
    request = {"model": "fake-chat", "messages": [{"role": "user", "content": "say hi"}]}
    with pytest.raises(openai.RateLimitError) as caught:
        for _ in range(5):
            client.chat.completions.create(**request)
    assert caught.value.code == "rate_limit_exceeded"
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60
    assert int(caught.value.response.headers["retry-after-ms"]) > 0


@pytest.mark.parametrize("status", [500, 502, 503])
def test_internal_server_error(ask, status):
    with pytest.raises(openai.InternalServerError) as caught:
        ask(f"fail {status}")
    assert caught.value.type == "server_error"
    assert isinstance(caught.value.code, str)


def test_a_credential_problem_of_the_gateway_is_not_ours(ask):
    with pytest.raises(openai.InternalServerError) as caught:
        ask("fail 401")
    assert caught.value.status_code == 502


def test_timeout_error(client):
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).chat.completions.create(
            model="fake-chat", messages=[{"role": "user", "content": "hang"}]
        )


def test_a_cut_stream_raises(ask):
    with pytest.raises(openai.APIError):
        for _ in ask("cut", stream=True):
            pass


@pytest.mark.skipif(not os.environ["TOLLGATE_REAL_MODEL"], reason="the real model does not run")
class TestRealModel:
    """SmolLM2 on llama.cpp, or on another engine that was named: real tokens, real timing, real usage."""

    def test_an_answer(self, ask):
        answer = ask("What is the capital of France?", model="smol", max_tokens=12, temperature=0)
        # A model of 135 million parameters need not know, but it speaks.
        assert answer.choices[0].message.content.strip()
        assert answer.model == "smol"
        assert answer.usage.completion_tokens <= 12

    def test_a_stream(self, ask):
        chunks = list(ask("Count from 1 to 5.", model="smol", max_tokens=12, stream=True))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text.strip(), "real tokens arrive"
        assert {chunk.model for chunk in chunks} == {"smol"}
        assert all(chunk.choices for chunk in chunks), "the usage event was not asked for"

    def test_a_stream_with_usage(self, ask):
        options = {"include_usage": True}
        chunks = list(ask("Say hello.", model="smol", max_tokens=8, stream=True, stream_options=options))
        assert chunks[-1].usage.prompt_tokens > 0
        assert 0 < chunks[-1].usage.completion_tokens <= 8

    def test_leaving_frees_the_engine(self, ask):
        for _ in range(6):
            stream = ask("Tell a very long story.", model="smol", max_tokens=1500, stream=True)
            next(iter(stream))
            stream.close()
        # Two slots: six stories still running would keep this waiting beyond the client's deadline.
        assert ask("Say hi.", model="smol", max_tokens=4).choices[0].message.content

    @pytest.mark.skipif(
        os.environ["TOLLGATE_REAL_MODEL"] == "transformers", reason="transformers serve takes a prompt of any length"
    )
    def test_the_engines_refusal_is_told(self, ask):
        with pytest.raises(openai.BadRequestError) as caught:
            ask("word " * 4000, model="smol", max_tokens=4)
        assert caught.value.code == "context_length_exceeded"

    @pytest.mark.skipif(not os.environ["TOLLGATE_REAL_TOKENIZER"], reason="SKIPPED: no tokenizer of the real model")
    def test_the_gateway_counts_what_the_server_counts(self, ask):
        before = compared()
        for question, streams in [("Tell me about the sea.", True), ("Write a line of Python.", False)]:
            answer = ask(question, model="smol", max_tokens=40, temperature=0, stream=streams, messages=[
                {"role": "system", "content": "You are a brief assistant."}, {"role": "user", "content": question},
            ])
            if streams:
                list(answer)
        deadline = time.monotonic() + 10
        while (after := compared()) == before and time.monotonic() < deadline:
            time.sleep(0.05)
        for kind in ("input", "output"):
            reported, counted = (after[kind, by] - before.get((kind, by), 0) for by in ("reported", "counted"))
            assert reported > 10
            # A word that is cut at the cap may be one token more for either.
            assert abs(reported - counted) <= 2, f"{kind}: {counted} counted, {reported} reported"


def compared():
    """Tokens that server and gateway both counted, by kind and by who did."""
    metrics = urllib.request.urlopen(os.environ["TOLLGATE_ADMIN"] + "/metrics", timeout=10).read().decode()
    found = {}
    for line in metrics.splitlines():
        if line.startswith('tollgate_compared_tokens_total{') and 'model="smol"' in line:
            labels, value = line.rsplit(" ", 1)
            read = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            found[read["kind"], read["by"]] = float(value)
    return found
