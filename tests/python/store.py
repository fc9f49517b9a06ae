"""A local S3 server with the bucket `mill`."""

import os
import subprocess
import threading
import urllib.request
from pathlib import Path

#: The server wants an access key, and does not check the signature.
WHO = "AWS4-HMAC-SHA256 Credential=miller/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


class Store:
    def __init__(self, python):
        server = [str(Path(python).parent / "moto_server"), "-H", "127.0.0.1", "-p", "0"]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.server = subprocess.Popen(
            server, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
        )
        line = next(line for line in self.server.stderr if "Running on http://" in line)
        self.address = "http://" + line.split("Running on http://")[1].strip()
        self.lines = 0
        threading.Thread(target=self.listen, daemon=True).start()
        self.ask("PUT", "")

    def listen(self):
        """Each line of its log is a request."""
        for _ in self.server.stderr:
            self.lines += 1

    def requests(self):
        return self.lines

    def environment(self):
        """What points a command to it."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "miller",
            "AWS_SECRET_ACCESS_KEY": "grist",
            "NO_PROXY": "127.0.0.1",
        }

    def ask(self, method, key, body=None):
        # Without a type it would be taken for a form.
        headers = {"Authorization": WHO, "Content-Type": "application/octet-stream"}
        request = urllib.request.Request(f"{self.address}/mill{key}", body, headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request) as answer:
            return answer.read()

    def put(self, key, content):
        self.ask("PUT", f"/{key}", content)

    def get(self, key):
        return self.ask("GET", f"/{key}")

    def keys(self, prefix):
        listed = self.ask("GET", f"?list-type=2&prefix={prefix}").decode()
        return [part.split("</Key>")[0] for part in listed.split("<Key>")[1:]]

    def stop(self):
        self.server.kill()
        self.server.wait()
        self.server.stderr.close()
