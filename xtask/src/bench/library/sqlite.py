"""How many rows SQLite gets onto the disk: sqlite.py FILE SECONDS WRITERS

So many threads, each of which waits until its row is committed, with synchronous=FULL on a write-ahead log. They share one
connection: with one for each they would mostly wait for each other's lock. Prints rows per second.
"""
import sqlite3
import sys
import threading
import time

path, seconds, writers = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("PRAGMA synchronous=FULL")
connection.execute("CREATE TABLE orders (text BLOB)")
lock = threading.Lock()
record = b"x" * 100
rows = [0] * writers
began = time.monotonic()


def write(number):
    while time.monotonic() - began < seconds:
        with lock:
            connection.execute("INSERT INTO orders VALUES (?)", (record,))
        rows[number] += 1


threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sum(rows) / (time.monotonic() - began))
