"""S3 servers on loopback for tests: moto in this process, SeaweedFS and Ceph beside it."""

import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

SCRIPTS = Path(__file__).parent.parent / "servers"
PORTS_OF_SEAWEEDFS = 4
PORTS_OF_CEPH = 2
CEPH = ("ceph-mon", "ceph-osd", "radosgw")


@contextmanager
def moto_server():
    """The environment of a running moto with buckets `plain` and `versioned`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testkey",
        "AWS_SECRET_ACCESS_KEY": "testsecret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "METAFUSE_S3_RETRIES": "2",
    }
    try:
        make_buckets(environment)
        yield environment
    finally:
        server.stop()


@contextmanager
def seaweedfs_server(folder: Path):
    """The environment of a SeaweedFS of our own with the same buckets."""
    weed = Path(sys.executable).parent / "weed"
    settings = {"WEED": str(weed), "S3_DIR": str(folder / "weed")}
    with script_server("start-seaweedfs.sh", free_ports(PORTS_OF_SEAWEEDFS), settings) as found:
        yield found


@contextmanager
def ceph_server(folder: Path):
    """The environment of a Ceph object gateway of our own with the same buckets."""
    if not all(shutil.which(name) for name in CEPH):
        assert os.geteuid() == 0, f"as root: apt-get install --no-install-recommends {CEPH}"
        apt = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *CEPH]
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-q"], capture_output=True, check=True)
        subprocess.run(apt, capture_output=True, check=True, env=quiet)
    settings = {"S3_DIR": str(folder / "ceph"), "OSD_STORE": "memstore", "MEM_GB": "2"}
    with script_server("start-ceph-rgw.sh", free_ports(PORTS_OF_CEPH), settings) as found:
        yield found


@contextmanager
def script_server(name: str, port: int, settings: dict[str, str]):
    """The environment of a server that a script starts and stops."""
    settings = {
        **os.environ,
        **settings,
        "S3_PORT": str(port),
        "S3_BUCKET": "plain",
        "S3_VERSIONED_BUCKET": "versioned",
    }
    script = str(SCRIPTS / name)
    started = subprocess.run([script], env=settings, capture_output=True, text=True, check=False)
    assert started.returncode == 0, started.stderr
    try:
        yield dict(re.findall(r"(AWS_\w+)=(\S+)", started.stdout))
    finally:
        subprocess.run([script, "stop"], env=settings, capture_output=True, check=True)


def make_client(environment):
    """boto3's client of a server, by what it said of itself."""
    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL_S3"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )


def make_buckets(environment) -> None:
    client = make_client(environment)
    client.create_bucket(Bucket="plain")
    client.create_bucket(Bucket="versioned")
    client.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})


def free_ports(count: int) -> int:
    """The first of `count` neighbouring free ports, whose neighbours 10000 above are free too."""
    for first in range(20000 + os.getpid() % 2000 * 4, 52000, count):
        if all(is_free(first + i) and is_free(first + 10000 + i) for i in range(count)):
            return first
    raise AssertionError("no free ports")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
