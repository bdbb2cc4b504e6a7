"""tools/jupyter_server_config.py: the server takes it, and messages are sent without delay."""

from pathlib import Path

from jupyter_server.serverapp import ServerApp
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from traitlets.config import PyFileConfigLoader

FILE = Path(__file__).resolve().parents[1] / "tools/jupyter_server_config.py"


def connection_class():
    config = PyFileConfigLoader(FILE.name, path=str(FILE.parent)).load_config()
    return ServerApp(config=config).kernel_websocket_connection_class


def test_the_server_uses_the_prompt_connection(monkeypatch):
    calls = []
    monkeypatch.setattr(ZMQChannelsWebsocketConnection, "connect", lambda self: calls.append("connected"))

    class Handler:
        def set_nodelay(self, value):
            calls.append(value)

    found = connection_class()
    assert issubclass(found, ZMQChannelsWebsocketConnection)
    connection = found.__new__(found)
    connection._trait_values = {"websocket_handler": Handler()}
    connection.connect()
    assert calls == [True, "connected"]
