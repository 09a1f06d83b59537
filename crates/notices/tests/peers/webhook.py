"""A receiver of webhooks that verifies them with the standard's own library, and misbehaves where its
path says so. Says in a line of JSON what it got; ends when its input does.

    webhook.py SECRET [CERT KEY]
"""

import http.server
import json
import ssl
import sys
import threading
import time

from standardwebhooks import Webhook, WebhookVerificationError

secret, *identity = sys.argv[1:]
lock = threading.Lock()


def say(thing):
    with lock:
        print(json.dumps(thing), flush=True)


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        say({"path": self.path, "method": "GET"})
        self.answer(200)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            Webhook(secret).verify(body, headers)
            verified = True
        except WebhookVerificationError as error:
            verified = str(error)
        say(
            {
                "path": self.path,
                "method": "POST",
                "verified": verified,
                "headers": headers,
                "body": body.decode(),
            }
        )
        path = self.path.split("?")[0].strip("/")
        if path.startswith("redirect"):
            status = int(path.removeprefix("redirect"))
            self.answer(status, [("location", f"http://127.0.0.1:{port}/secret")])
        elif path == "slow":
            time.sleep(30)
        elif path == "drip":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for number in range(60):
                self.wfile.write(b"x-%d: y\r\n" % number)
                self.wfile.flush()
                time.sleep(0.5)
        elif path == "giant":
            self.send_response(500)
            self.end_headers()
            sent = 0
            try:
                while sent < 1 << 30:
                    self.wfile.write(b"giant \r\n\x1b[2J" * 8192)
                    sent += 12 * 8192
            except OSError:
                pass
            say({"sent": sent})
            self.close_connection = True
        elif path == "giant-head":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            try:
                for number in range(100_000):
                    self.wfile.write(b"x-%d: %s\r\n" % (number, b"y" * 100))
            except OSError:
                pass
            self.close_connection = True
        elif path == "nonsense":
            self.wfile.write(b"220 mail.example ESMTP\r\n")
            self.close_connection = True
        elif path == "busy":
            self.answer(429, [("retry-after", "120")], b'{"error": "too\r\nmany"}')
        elif path.isdigit():
            self.answer(int(path))
        else:
            self.answer(204)

    def answer(self, status, headers=(), body=b""):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


server = Server(("127.0.0.1", 0), Receiver)
port = server.server_address[1]
if identity:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*identity)
    server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
say({"port": port})
sys.stdin.read()
