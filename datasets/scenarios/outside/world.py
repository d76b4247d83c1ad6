"""Everything that a recorded host talks to and that is not an enemy: customers, monitoring, providers.

Runs in the network namespace outside the host, is not recorded. Seeded. Commands on standard input:
    day BOOT_NS SECONDS     a day begins: load follows it
    rate FACTOR             so many times the usual load, until the next
    monitor on|off          a new monitoring service
    stop
"""
import argparse
import asyncio
import json
import math
import random
import ssl
import sys
import time

UPSTREAMS = {  # address: (port, answer)
    "203.0.113.10": 443, "203.0.113.40": 443, "203.0.113.30": 80, "203.0.113.60": 80,
}


def relay(body):
    """Keeps what came and answers with the next line that the attacker left."""
    with open("c2.out", "ab") as file:
        file.write(body)
    try:
        with open("c2.in", "rb") as file:
            first, *rest = file.read().splitlines(keepends=True) or [b""]
        with open("c2.in", "wb") as file:
            file.writelines(rest)
    except OSError:
        first = b""
    return first.strip()


# A visitor's requests on average.
REQUESTS = 3.3


class World:
    def __init__(self, site, seed, base):
        self.site, self.base, self.random = site, base, random.Random(seed)
        self.factor, self.day, self.seconds, self.monitor = 1.0, None, 180.0, False
        self.served = self.failed = 0
        self.tls = ssl.create_default_context()
        self.tls.check_hostname, self.tls.verify_mode = False, ssl.CERT_NONE

    def rate(self):
        """Requests a second: quiet at night, two humps by day."""
        if self.day is None:
            return 0.0
        hour = (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self.day) / 1e9 / self.seconds * 24 % 24
        hump = lambda at, width: math.exp(-((hour - at) / width) ** 2)
        return self.base * self.factor * (0.12 + 0.75 * hump(11, 3.0) + 1.0 * hump(19, 2.5))

    async def connect(self, source, port):
        return await asyncio.wait_for(asyncio.open_connection(
            self.site, port, local_addr=(source, 0), ssl=self.tls if port == 443 else None), 5)

    async def exchange(self, stream, method, path, body=b"", kind="application/json"):
        """One request and its whole answer, on a connection that stays open."""
        reader, writer = stream
        head = f"{method} {path} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: Mozilla/5.0\r\n"
        head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).lower()
        if b"transfer-encoding: chunked" in answer:
            while await asyncio.wait_for(reader.readuntil(b"\r\n"), 10) != b"0\r\n":
                pass
            await reader.readuntil(b"\r\n")
        else:
            length = next((int(line.split(b":")[1]) for line in answer.split(b"\r\n") if line.startswith(b"content-length")), 0)
            await asyncio.wait_for(reader.readexactly(length), 10)
        good = answer.startswith(b"http/1.1 2")
        self.served += good
        self.failed += not good

    async def session(self, source, port, requests, thinking):
        """Requests of one visitor on one connection."""
        try:
            stream = await self.connect(source, port)
            for number, request in enumerate(requests):
                if number:
                    await asyncio.sleep(thinking())
                await self.exchange(stream, *request)
            stream[1].close()
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            self.failed += 1

    def visit(self):
        """A visitor: one to seven requests, a little time between them."""
        r = self.random
        requests = [self.one() for _ in range(r.choices(range(1, 8), [30, 15, 15, 15, 10, 8, 7])[0])]
        port = 443 if r.random() < 0.12 else 80
        return self.session(f"192.0.2.{r.randrange(2, 22)}", port, requests, lambda: r.uniform(0.05, 1.0))

    def one(self):
        r = self.random
        kind = r.choices(["page", "static", "product", "search", "order", "quote", "supplier", "preview", "upload", "missing"],
                         [34, 30, 12, 6, 7, 4, 1.2, 1.5, 1.2, 1])[0]
        get = lambda path: ("GET", path)
        match kind:
            case "page": return get(f"/?p={int(r.paretovariate(0.6)) % 2000}&theme={r.choice(['plain', 'dark'])}")
            case "static": return get(f"/static/page-{r.randrange(1, 41)}.txt")
            case "product": return get(f"/api/product/{r.randrange(1, 2000)}")
            case "search": return get(f"/api/search?q={r.randrange(100)}")
            case "quote": return get(f"/orders/quote?formula={r.randrange(1, 99)}*{r.randrange(1, 99)}")
            case "supplier": return get(f"/api/supplier?host=supplier-{r.choice('ab')}.example")
            case "missing": return get(f"/wp-login-{r.randrange(9)}.php")
            case "order":
                body = json.dumps({"product": r.randrange(1, 2000), "amount": r.randrange(1, 5)}).encode()
                return "POST", "/api/order", body
            case "preview":
                return "POST", "/api/preview", b"Dear {{ 'customer' }}, your order is ready."
            case "upload":
                mark = "----picture"
                body = (f'--{mark}\r\nContent-Disposition: form-data; name="picture"; filename="p{r.randrange(60)}.jpg"\r\n'
                        f"Content-Type: image/jpeg\r\n\r\n").encode() + r.randbytes(r.randrange(2000, 20000)) + f"\r\n--{mark}--\r\n".encode()
                return "POST", "/upload.php", body, f"multipart/form-data; boundary={mark}"

    async def customers(self):
        pending = set()
        while True:
            rate = self.rate()
            wait = self.random.expovariate(rate / REQUESTS) if rate > 0.01 else 1.0
            # Waiting has no memory, so a long wait may be drawn anew when the rate has changed.
            await asyncio.sleep(min(wait, 0.5))
            if wait <= 0.5 and len(pending) < 60:
                task = asyncio.create_task(self.visit())
                pending.add(task)
                task.add_done_callback(pending.discard)

    async def health(self):
        while True:
            await asyncio.sleep(2.0)
            if self.day is not None:
                await self.session("192.0.2.200", 80, [("GET", "/api/healthz")], float)
            if self.monitor:
                paths = ("/", "/orders/status", "/api/healthz", "/static/page-1.txt")
                await self.session("192.0.2.201", 80, [("GET", path) for path in paths], lambda: 0.02)

    async def upstream(self, reader, writer):
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0)
            body = await asyncio.wait_for(reader.readexactly(length), 20) if length else b""
            if head.startswith(b"POST /c2"):
                # A provider in the hands of the attacker: see attacker/test.py.
                answer = relay(body)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(answer) + answer)
                await writer.drain()
                writer.close()
                return
            await asyncio.sleep(self.random.uniform(0.01, 0.08))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\nConnection: close\r\n\r\n{\"paid\": true}")
            await writer.drain()
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        writer.close()

    async def mail(self, reader, writer):
        writer.write(b"220 mail\r\n")
        in_text = False
        while line := await reader.readline():
            word = line.strip().upper()
            if in_text and word != b".":
                continue
            in_text = word == b"DATA"
            writer.write({b"DATA": b"354 go\r\n", b"QUIT": b"221 bye\r\n"}.get(word, b"250 ok\r\n"))
            if word == b"QUIT":
                break
        writer.close()

    async def commands(self):
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while line := (await lines.readline()).decode().split():
            match line:
                case ["day", boot, seconds]:
                    self.day, self.seconds, self.served, self.failed = int(boot), float(seconds), 0, 0
                case ["seed", seed]: self.random.seed(int(seed))
                case ["rate", factor]: self.factor = float(factor)
                case ["monitor", word]: self.monitor = word == "on"
                case ["stop"]: break
            print(json.dumps({"served": self.served, "failed": self.failed}), flush=True)

    async def run(self):
        for address, port in UPSTREAMS.items():
            await asyncio.start_server(self.upstream, address, port)
        await asyncio.start_server(self.mail, "203.0.113.50", 25)
        self.tasks = [asyncio.create_task(self.customers()), asyncio.create_task(self.health())]
        await self.commands()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--site", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--base", type=float, default=14.0)
    options = parser.parse_args()
    asyncio.run(World(options.site, options.seed, options.base).run())
