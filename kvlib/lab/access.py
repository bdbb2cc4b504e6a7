"""Where a model is, and with which key: an address, and a secret that is sent and never shown.

Everything that Python shows of an object on its own - a repr, a traceback with its local variables, a pickle, a copy -
is kept free of the key: no variable and no attribute holds it as a string.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn

import httpx

from kvlib.units import whole

_OURS = {"model", "messages", "stream", "n", "best_of", "max_tokens", "max_completion_tokens", "service_tier", "tools"}
_ADDRESS = re.compile(r"https?://([\w.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?(/[\w.~%/-]*)?", re.ASCII)
_PLAIN_KEY = re.compile(r"[!-~]*")  # printable ASCII without spaces: all that a header can carry

Messages = Sequence[Mapping[str, str]]


class Key:
    """A secret that can be sent and cannot be shown, copied or stored."""

    __slots__ = ("_reveal", "origin")

    def __init__(self, reveal: Callable[[], str], origin: str) -> None:
        self._reveal, self.origin = reveal, origin
        if not _PLAIN_KEY.fullmatch(reveal()):
            wanted = "must be printable ASCII without spaces"
            raise ValueError(f"key ({origin}) {wanted}; its {len(reveal())} characters are not")

    def header(self) -> dict[str, str]:
        """What goes over the wire."""
        return {"Authorization": f"Bearer {self._reveal()}"} if self._reveal() else {}

    def scrub(self, text: str) -> str:
        """A text from the server without the key, should it repeat it."""
        return text.replace(self._reveal(), "[key]") if self._reveal() else text

    def __reduce_ex__(self, _: Any) -> NoReturn:
        raise TypeError("a key is not copied and not stored")

    def __repr__(self) -> str:
        return f"key {self.origin}" if self._reveal() else "no key"


@dataclass(frozen=True)
class Endpoint:
    """A model behind an address, and how it is asked. Make one with `endpoint(...)`."""

    model: str
    base_url: str
    key: Key
    max_tokens: int
    limit: str
    settings: Mapping[str, Any] = field(repr=False)

    @property
    def local(self) -> bool:
        """Whether this machine is asked."""
        return httpx.URL(self.base_url).host in ("127.0.0.1", "localhost", "::1")

    def body(self, messages: Messages) -> dict[str, Any]:
        """The JSON of one request."""
        return {"model": self.model, "messages": list(messages), self.limit: self.max_tokens, **self.settings}

    def client(self, timeout: float, connections: int) -> httpx.Client:
        """The connections of one run; `timeout` is in seconds. A local address is never asked through a proxy."""
        return httpx.Client(
            auth=_Bearer(self.key),
            headers={"Accept-Encoding": "identity"},
            timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0)),
            limits=httpx.Limits(max_connections=connections),
            trust_env=not self.local,
            verify=self.base_url.startswith("https"),  # http has no certificates, and loading them takes a while
        )


class _Bearer(httpx.Auth):
    """Puts the key into the header at the last moment."""

    def __init__(self, key: Key) -> None:
        self.key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers.update(self.key.header())
        yield request


def endpoint(
    model: str,
    *,
    base_url: str | None = None,
    key: str | None = None,
    base_url_env: str = "OPENAI_BASE_URL",
    key_env: str = "OPENAI_API_KEY",
    max_tokens: int = 16,
    limit: str = "max_tokens",
    settings: Mapping[str, Any] = MappingProxyType({"temperature": 0}),
) -> Endpoint:
    """An OpenAI-compatible endpoint: a provider's, or vLLM, SGLang, llama.cpp, Ollama on your own machine.

    Args:
        model: the name that the server knows.
        base_url: the address up to and with /v1; by default from the environment variable `base_url_env`.
        key: better left out, so that it stands in no notebook: it comes from the environment variable `key_env`. A
            local server needs none; "" sends none.
        base_url_env: where the address is.
        key_env: where the key is.
        max_tokens: the longest answer, thinking included; a reply is cut there, and the cap counts on it.
        limit: what the server calls this: "max_tokens", or "max_completion_tokens" for OpenAI's reasoning models.
        settings: further fields of the request. Reasoning models want {} here: they refuse a temperature.

    Raises:
        ValueError: an address or key that cannot be used, or a setting that would change what an answer can cost.
    """
    origin = f"from {key_env}" if key is None else "from the argument"
    reveal = _sealed(os.environ.get(key_env, "") if key is None else key)
    del key  # from here on no frame of ours holds it by name
    address = (base_url or os.environ.get(base_url_env, "")).rstrip("/")
    if not _ADDRESS.fullmatch(address):
        wanted = "an address such as https://api.openai.com/v1, with no user, key or query in it"
        raise ValueError(f"base_url (or the environment's {base_url_env}) must be {wanted}")
    if limit not in ("max_tokens", "max_completion_tokens"):
        raise ValueError(f"limit must be max_tokens or max_completion_tokens; got {limit!r}")
    if ours := _OURS & settings.keys():
        raise ValueError(f"settings must leave {', '.join(sorted(ours))} to this module")
    secret = Key(reveal, origin)
    return Endpoint(model, address, secret, whole("max_tokens", max_tokens, 1), limit, dict(settings))


def _sealed(value: str) -> Callable[[], str]:
    """A function that gives the value back: its repr, unlike a string's, says nothing."""
    return lambda: value
