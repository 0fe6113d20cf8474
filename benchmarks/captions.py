"""How fast captions come, held against simpler ways: real vLLM for CPUs, a tiny random model, painted images.

    make benchmark-captions      (about twenty minutes; .venv/bin/python benchmarks/captions.py speed memory kill for some)

speed: requests per second of our client, of a bare asyncio client and of `vllm run-batch`, with the same requests, and of
the common loop `for image: generate()` with transformers, with as many tokens. memory: of the job, over 10,000 images.
kill: what a kill at half time costs. Nothing here says how fast a GPU and a real model are, only what our client adds.
"""

import asyncio
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "workflow_scripts"))

import aiohttp  # noqa: E402

from dermaflux.caption_asking import Progress, Question, ask_server  # noqa: E402
from dermaflux.caption_cache import ReplyCache  # noqa: E402
from dermaflux.caption_replies import response_format  # noqa: E402
from dermaflux.captions import Shard  # noqa: E402
from dermaflux.chat_client import image_message  # noqa: E402
from dermaflux.painter import lesion_parameters, paint  # noqa: E402
from dermaflux.tables import IMAGES, table_writer  # noqa: E402
from dermaflux.toy_vlm import SERVE, build_vlm  # noqa: E402
from dermaflux.transformers_captioner import TransformersCaptioner  # noqa: E402
from dermaflux.vllm_server import VllmServer, find_command  # noqa: E402

ATTRIBUTES = ("asymmetry", "border", "color")
PROMPT = "This is an image containing a {label} lesion. Describe its asymmetry, border and color."
IN_FLIGHT, MAX_TOKENS = 64, 300
ROUNDS = 5  # of each contender, in turn; the best counts, as whatever else the machine does only slows
# without what would make a second look at the same image cheaper than the first
ARGUMENTS = [*SERVE, "--no-enable-prefix-caching", "--mm-processor-cache-gb", "0"]
SETTINGS = {
    "backend": "vllm", "command": [str(ROOT / ".venv-vllm/bin/vllm")], "arguments": ARGUMENTS, "start_timeout": 300.0,
    "reply_timeout": 120.0, "temperature": 0.0, "max_tokens": MAX_TOKENS, "attempts": 1, "in_flight": IN_FLIGHT,
}  # fmt: skip


def write_shard(path, count, painted=200):
    """A shard of `count` different images: `painted` ones, with a number behind each JPEG's end."""
    import io

    from PIL import Image

    labels, jpegs = ("benign", "malignant"), []
    for i in range(min(painted, count)):
        out = io.BytesIO()
        Image.fromarray(paint(lesion_parameters(labels[i % 2], "benchmark", i), 256, 256)).save(out, "JPEG", quality=95)
        jpegs.append(out.getvalue())
    with table_writer(path, IMAGES, 128) as write:
        for start in range(0, count, 512):
            write(
                [
                    {
                        "image_id": f"b/{i}",
                        "image": {"bytes": jpegs[i % len(jpegs)] + str(i).encode(), "path": f"{i}.jpg"},
                        "label": labels[i % 2],
                    }
                    for i in range(start, min(start + 512, count))
                ]
            )
    return path


def request(row, model):
    """The body of a request as our client sends it."""
    return {
        "model": model, "messages": image_message(PROMPT.format(label=row["label"]), row["image"]["bytes"]),
        "temperature": 0.0, "seed": 0, "max_tokens": MAX_TOKENS, "response_format": response_format(ATTRIBUTES),
    }  # fmt: skip


def ours(server, shard, folder):
    """Seconds of our client, with its cache and checks, and the mean tokens of a reply."""
    question = Question(PROMPT, "", ATTRIBUTES, 0, 1, 0.0, 0.7, MAX_TOKENS, {})
    progress = Progress("ours", len(shard), len(shard), every=1e9)
    path = Path(folder, f"{time.monotonic_ns()}.jsonl")
    with ReplyCache(path) as replies:
        began = time.monotonic()
        ask_server(shard, question, replies, server, IN_FLIGHT, progress)
    return time.monotonic() - began, progress.tokens[1] / len(shard)


def bare(server, shard):
    """Seconds of a bare client: every request a task, a semaphore, nothing kept."""

    async def main():
        slots = asyncio.Semaphore(IN_FLIGHT)
        headers = {"Authorization": f"Bearer {server.endpoint.key}"}
        connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
        async with aiohttp.ClientSession(headers=headers, connector=connector) as session:

            async def ask(row):
                async with slots:
                    url = f"{server.endpoint.url}/chat/completions"
                    async with session.post(url, json=request(row, server.endpoint.model)) as response:
                        assert response.status == 200
                        await response.json()

            await asyncio.gather(*[ask(row) for row in shard])

    began = time.monotonic()
    asyncio.run(main())
    return time.monotonic() - began


def run_batch(model, shard, folder):
    """Seconds of `vllm run-batch` for the requests alone, without its start, by its own count."""
    wanted, output = Path(folder, "batch.jsonl"), Path(folder, "batch_out.jsonl")
    with open(wanted, "w") as file:
        for row in shard:
            line = {"custom_id": row["image_id"], "method": "POST", "url": "/v1/chat/completions"}
            file.write(json.dumps(line | {"body": request(row, "tiny")}) + "\n")
    command = [
        *find_command(SETTINGS["command"]),
        "run-batch",
        "-i",
        str(wanted),
        "-o",
        str(output),
        "--model",
        str(model),
    ]
    done = subprocess.run(
        [*command, "--served-model-name", "tiny", *ARGUMENTS], capture_output=True, text=True, env=os.environ
    )
    rates = re.findall(r"100%.*?([\d.]+)req/s|100%.*?([\d.]+)it/s", done.stderr.replace("\r", "\n"))
    assert done.returncode == 0 and rates and output.read_text().count("\n") == len(shard), done.stderr[-3000:]
    return len(shard) / float(next(rate for rate in rates[-1] if rate))


