import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from deploy.healthy import main

from tests.programs import free_port


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A server that answers `/health` so, for as long as the block lasts; yields its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()
            self.wfile.write(b"as I feel")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield str(server.server_port)
        finally:
            server.shutdown()
            thread.join()


class TestHealthy:
    def test_200_is_healthy(self, capsys: pytest.CaptureFixture[str]) -> None:
        with answering(200) as port:
            assert main([port, "/health"]) == 0

        assert capsys.readouterr().out == "200 as I feel\n"

    @pytest.mark.parametrize("status", [204, 302, 404, 503])
    def test_everything_else_is_not(self, status: int, capsys: pytest.CaptureFixture[str]) -> None:
        with answering(status) as port:
            assert main([port, "/health"]) == 1

        assert capsys.readouterr().out.startswith(str(status))

    def test_nobody_there_is_not(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([str(free_port()), "/health"]) == 1
        assert "no answer" in capsys.readouterr().out

    def test_proxy_of_the_machine_is_not_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Docker can put one into every container."""
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")

        with answering(200) as port:
            assert main([port, "/health"]) == 0
