"""How much of the stages of one statement runs at the same time: overlap.py HOME BINARY [--delay 0.15] [--runs 3].

Pictures come over HTTP from a server that answers each request after a delay, are decoded, and go through the classifier. Wall
seconds of each stage alone and of the whole statement. Decoding and the model share the cores, so they cannot overlap each
other where both keep every core busy; fetching waits and can. Ideal is the larger of fetching and (decoding + model).
"""
import argparse
import functools
import http.server
import os
import statistics
import subprocess
import threading
import time


class Slow(http.server.SimpleHTTPRequestHandler):
    delay = 0.0
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        time.sleep(self.delay)
        super().do_GET()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("home")
    parser.add_argument("binary")
    parser.add_argument("--delay", type=float, default=0.15)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    Slow.delay = options.delay
    data, models = f"{options.home}/data/image", f"{options.home}/models"
    server = Server(("127.0.0.1", 0), functools.partial(Slow, directory=data))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"file('http://127.0.0.1:{server.server_port}/' || name)"
    local = f"FROM read_files('{data}/*')"
    call = "SELECT count(classify_image({file}, model => '{models}/{kind}/image')) "
    stages = {
        "nothing": "SELECT 1",
        "fetch": f"SELECT sum(length(file_content({url}))) {local}",
        "decode": call.format(file="file", models=models, kind="trivial") + local,
        "decode and model": call.format(file="file", models=models, kind="model") + local,
        "fetch, decode and model": call.format(file=url, models=models, kind="model") + local,
    }
    found = {name: [] for name in stages}
    for _ in range(options.runs):
        for name, statement in stages.items():
            start = time.perf_counter()
            subprocess.run([options.binary, "sql", "-c", statement], check=True, stdout=subprocess.DEVNULL)
            found[name].append(time.perf_counter() - start)
    wall = {name: statistics.median(times) for name, times in found.items()}
    start = wall.pop("nothing")
    print(f"start of the process {start:.2f} s, taken off the others; {len(os.listdir(data))} pictures, {options.delay} s a request")
    for name, seconds in wall.items():
        print(f"  {name:24} {seconds - start:6.2f} s")
    fetch, work, whole = (wall[n] - start for n in ("fetch", "decode and model", "fetch, decode and model"))
    print(f"  whole / slowest stage {whole / max(fetch, work):.2f}, whole / sum of stages {whole / (fetch + work):.2f}", flush=True)


if __name__ == "__main__":
    main()