def loop(model, shard, tokens, count=24):
    """Requests per second of the loop that people write first: one image at a time through generate()."""
    captioner = TransformersCaptioner(model, "cpu", "fp32")
    captioner.model.generation_config.min_new_tokens = tokens
    rows = list(itertools.islice(shard, count + 2))

    def caption(some):
        for row in some:
            captioner.ask(row["image"]["bytes"], PROMPT.format(label=row["label"]), 0.0, 0, tokens)

    caption(rows[:2])  # warms up
    began = time.monotonic()
    caption(rows[2:])
    return count / (time.monotonic() - began)


def speed(folder, model):
    shard = Shard(write_shard(folder / "speed.parquet", 600))
    times = {"our client": [], "bare asyncio client": []}
    with VllmServer(model, SETTINGS, folder / "server.log") as server:
        bare(server, Shard(write_shard(folder / "warm.parquet", 100)))
        for _ in range(ROUNDS):
            seconds, tokens = ours(server, shard, folder)
            times["our client"].append(seconds)
            times["bare asyncio client"].append(bare(server, shard))
    times["vllm run-batch"] = [run_batch(model, shard, folder) for _ in range(2)]
    rates = {name: len(shard) / min(its) for name, its in times.items()}
    rates["transformers, one at a time"] = max(loop(model, shard, round(tokens)) for _ in range(ROUNDS))
    print(
        f"\n{len(shard)} images, {IN_FLIGHT} in flight, {tokens:.0f} tokens a reply, {os.cpu_count()} cores shared with the server"
    )
    print("| way | requests/s | ours is |\n|---|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.1f} | {rates['our client'] / rate:.2f} x |")
    ratios = [b / a for a, b in zip(times["our client"], times["bare asyncio client"])]
    print(
        f"against the bare client round by round: {min(ratios):.2f} to {max(ratios):.2f}, median {statistics.median(ratios):.2f}"
    )


JOB = """
import json, sys
from dermaflux.captions import caption_shard
caption_shard(**json.loads(sys.argv[1]))
"""


def start_job(folder, model, images, name):
    """A caption job of a process of its own, and the path of its replies."""
    values = {
        "images": str(images), "output": str(folder / f"{name}.captions.parquet"), "captioner": "tiny", "settings": SETTINGS,
        "revision": "r", "prompt": PROMPT, "template": "{label} {description}", "seed": 0, "what": name, "reply": "",
        "attributes": ATTRIBUTES, "retry_temperature": 0.7, "bad_share": 1.0, "state": str(folder / name), "model": str(model),
    }  # fmt: skip
    job = subprocess.Popen([sys.executable, "-c", JOB, json.dumps(values)], cwd=ROOT / "workflow_scripts")
    return job, folder / name / "replies.jsonl"


def lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def resident(pid):
    """Memory of a process in MB."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def memory(folder, model, count=10_000):
    images = write_shard(folder / "memory.parquet", count)
    job, replies = start_job(folder, model, images, "memory")
    print("\nMemory of the job (without the server)\n| images done | MB |\n|---|---|")
    for share in (0.05, 0.25, 0.5, 0.75, 0.95):
        while lines(replies) < share * count:
            assert job.poll() is None, "the job ended early"
            time.sleep(0.2)
        print(f"| {share * count:,.0f} | {resident(job.pid):.0f} |", flush=True)
    assert job.wait() == 0


def kill(folder, model, count=2000):
    images = write_shard(folder / "kill.parquet", count)

    def timed(name, until=None):
        """Seconds that a job ran (killed after `until` replies), and when its first reply came."""
        began, first = time.monotonic(), None
        job, replies = start_job(folder, model, images, name)
        before = lines(replies)
        while job.poll() is None:
            if first is None and lines(replies) > before:
                first = time.monotonic() - began
            if until and lines(replies) >= until:
                job.kill()
            time.sleep(0.05)
        job.wait()
        return time.monotonic() - began, first

    whole, start = timed("whole")
    killed, _ = timed("killed", count // 2)
    rest, restart = timed("killed")
    batch = IN_FLIGHT * (whole - start) / count
    print(f"\nA kill -9 of the job at 50 % of {count:,} images")
    print("| | s |\n|---|---|")
    print(f"| undisturbed | {whole:.1f} |\n| killed, then run again | {killed:.1f} + {rest:.1f} |")
    print(f"| lost | {killed + rest - whole:.1f} |\n| the second start and one batch | {restart + batch:.1f} |")


if __name__ == "__main__":
    os.environ.update(VLLM_CPU_OMP_THREADS_BIND="nobind", OMP_NUM_THREADS="1")
    with tempfile.TemporaryDirectory() as temporary:
        where = Path(temporary)
        build_vlm(where / "model")
        for part in sys.argv[1:] or ["speed", "memory", "kill"]:
            {"speed": speed, "memory": memory, "kill": kill}[part](where, where / "model")
