"""A program for the suite: says "ready", then "got N" for every signal that it catches.

app.py [flush SECONDS] [code N] [catch N,N…|all] [ignore N,N…] [setsid] [child …]

The last signal before its end is TERM, INT or QUIT: it goes on for SECONDS, says "flushed" and exits with N.
`setsid` begins a session of its own first; `child` starts another one of these with the words that follow, in the background.
"""
import os, signal, sys, time

words = sys.argv[1:]
flush, code, caught, ignored, child = 0.0, 0, [15], [], None
while words:
    word = words.pop(0)
    if word == "flush": flush = float(words.pop(0))
    elif word == "code": code = int(words.pop(0))
    elif word == "catch":
        which = words.pop(0)
        never = (9, 17, 19, 20, 21, 22, 32, 33)
        caught = [n for n in range(1, 65) if n not in never] if which == "all" else [int(n) for n in which.split(",")]
    elif word == "ignore": ignored = [int(n) for n in words.pop(0).split(",")]
    elif word == "setsid":
        if os.fork(): os._exit(0)
        os.setsid()
    elif word == "child": child, words = words, []

def say(text):
    os.write(1, (text + "\n").encode())

if child is not None and os.fork() == 0:
    os.execv(sys.executable, [sys.executable, __file__] + child)
signal.pthread_sigmask(signal.SIG_BLOCK, caught)
for n in caught: signal.signal(n, lambda *_: None)
for n in ignored: signal.signal(n, signal.SIG_IGN)
say("ready")
while True:
    n = signal.sigwait(caught)
    say("got %d" % n)
    if n in (2, 3, 15) and len(caught) < 30:
        time.sleep(flush)
        say("flushed")
        os._exit(code)
