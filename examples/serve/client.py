"""Loads a server with requests: ``python examples/serve/client.py IMAGE [--clients 8] [--requests 200]``."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter

import httpx


async def load(address: str, content: bytes, clients: int, requests: int) -> dict[str, object]:
    """Send ``requests`` requests from ``clients`` clients, each as soon as its last one is answered."""
    times: list[float] = []
    codes: Counter[int] = Counter()
    left = iter(range(requests))

    async def one_client(http: httpx.AsyncClient) -> None:
        for _ in left:
            start = time.perf_counter()
            answer = await http.post("/detect", files={"image": content})
            times.append(time.perf_counter() - start)
            codes[answer.status_code] += 1

    async with httpx.AsyncClient(base_url=address, timeout=120, trust_env=False) as http:
        await http.post("/detect", files={"image": content})  # the first call allocates
        start = time.perf_counter()
        await asyncio.gather(*(one_client(http) for _ in range(clients)))
        seconds = time.perf_counter() - start
        batches = (await http.get("/health")).json()["batches"]
    times.sort()
    percentiles = {f"p{p}_ms": round(1e3 * times[min(len(times) - 1, len(times) * p // 100)], 1) for p in (50, 90, 99)}
    return {"clients": clients, "requests": requests, "per_second": round(requests / seconds, 1), **percentiles,
            "codes": dict(codes), "batches": batches}  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("image")
    parser.add_argument("--address", default="http://127.0.0.1:8000")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=200)
    given = parser.parse_args()
    with open(given.image, "rb") as file:
        content = file.read()
    print(json.dumps(asyncio.run(load(given.address, content, given.clients, given.requests))))
