"""An address and a key: what can be used, what is sent, and that the key never shows."""

import copy
import pickle
import traceback

import httpx
import pytest

from kvlib.lab.access import endpoint
from kvlib.lab.endpoint_request import ask

KEY = "sk-test-9f8e7d6c5b4a"
CHAT = [{"role": "user", "content": "What is the seat of keen actor?"}]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


# ---------------------------------------------------------------- what is sent


def test_the_request():
    seen = []

    def answer(request):
        seen.append(request)
        return httpx.Response(200)

    to = endpoint(
        "m",
        base_url="https://api.example/v1/",
        key=KEY,
        max_tokens=9,
        limit="max_completion_tokens",
        settings={"seed": 1},
    )
    assert to.base_url == "https://api.example/v1"
    with to.client(1.0, 1) as client:
        client._transport, client._mounts = httpx.MockTransport(answer), {}
        ask(client, to, CHAT, 1.0)
    (request,) = seen
    assert str(request.url) == "https://api.example/v1/chat/completions"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert to.body(CHAT) == {"model": "m", "messages": CHAT, "max_completion_tokens": 9, "seed": 1}


def test_without_a_key_there_is_no_header():
    for to in (endpoint("m", base_url="http://127.0.0.1:1"), endpoint("m", base_url="http://127.0.0.1:1", key="")):
        assert to.key.header() == {}
        assert repr(to.key) == "no key"


def test_address_and_key_from_the_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    to = endpoint("m")
    assert to.base_url == "http://127.0.0.1:8000/v1"
    assert to.key.header() == {"Authorization": f"Bearer {KEY}"}
    assert repr(to.key) == "key from OPENAI_API_KEY"
    monkeypatch.setenv("MY_KEY", "other")
    assert endpoint("m", key_env="MY_KEY").key.header() == {"Authorization": "Bearer other"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_url": ""}, "OPENAI_BASE_URL"),
        ({"base_url": "api.openai.com/v1"}, "must be an address such as"),
        ({"base_url": f"https://me:{KEY}@api.example/v1"}, "no user, key or query"),
        ({"base_url": f"https://api.example/v1?key={KEY}"}, "no user, key or query"),
        ({"base_url": "ftp://api.example"}, "must be an address such as"),
        ({"key": KEY + "\n"}, "its 21 characters are not"),
        ({"key": KEY + "é"}, "printable ASCII"),
        ({"key": f"{KEY} {KEY}"}, "printable ASCII"),
        ({"max_tokens": 0}, "max_tokens must be a whole number, 1 or more; got 0"),
        ({"limit": "max"}, "got 'max'"),
        ({"settings": {"n": 5}}, "settings must leave n to this module"),
        ({"settings": {"max_tokens": 5}}, "settings must leave max_tokens"),
        ({"settings": {"stream": True}}, "settings must leave stream"),
    ],
)
def test_what_cannot_be_used(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        endpoint("m", **{"base_url": "http://127.0.0.1:1/v1", **changes})
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("changes", [{"key": KEY + "\n"}, {"key": KEY, "limit": "max"}, {"key": KEY, "base_url": "x"}])
def test_no_local_variable_of_ours_holds_the_key(changes):
    """A traceback that shows them (as IPython's verbose one does) is safe, whatever went wrong."""
    with pytest.raises(ValueError, match="must be") as caught:
        endpoint("m", **{"base_url": "http://127.0.0.1:1/v1", **changes})
    frames = list(traceback.walk_tb(caught.value.__traceback__))[1:]  # the first is this function
    assert frames and not any(KEY in repr(frame.f_locals) for frame, _ in frames)
    assert caught.value.__context__ is None


# ---------------------------------------------------------------- the key


@pytest.mark.parametrize(
    "show", [repr, str, lambda to: repr(vars(to)), lambda to: repr(to.key), lambda to: f"{to.key}"]
)
def test_the_key_is_not_shown(show):
    assert KEY not in show(endpoint("m", base_url="http://127.0.0.1:1", key=KEY))


@pytest.mark.parametrize("store", [pickle.dumps, copy.deepcopy])
def test_the_key_is_not_stored(store):
    with pytest.raises(TypeError, match="a key is not copied and not stored"):
        store(endpoint("m", base_url="http://127.0.0.1:1", key=KEY))
