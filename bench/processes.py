#!/usr/bin/env python3
"""Programs started cold and thawed, in turns, and the medians as a Markdown table. Programs that are not here are left
out by name. Needs root.

    bench/processes.py [--thaw build/thaw] [--runs 21] [NAME...]

cold     from starting the program until it has answered a first request (a line at its standard input, or PING)
command  the same from starting `thaw process thaw`, which reads the snapshot and builds a template each time
clone    one clone of a template that is there, of 20 from one: until it runs on"""

import argparse
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

PATIENCE_S = 60
JAVA = """
import java.io.*;
import java.util.*;
import java.util.regex.*;
import java.util.stream.*;
public class Serve {
    public static void main(String[] a) throws Exception {
        Map<String, Long> words = IntStream.range(0, 50000).mapToObj(i -> "w" + i % 1000)
            .collect(Collectors.groupingBy(w -> w, TreeMap::new, Collectors.counting()));
        Pattern p = Pattern.compile("w([0-9]+)");
        System.out.println("ready");
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String l; (l = in.readLine()) != null;)
            System.out.println("=" + words.get(l) + p.matcher(l).matches());
    }
}
"""
PYTHON = ("import sys, json, decimal, asyncio, http.server, sqlite3, unittest, email.message, xml.dom.minidom\n"
          "print('ready', flush=True)\nfor line in sys.stdin: print('=', eval(line), flush=True)")
NODE = ("for (const m of ['http', 'https', 'crypto', 'zlib', 'stream', 'fs', 'url', 'tls']) require(m);"
        "require('readline').createInterface({input: process.stdin}).on('line', l => console.log('=', eval(l)));"
        "console.log('ready')")
PORT = 17101

# name: (command, what it prints when it is ready, a request, what the answer holds)
PROGRAMS = {
    "python3, a dozen modules": (["/usr/bin/python3", "-c", PYTHON], "ready", "2+3*4", "= 14"),
    "perl": (["perl", "-MPOSIX", "-MStorable", "-MData::Dumper", "-e",
              '$| = 1; print "ready\\n"; while (<STDIN>) { print "= ", eval($_), "\\n" }'], "ready", "2+3*4", "= 14"),
    "ruby, json, net/http": (["ruby", "-rjson", "-rnet/http", "-rset", "-e",
                              "$stdout.sync = true; puts 'ready'; while l = gets; puts \"= #{eval l}\"; end"],
                             "ready", "2+3*4", "= 14"),
    "node, eight modules": (["node", "-e", NODE], "ready", "2+3*4", "= 14"),
    "java": (["java", "-XX:-UsePerfData", "-cp", "@", "Serve"], "ready", "w7", "=50true"),
    "R": (["R", "--no-save", "-q"], "> $", "cat('=', 2+3*4)", "= 14"),
    "ghci": (["ghci"], "ghci> ", "2+3*4", "14"),
    "swipl": (["swipl", "-q"], None, "X is 2+3*4, write(X).", "14"),
    "emacs --batch": (["emacs", "--batch", "--eval", '(progn (require (quote org)) (message "ready") (while t '
                       '(message "= %s" (eval (read (read-from-minibuffer ""))))))'], "ready", "(+ 2 12)", "= 14"),
    "erl": (["erl"], "1> ", "2+3*4.", "14"),
    "sqlite3, a table of 300,000": (["sqlite3", "-interactive", "-cmd", "create table t(a primary key, b); with recursive "
                                     "n(i) as (select 1 union all select i + 1 from n where i < 300000) insert into t "
                                     "select i, 'row ' || i from n; select 'ready';", ":memory:"], "ready",
                                    "select b from t where a = 4711;", "row 4711"),
    "redis-server, 200,000 keys": (["redis-server", "--port", str(PORT), "--save", "", "--dir", "@", "--dbfilename",
                                    "dump.rdb"], "Ready to accept", None, "row 4711"),
}


