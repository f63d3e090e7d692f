"""Runs the engines on the workloads, interleaved, and prints what each cost.

measure.py HOME BINARY [--workloads image,document] [--models model,trivial] [--engines squilla,daft,loop] [--runs 3] [--json FILE]
measure.py HOME BINARY --flat 1000,20000 [--workloads image]
CPU seconds are exact: of every process of the job, its children included. Peak memory is the sum of resident pages over the
process tree, sampled ten times a second. The limit is squilla with the trivial model (decoding and everything around the
model) plus the model alone on prepared inputs with one thread.
"""
import argparse
import ctypes
import glob
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time

import sql

HERE = os.path.dirname(os.path.abspath(__file__))


def tree(root):
    children, out, todo = {}, [], [root]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = open(f"/proc/{pid}/stat").read()
        except OSError:
            continue
        children.setdefault(int(stat[stat.rindex(")") + 2:].split()[1]), []).append(int(pid))
    while todo:
        found = children.get(todo.pop(), [])
        out += found
        todo += found
    return out


def resident(pids):
    total = 0
    for pid in pids:
        try:
            total += int(open(f"/proc/{pid}/statm").read().split()[1]) * 4096
        except (OSError, IndexError):
            pass
    return total


def used():
    u = resource.getrusage(resource.RUSAGE_CHILDREN)
    return u.ru_utime + u.ru_stime


def run(command, environment, timeout=900, tries=3):
    """CPU seconds, wall seconds, peak bytes of a command with all that it starts."""
    before, start, peak = used(), time.time(), 0
    log = open("/tmp/squilla-bench.log" if os.path.isdir("/tmp") else os.devnull, "wb")
    process = subprocess.Popen(command, env=dict(os.environ, **environment), stdout=log, stderr=log)
    while process.poll() is None:
        peak = max(peak, resident(tree(os.getpid())))
        if time.time() - start > timeout:
            process.kill()
        time.sleep(0.1)
    wall = time.time() - start
    for _ in range(100):
        left = tree(os.getpid())
        if not left:
            break
        for pid in left:
            try:
                os.kill(pid, 15)
                os.waitpid(pid, os.WNOHANG)
            except (OSError, ChildProcessError):
                pass
        time.sleep(0.02)
    if process.returncode != 0:
        message = f"{' '.join(command)[:300]}\nended with {process.returncode}: {open(log.name, errors='replace').read()[-2000:]}"
        # An interpreter that dies while it ends, as Daft's does now and then, is run again.
        if tries > 1 and "finalizing" in message:
            return run(command, environment, timeout, tries - 1)
        sys.exit(message)
    return used() - before, wall, peak


def job(engine, workload, models, home, binary):
    data, out = f"{home}/data/{workload}", f"{home}/out/{engine}-{models}-{workload}"
    shutil.rmtree(out, ignore_errors=True)
    folder = f"{home}/models/{models}"
    if engine.startswith("squilla"):
        os.makedirs(out)
        return [binary, "sql", "-c", sql.statement(workload, data, folder, out)], {}, out
    return [sys.executable, f"{HERE}/peers.py", engine, workload, data, out], {"BENCH_MODELS": folder, "PYTHONPATH": HERE, "DAFT_ANALYTICS_ENABLED": "0", "DO_NOT_TRACK": "1", "DAFT_PROGRESS_BAR": "0"}, out


def answer(out):
    import pyarrow.parquet
    tables = [pyarrow.parquet.ParquetFile(f).read().to_pylist() for f in sorted(glob.glob(f"{out}/**/*.parquet", recursive=True)) if os.path.getsize(f)]
    return [row for table in tables for row in table]


def key(row):
    return os.path.basename(row.get("uri") or row["url"])


