"""The shop's API: products and orders in PostgreSQL, a queue in Redis."""
import json
import os
import socket
import subprocess

import psycopg2
from flask import Flask, jsonify, render_template_string, request

app = Flask(__name__)
VERSION = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "VERSION")).read().strip()
connection = None


def query(text, *values):
    global connection
    if connection is None or connection.closed:
        connection = psycopg2.connect(host="127.0.0.1", dbname="shop", user="shop", password="shop")
        connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(text, values)
        return cursor.fetchall() if cursor.description else []


def plain(text):
    """A query as it stands, `%` and all."""
    query("select 1")
    with connection.cursor() as cursor:
        cursor.execute(text)
        return cursor.fetchall() if cursor.description else []


def redis(*words):
    with socket.create_connection(("127.0.0.1", 6379), 1) as stream:
        stream.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        return stream.recv(4096)


@app.get("/healthz")
def healthz():
    return jsonify(version=VERSION, database=query("select 1")[0][0])


@app.get("/product/<int:number>")
def product(number):
    rows = query("select name, price from product where id = %s", number)
    return jsonify(id=number, name=rows[0][0], price=rows[0][1]) if rows else ("{}", 404)


@app.get("/search")
def search():
    # Put together by hand: an injection as in the textbook.
    text = "select id, name from product where name like '%" + request.args.get("q", "") + "%' limit 20"
    return jsonify(plain(text))


@app.post("/order")
def order():
    wanted = request.get_json(force=True)
    number = query("insert into purchase (product, amount) values (%s, %s) returning id",
                   int(wanted["product"]), int(wanted["amount"]))[0][0]
    redis(b"LPUSH", b"orders", json.dumps({"order": number, **wanted}).encode())
    return jsonify(order=number)


@app.get("/supplier")
def supplier():
    # The host's name goes through a shell: a command injection.
    host = request.args.get("host", "localhost")
    return subprocess.run("getent hosts " + host, shell=True, capture_output=True, timeout=20).stdout


@app.post("/preview")
def preview():
    # Customers' templates are rendered as they are: code execution inside this process.
    return render_template_string(request.get_data(as_text=True))
