"""A person with a shell on the host: types, reads, thinks.  person.py SITE USER PASSWORD SEED [--debug | --errand NAME]"""
import random
import subprocess
import sys
import time

from errands import ERRANDS

site, user, password, seed, *what = sys.argv[1:]
person = random.Random(int(seed))
USUAL = ["ls -la", "cd /srv/www && ls", "cat notes.txt", "tail -n 5 /var/log/nginx/access.log", "ps aux | head -15", "df -h",
         "uptime", "echo 'looked at the logs' >> notes.txt", "grep api notes.txt", "wc -l /var/log/nginx/access.log", "date",
         "cat /srv/api/current/VERSION", "ls -lt /srv/api/releases", "free -m", "id", "history | tail -3", "du -sh /srv/www",
         "vi -c q notes.txt", "sed -n 1,20p /etc/nginx/nginx.conf", "who"]
DEBUG = ["ps aux | grep -v grep | grep fpm", "strace -c -f -p $(pgrep -o -u www-data php-fpm) & sleep 2; kill %1; wait",
         "strace -tt -p $(pgrep -o -f server.js) -o /tmp/trace & sleep 2; kill %1; wait; wc -l /tmp/trace", "ss -tnp | head",
         "curl -s http://127.0.0.1:8000/healthz", "top -b -n 1 | head -12", "ls -l /proc/$(pgrep -o nginx)/fd", "cat /proc/loadavg",
         "PGPASSWORD=shop psql -h 127.0.0.1 -U shop -c 'select count(*) from purchase' shop", "redis-cli info stats | head -5",
         "echo 'select pid, state from pg_stat_activity' | PGPASSWORD=shop psql -h 127.0.0.1 -U shop shop", "rm -f /tmp/trace"]
shell = subprocess.Popen(
    ["sshpass", "-p", password, "ssh", "-tt", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
     "-o", "LogLevel=ERROR", "-b", f"192.0.2.{person.randrange(2, 22)}", f"{user}@{site}"],
    stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
time.sleep(1.0)
match what:
    case ["--debug"]: commands = DEBUG
    case ["--errand", name]: commands = ERRANDS[name]
    case _: commands = person.sample(USUAL, person.randrange(4, 9))
try:
    for command in commands:
        shell.stdin.write(command.encode() + b"\n")
        shell.stdin.flush()
        time.sleep(person.uniform(0.4, 1.6) + (2.2 if "sleep" in command else 0))
    shell.stdin.write(b"exit\n")
    shell.stdin.flush()
    shell.wait(5)
except (OSError, subprocess.TimeoutExpired):
    shell.kill()
