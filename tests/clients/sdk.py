"""The official Python SDK against the daemon: what an application does with it.

python sdk.py BASE_URL KIND. Prints a line for each check; exits non-zero at the first that fails.
Run by tests/sdk.rs.
"""

import os
import sys
import traceback

import anthropic

BASE_URL, KIND = sys.argv[1:3]
MODEL = "claude-opus-4-8"
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
# What comes back must be the daemon's doing: the SDK itself tries nothing again.
client = anthropic.Anthropic(base_url=BASE_URL, api_key=os.environ["CLIENT_KEY"], max_retries=0, timeout=30)


def ask(text, **more):
    return {"model": MODEL, "max_tokens": 1024, "messages": [{"role": "user", "content": text}], **more}


def a_whole_answer():
    answer = client.messages.create(**ask("say plain and simple"))
    assert answer.stop_reason == "end_turn", answer
    assert [block.text for block in answer.content] == ["plain and simple"], answer
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0, answer.usage
    assert answer._request_id, "request-id on every answer"


def a_stream_put_together():
    text = "one two three four five six seven eight nine ten"
    with client.messages.stream(**ask(f"say {text}")) as stream:
        pieces = list(stream.text_stream)
        message = stream.get_final_message()
    assert "".join(pieces) == text and len(pieces) > 1, pieces
    assert message.stop_reason == "end_turn" and message.usage.output_tokens > 0, message


def tools_there_and_back():
    messages = [{"role": "user", "content": 'call get_weather {"city":"Tromsø"}\nsay it is {{result}}'}]
    with client.messages.stream(model=MODEL, max_tokens=1024, tools=[WEATHER], messages=messages) as stream:
        first = stream.get_final_message()
    assert first.stop_reason == "tool_use", first
    call = next(block for block in first.content if block.type == "tool_use")
    assert call.input == {"city": "Tromsø"}, call
    messages.append({"role": "assistant", "content": first.content})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "cold"}
    messages.append({"role": "user", "content": [result]})
    second = client.messages.create(model=MODEL, max_tokens=1024, tools=[WEATHER], messages=messages)
    assert second.content[-1].text == "it is cold", second


def tokens_are_counted():
    short = client.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "short"}])
    long = client.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "long " * 500}])
    assert 0 < short.input_tokens < long.input_tokens, (short, long)


def models_are_listed():
    ids = [model.id for model in client.models.list(limit=1000)]
    assert any("simulator" in name for name in ids), ids
    assert client.models.retrieve(ids[0]).id == ids[0]


def errors_have_their_classes():
    for text, kind, words in [
        ("fail with 429", anthropic.RateLimitError, ""),
        ("fail as too long", anthropic.BadRequestError, "prompt is too long"),
    ]:
        try:
            client.messages.create(**ask(text))
        except kind as error:
            assert words in str(error), error
            assert error.request_id, "an error has its request-id"
        else:
            raise AssertionError(f"no error for: {text}")


def a_cut_stream_does_not_look_whole():
    try:
        with client.messages.stream(**ask("cut this answer short")) as stream:
            message = stream.get_final_message()
    except (anthropic.AnthropicError, AssertionError) as error:
        return error
    raise AssertionError(f"it looks whole: {message}")


def a_caller_that_leaves():
    # Last: the test in Rust looks at what it leaves behind.
    with client.messages.stream(**ask("go slowly")) as stream:
        for _ in stream.text_stream:
            break


for check in [
    a_whole_answer,
    a_stream_put_together,
    tools_there_and_back,
    tokens_are_counted,
    models_are_listed,
    errors_have_their_classes,
    a_cut_stream_does_not_look_whole,
    a_caller_that_leaves,
]:
    try:
        check()
        print(f"ok: {check.__name__}")
    except BaseException:
        print(f"FAILED: {check.__name__} ({KIND})")
        traceback.print_exc(file=sys.stdout)
        sys.exit(1)
print("all well")
