"""How the course's Jupyter server talks to the browser: `jupyter lab --config=tools/jupyter_server_config.py`."""

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection


class PromptConnection(ZMQChannelsWebsocketConnection):
    """Sends each message of the kernel at once.

    By default TCP holds a small message back while an earlier one is unacknowledged (Nagle's algorithm, RFC 896), and
    the browser acknowledges up to 40 ms late. A moved slider causes several small messages: half of its answers wait.
    """

    def connect(self):
        """Connect as always, without the wait."""
        self.websocket_handler.set_nodelay(True)
        return super().connect()


c = get_config()  # noqa: F821  # handed in by Jupyter
c.ServerApp.kernel_websocket_connection_class = PromptConnection
