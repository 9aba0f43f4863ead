"""Clients of the gateway under test."""

import os

import openai
import pytest

URL = os.environ["TOLLGATE_URL"] + "/v1"
KEY = os.environ["TOLLGATE_KEY"]


@pytest.fixture
def client():
    """No retries: a test sees the first answer."""
    with openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def ask(client):
    """A chat completion of one user message."""

    def ask(content, **more):
        messages = [{"role": "user", "content": content}]
        return client.chat.completions.create(**{"model": "fake-chat", "messages": messages} | more)

    return ask
