"""The operator's own vulnerability scanner, on a day that was agreed on: asks for many things, breaks nothing.  scanner.py SITE SEED"""
import random
import socket
import ssl
import sys
import time
import urllib.parse

site, seed = sys.argv[1:]
chance = random.Random(int(seed))
WORDS = [".git/config", ".env", "phpmyadmin/", "server-status", "admin/", "backup.zip", "wp-login.php", "index.php.bak", "api/.env", "orders/../.env",
         "uploads/", "static/", "robots.txt", "info.php", "cgi-bin/test", "api/healthz", "orders/status", "upload.php", "console", "actuator/env"]
PROBES = ["/api/search?q=" + urllib.parse.quote(text) for text in ("'", "%' and '1'='2", "\" or 1", "<script>alert(1)</script>", "{{7*7}}")]
PROBES += ["/?p=" + urllib.parse.quote(text) for text in ("-1", "1e9", "' or 1", "<b>")] + ["/?theme=missing", "/orders/quote?formula=1%2B1", "/api/product/999999"]


def ask(method, path, port=80):
    try:
        with socket.create_connection((site, port), 4, ("192.0.2.201", 0)) as stream:
            if port == 443:
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                stream = context.wrap_socket(stream)
            stream.settimeout(4)
            stream.sendall(f"{method} {path} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\nUser-Agent: scanner/1.0\r\n\r\n".encode())
            while stream.recv(65536):
                pass
    except OSError:
        pass


for port in [22, 25, 3306, 5432, 6379, 8000, 8080]:
    try:
        with socket.create_connection((site, port), 1, ("192.0.2.201", 0)) as stream:
            stream.settimeout(0.3)
            stream.recv(100)
    except OSError:
        pass
for number in range(230):
    path = chance.choice(PROBES) if number % 3 == 0 else "/" + chance.choice(WORDS) + chance.choice(["", "~", ".old", "?debug=1"])
    ask(chance.choice(["GET", "GET", "GET", "HEAD", "OPTIONS", "TRACE"]), path, 443 if number % 10 == 0 else 80)
    time.sleep(0.03)
