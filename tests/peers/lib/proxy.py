#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""A registry that passes everything on to another one on this machine: a mirror.

    proxy.py PORT UPSTREAM-PORT LOG [lies]

The log has a line for each request, its path. With `lies` every part of a blob that was asked for has another byte in its
middle. Called by tests/peers/on-demand.sh.
"""

import http.client
import http.server
import sys

PORT, UPSTREAM, LOG = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
LIES = "lies" in sys.argv[4:]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        with open(LOG, "a", encoding="ascii") as log:
            print(self.path, file=log)
        upstream = http.client.HTTPConnection("127.0.0.1", UPSTREAM, timeout=60)
        headers = {name: self.headers[name] for name in ("accept", "range", "authorization") if name in self.headers}
        upstream.request(self.command, self.path, headers=headers)
        answer = upstream.getresponse()
        body = bytearray(answer.read())
        if LIES and answer.status == 206 and body:
            body[len(body) // 2] ^= 0x55
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        length = answer.getheader("content-length") if self.command == "HEAD" else len(body)
        self.send_header("Content-Length", str(length or 0))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        upstream.close()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
