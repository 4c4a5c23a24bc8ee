import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from stemlab.data.io import download
from stemlab.data.io.download import PublishedFile, UnreachableError, fetch
from stemlab.errors import StemlabError

CONTENT = bytes(range(256)) * 4000
ADVICE = "put it there by hand"


class Handler(BaseHTTPRequestHandler):
    """Serves /whole.zip and /cut.zip (half of the announced length); 404 otherwise."""

    def do_GET(self):
        self.server.requested.append(self.path)
        if self.path not in ("/whole.zip", "/cut.zip"):
            self.send_error(404, "Not Found")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if self.path == "/whole.zip" else CONTENT[: len(CONTENT) // 2])

    def log_message(self, *words):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.requested = []
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def published(server, name, content=CONTENT):
    url = f"http://127.0.0.1:{server.server_port}/{name}"
    return PublishedFile(url=url, md5=hashlib.md5(content).hexdigest(), notice="research use only")


def test_file_is_downloaded_once_and_its_terms_are_logged(server, tmp_path, caplog):
    file = published(server, "whole.zip")
    path = fetch(file, tmp_path / "deep" / "raw", ADVICE)
    assert path == tmp_path / "deep" / "raw" / "whole.zip"
    assert path.read_bytes() == CONTENT
    assert [r.message for r in caplog.records] == [f"fetching {file.url} to {path}: research use only"]
    assert fetch(file, path.parent, ADVICE) == path
    assert server.requested == ["/whole.zip"]
    assert list(path.parent.iterdir()) == [path]


def test_file_url(tmp_path):
    (tmp_path / "mirror.zip").write_bytes(CONTENT)
    url = (tmp_path / "mirror.zip").as_uri()
    path = fetch(PublishedFile(url=url, md5=hashlib.md5(CONTENT).hexdigest(), notice=""), tmp_path / "raw", ADVICE)
    assert path.read_bytes() == CONTENT


def test_wrong_checksum_leaves_no_file(server, tmp_path):
    file = published(server, "whole.zip", b"what was published")
    message = (
        rf"whole\.zip has the MD5 checksum {hashlib.md5(CONTENT).hexdigest()} instead of {file.md5}: .*{ADVICE}\.$"
    )
    with pytest.raises(StemlabError, match=message) as error:
        fetch(file, tmp_path, ADVICE)
    assert not isinstance(error.value, UnreachableError)  # no reason to fall back to a sample
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "reason"), [("cut.zip", "the connection ended after|IncompleteRead"), ("none.zip", r"\(Not Found\)")]
)
def test_missing_or_truncated_file_raises(server, tmp_path, name, reason):
    with pytest.raises(UnreachableError, match=reason) as error:
        fetch(published(server, name), tmp_path, ADVICE)
    assert str(error.value).endswith(f"{ADVICE}.")
    assert list(tmp_path.iterdir()) == []


def test_refused_connection_raises(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as reserved:  # bound, so that no other process takes the port, but not listening
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}/x.zip"
        with pytest.raises(UnreachableError, match=rf"{url} cannot be fetched \(Connection refused\): {ADVICE}\.$"):
            fetch(PublishedFile(url=url, md5="", notice=""), tmp_path, ADVICE)


def test_no_response_raises_after_the_timeout(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "RESPONSE_SECONDS", 0.2)
    never = threading.Event()
    monkeypatch.setattr(download, "urlopen", lambda *words, **more: never.wait())
    with pytest.raises(UnreachableError, match=r"no response within 0\.2 seconds"):
        fetch(PublishedFile(url="http://example.invalid/x.zip", md5="", notice=""), tmp_path, ADVICE)
    never.set()


def test_unwritable_folder_raises(server, tmp_path):
    (tmp_path / "raw").write_text("a file")
    with pytest.raises(StemlabError, match=rf"raw.whole\.zip cannot be written \(.*\); {ADVICE}\.$"):
        fetch(published(server, "whole.zip"), tmp_path / "raw", ADVICE)