def compare(workload, ours, loop, models):
    """How far the answers agree, in words."""
    import numpy as np
    os.environ["BENCH_MODELS"] = models
    import work
    # Sessions of other models with the same name are not those to compare with.
    work.MODELS = models
    work._made.clear()
    if workload in ("image", "audio"):
        name = "label" if workload == "image" else "text"
        theirs = {key(r): r[name] for r in loop}
        same = sum(theirs.get(key(r)) == r[name] for r in ours)
        return f"{same} of {len(ours)} {name}s equal"
    if workload == "document":
        sample = [r for r in ours if r["embedding"] is not None][:: max(1, len(ours) // 40)]
        again = work.embed([r["text"] for r in sample])
        cosine = min(float(np.dot(a, np.array(r["embedding"], np.float32))) for a, r in zip(again, sample))
        letters = sum(len(r["text"]) for r in ours) / max(1, sum(len(r["text"]) for r in loop))
        return f"cosine of {len(sample)} vectors >= {cosine:.5f}; {len(ours)} chunks against {len(loop)}, {letters:.2f} of the letters"
    theirs = {}
    for r in loop:
        theirs.setdefault((key(r), r["frame_no"]), []).append(r)
    # Near the threshold the rounding of colours decides whether there is a box.
    sure = [r for r in ours if r["score"] > work.LEAST + 0.1]
    good = 0
    for r in sure:
        box = [r["x1"], r["y1"], r["x2"], r["y2"]]
        good += any(t["label"] == r["label"] and work.overlap(box, t["box"]) >= 0.95 for t in theirs.get((key(r), r["frame_no"]), []))
    return f"{good} of {len(sure)} sure boxes with an overlap >= 0.95 and the same label; {len(ours)} boxes against {len(loop)}"


def inference(workload, home, binary, out):
    """CPU seconds of the model alone: prepared inputs, one thread, batches of a few sizes; the best."""
    code = f"""
import glob, os, sys, time
import numpy as np, work
paths = sorted(glob.glob({home + '/data/' + workload + '/*'!r}))
read = lambda p: open(p, 'rb').read()
if {workload!r} == 'image':
    x = np.stack([work.picture(work.decode_rgb(read(p))) for p in paths]); f = work.logits; sizes = (1, 8, 32)
elif {workload!r} == 'audio':
    x = np.stack([work.spectrogram(work.samples(read(p))) for p in paths]); f = work.transcribe; sizes = (1, 4, 16)
elif {workload!r} == 'video':
    x = [f for p in paths for _, f in work.frames(p)]; f = work.detect; sizes = (1,)
else:
    import pyarrow.parquet as pq
    x = sorted(pq.ParquetFile({out!r} + '/0.parquet').read(['text'])['text'].to_pylist(), key=len); f = work.embed; sizes = (1, 4, 16)
f(x[:1]); best = 1e9
for n in sizes:
    a = time.process_time(); [f(x[i:i + n]) for i in range(0, len(x), n)]; best = min(best, time.process_time() - a)
print(best)
"""
    environment = dict(os.environ, BENCH_MODELS=f"{home}/models/model", BENCH_THREADS="1", OMP_NUM_THREADS="1", PYTHONPATH=HERE)
    return float(subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True).stdout.split()[-1])


def linked(home, workload, count):
    """A folder with `count` links to the files of a workload, each under a name of its own."""
    folder, files = f"{home}/linked/{workload}-{count}", sorted(os.listdir(f"{home}/data/{workload}"))
    if not os.path.isdir(folder):
        os.makedirs(folder)
        for i in range(count):
            name = files[i % len(files)]
            os.link(f"{home}/data/{workload}/{name}", f"{folder}/{i:06d}-{name}")
    return folder


def flat(options, counts):
    """Peak memory of squilla with the trivial model over more and more files."""
    for workload in options.workloads.split(","):
        for count in counts:
            out = f"{options.home}/out/flat"
            shutil.rmtree(out, ignore_errors=True)
            os.makedirs(out)
            statement = sql.statement(workload, linked(options.home, workload, count), f"{options.home}/models/trivial", out)
            cpu, wall, peak = run([options.binary, "sql", "-c", statement], {}, 3600)
            print(f"{workload}: {count:6} files  peak {peak / 1e6:5.0f} MB  cpu {cpu:7.2f} s  wall {wall:7.2f} s  rows {len(answer(out))}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("home")
    parser.add_argument("binary")
    for name, default in (("workloads", "image,document,audio,video"), ("models", "model,trivial"), ("engines", "squilla,daft,loop"), ("json", "")):
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--flat", default="", help="1000,20000: peak memory over so many files instead")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # Orphans come to us, so that their time counts.
    if options.flat:
        return flat(options, [int(n) for n in options.flat.split(",")])
    engines = options.engines.split(",")
    for workload in options.workloads.split(","):
        medians = {}
        for models in options.models.split(","):
            found, outs = {e: [] for e in engines}, {}
            for _ in range(options.runs):
                for engine in engines:
                    command, environment, outs[engine] = job(engine, workload, models, options.home, options.binary)
                    found[engine].append(run(command, environment))
            print(f"\n{workload}, {models}: median of {options.runs}")
            for engine in engines:
                cpu, wall, peak = (statistics.median(column) for column in zip(*found[engine]))
                medians[engine, models] = cpu
                ratio = f" {statistics.median(a[0] / b[0] for a, b in zip(found['squilla'], found[engine])):5.2f} = CPU of squilla / {engine}" if "squilla" in engines and engine != "squilla" else ""
                print(f"  {engine:8} cpu {cpu:7.2f} s  wall {wall:7.2f} s  peak {peak / 1e6:6.0f} MB  rows {len(answer(outs[engine])):6}{ratio}", flush=True)
                if options.json:
                    with open(options.json, "a") as file:
                        file.write(json.dumps({"workload": workload, "models": models, "engine": engine, "runs": found[engine]}) + "\n")
            if {"squilla", "loop"} <= set(engines):
                print(f"  answers: {compare(workload, answer(outs['squilla']), answer(outs['loop']), f'{options.home}/models/{models}')}")
        if ("squilla", "model") in medians and ("squilla", "trivial") in medians:
            alone = inference(workload, options.home, options.binary, f"{options.home}/out/squilla-model-{workload}")
            limit = medians["squilla", "trivial"] + alone
            print(f"  limit {limit:.2f} s = {medians['squilla', 'trivial']:.2f} around the model + {alone:.2f} in it: {limit / medians['squilla', 'model']:.0%} reached", flush=True)


if __name__ == "__main__":
    main()