class Until:
    """Reads both streams of a program until they hold something."""

    def __init__(self, command, **options):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, **options)
        self.text = ""

    def wait(self, pattern):
        deadline = time.monotonic() + PATIENCE_S
        while not re.search(pattern, self.text, re.MULTILINE):
            got = os.read(self.process.stdout.fileno(), 65536).decode(errors="replace")
            if not got or time.monotonic() > deadline:
                raise RuntimeError(f"it ended before it printed {pattern!r}: {self.text[-500:]}")
            self.text += got

    def send(self, line):
        self.process.stdin.write((line + "\n").encode())
        self.process.stdin.flush()

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def ask_redis(answer):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", PORT)) as s:
                s.sendall(b"GET 4711\r\n")
                if answer in s.recv(100).decode():
                    return
        except OSError:
            pass
        time.sleep(0.0005)
    raise RuntimeError("redis does not answer")


def fill_redis(folder):
    server = Until(["redis-server", "--port", str(PORT), "--save", "", "--dir", str(folder), "--dbfilename", "dump.rdb"])
    server.wait("Ready to accept")
    with socket.create_connection(("127.0.0.1", PORT)) as s:
        s.sendall("".join(f"SET {i} 'row {i}'\r\n" for i in range(200000)).encode() + b"SAVE\r\n")
        wanted, got = 5 * 200001, 0
        while got < wanted:
            got += len(s.recv(1 << 20))
    server.end()


def await_silence():
    """Until the one before has let go of its port: a killed `thaw` is gone a moment before its clone."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", PORT)).close()
            time.sleep(0.01)
        except ConnectionRefusedError:
            return


def first_answer(command, program):
    _, ready, request, answer = program
    if request is None:
        await_silence()
    began = time.perf_counter()
    run = Until(command)
    try:
        if request is None:
            ask_redis(answer)
        else:
            run.send(request)
            run.wait(answer)
        return (time.perf_counter() - began) * 1000
    finally:
        run.end()


def thaw_many(thaw, snapshot):
    """They all wait for input, that does not come."""
    run = subprocess.Popen([thaw, "process", "thaw", "--json", "--count", "20", "--wait", "--network", "private",
                            str(snapshot)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                           text=True)
    line = next(line for line in run.stderr if line.startswith('{"name"'))
    run.kill()
    run.wait()
    run.stdin.close()
    run.stderr.close()
    return [clone["thaw_ms"] for clone in json.loads(line[:line.rindex("]}") + 2])["clones"]]


def measure(name, program, options, folder):
    if name.startswith("redis"):
        fill_redis(folder)
    command = [str(folder) if word == "@" else word for word in program[0]]
    snapshot = folder / re.sub(r"\W.*", "", name)
    when = ["--until-output", program[1]] if program[1] else ["--after", "2s"]
    frozen = subprocess.run([options.thaw, "process", "freeze", "--json", *when, "--out", str(snapshot), "--", *command],
                            stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if frozen.returncode != 0:
        print(f"{name}: {frozen.stderr.strip()}", file=sys.stderr)
        return
    about = json.loads(frozen.stderr.strip().splitlines()[-1])
    cold, thawed = [], []
    for _ in range(options.runs):
        cold.append(first_answer(command, program))
        thawed.append(first_answer([options.thaw, "process", "thaw", "--wait", str(snapshot)], program))
    clones = thaw_many(options.thaw, snapshot)
    c, t = statistics.median(cold), statistics.median(thawed)
    each = statistics.median(clones)
    print(f"| {name} | {about['processes']} / {about['threads']} | {about['page_bytes'] / 1e6:.1f} | {c:.1f} | {t:.1f} | "
          f"{c / t:.1f} | {each:.2f} | {c / each:.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--thaw", default="build/thaw")
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    print("| program | processes / threads | memory, MB | cold, ms | command, ms | ratio | clone, ms | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if shutil.which("javac"):
            (folder / "Serve.java").write_text(JAVA)
            subprocess.run(["javac", "-d", name, str(folder / "Serve.java")], check=True)
        for program, about in PROGRAMS.items():
            if options.names and not any(program.startswith(wanted) for wanted in options.names):
                continue
            if not shutil.which(about[0][0]):
                print(f"{program} is not installed here and left out", file=sys.stderr)
                continue
            measure(program, about, options, folder)


if __name__ == "__main__":
    main()
