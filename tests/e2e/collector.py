"""An OpenTelemetry collector, as far as the exporter can tell; what came is read by OpenTelemetry's own decoder."""
import base64
import http.server
import json
import pathlib
import shutil
import subprocess
import threading

HERE = pathlib.Path(__file__).resolve().parent / "otlp"


class Collector:
    def __init__(self, port=0):
        self.bodies, self.faults = [], []
        self.decoded, self.decoded_count = [], 0       # spans of the first bodies, which are read once
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path != "/v1/traces" or self.headers["Content-Type"] != "application/x-protobuf":
                    outer.faults.append((self.path, dict(self.headers)))
                outer.bodies.append(body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def spans(self, folder):
        """Every span that came. folder: where the decoder is, or is to be installed."""
        node = folder.parent / "app" / "node"
        if not (folder / "node_modules" / ".package-lock.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            for name in ("package.json", "package-lock.json", ".npmrc"):
                shutil.copy(HERE / name, folder)
            subprocess.run(["npm", "ci", "--no-progress", "--loglevel=error"], cwd=folder, check=True)
        bodies = self.bodies[self.decoded_count:]
        if bodies:
            done = subprocess.run([str(node), str(HERE / "decode.mjs"), str(folder)], text=True, capture_output=True,
                                  input="".join(base64.b64encode(body).decode() + "\n" for body in bodies))
            assert done.returncode == 0, done.stderr
            self.decoded += [json.loads(line) for line in done.stdout.splitlines()]
            self.decoded_count += len(bodies)
        return self.decoded
