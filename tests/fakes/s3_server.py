"""A real HTTP server that speaks S3 (moto), in a process of its own, and what its bucket holds behind our backs."""

import asyncio
import sys
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import boto3
from botocore.config import Config

from ringfence.storage.s3 import Bucket

_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class S3Server:
    """A server with one bucket of a test's own."""

    url: str
    name: str

    @property
    def client(self):
        """Another library's client."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            region_name="us-east-1",
            config=Config(proxies={}),
        )

    def bucket(self, **changes: object) -> Bucket:
        """It, as settings say it."""
        bucket = Bucket(
            self.name, endpoint=self.url, access_key_id="key", secret_access_key="secret", prefix="a/b", timeout=10
        )
        return replace(bucket, **changes)

    def held(self) -> list[str]:
        """All keys, those of unfinished uploads with `?` behind them."""
        found = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        parts = self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])
        return sorted([item["Key"] for item in found] + [f"{item['Key']}?" for item in parts])

    def with_bucket(self) -> "S3Server":
        """The same server with a new bucket."""
        fresh = replace(self, name=f"test-{uuid.uuid4().hex}")
        fresh.client.create_bucket(Bucket=fresh.name)
        return fresh


@asynccontextmanager
async def s3_server() -> AsyncGenerator[S3Server]:
    """A server without buckets."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _SERVER),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(60):
            port = int(await process.stdout.readline())
        yield S3Server(f"http://127.0.0.1:{port}", "")
    finally:
        process.kill()
        await process.wait()
