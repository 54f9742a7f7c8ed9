"""A store by its URI: the one place that knows every kind."""

import re

from cluster.errors import UnsupportedError
from cluster.stores.store import Store


def open_store(uri: str) -> Store:
    """The store behind a URI; nothing is asked of it yet.

    Args:
        uri: a path, file:///path, s3://bucket/prefix, or memory://name (this process only).

    Raises:
        UnsupportedError: the URI has another scheme, or carries a user name or password.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator and uri.startswith("arn:"):
        scheme = "arn"
    elif not separator:
        scheme, rest = "file", uri
    elif "@" in rest.partition("/")[0]:
        raise UnsupportedError(
            f"a {scheme}:// URI carries credentials; nothing was read",
            "credentials come from the environment or a profile, never from a URI",
        )
    if scheme == "s3":
        from cluster.stores.s3.store import S3Store

        return S3Store(uri)
    if scheme == "memory":
        from cluster.stores.memory import MemoryStore

        return MemoryStore(uri)
    if scheme == "file":
        from cluster.stores.local.store import LocalStore

        return LocalStore(rest)
    raise UnsupportedError(
        f"{scheme}:{'//' * bool(separator)} is not a store that metafuse reads: "
        f"{uri.partition('?')[0]}. Nothing was read.",
        _find_form(scheme.lower(), rest)
        or OTHER_SCHEMES.get(scheme.lower(), "use a folder or an s3:// URI"),
    )


def open_file(uri: str) -> tuple[Store, str]:
    """The store of a file's folder, and the file's key there; a name alone lies in this folder.

    Raises:
        UnsupportedError: as `open_store` says.
    """
    folder, _, name = uri.rpartition("/")
    return open_store(folder or "."), name


def _find_form(scheme: str, rest: str) -> str:
    """What to do with an address of AWS's web pages or of the hub; "" for any other address."""
    host, _, path = rest.partition("?")[0].partition("/")
    if scheme == "hf" or (scheme in ("http", "https") and host in HUB_HOSTS):
        return _find_download(f"{host}/{path}" if scheme == "hf" else path)
    named = AWS_HOST.fullmatch(host) if scheme in ("http", "https") else None
    if named is None:
        return ""
    place = f"{named[1]}/{path}" if named[1] else path
    return f"write s3://{place} for it"


def _find_download(path: str) -> str:
    """The command that brings what a path of the Hugging Face hub names."""
    parts = [part for part in path.split("/") if part]
    kinds = {"datasets": "dataset", "models": "model", "spaces": "space"}
    kind = kinds.get(parts[0], "model") if parts else "model"
    name = "/".join(parts[1:3] if parts and parts[0] in kinds else parts[:2])
    command = download_command(name or "OWNER/NAME", kind=kind, folder="FOLDER")
    return f"download it once, {command}, and give the folder or an s3:// URI"


def download_command(name: str, *, kind: str, folder: str) -> str:
    """What brings a repository of the Hugging Face hub to a folder, as a line for a shell.

    Args:
        name: id of the repository.
        kind: what it is: model, dataset or space.
        folder: where it goes, quoted where a shell needs it.
    """
    option = f"--repo-type {kind} " if kind != "model" else ""
    return f"hf download {option}{name} --local-dir {folder}"


HUB_HOSTS = ("huggingface.co", "hf.co", "www.huggingface.co")
AWS_HOST = re.compile(r"(?:([\w.-]+)\.)?s3[.-](?:[a-z0-9-]+\.)?amazonaws\.com(?:\.cn)?")


S3_URI = "write s3://BUCKET/PREFIX, in small letters"
WEB_URI = (
    "write s3://BUCKET/PREFIX, and set AWS_ENDPOINT_URL_S3 to the server where it is not AWS; what "
    "is only on the web has to be downloaded first"
)
OTHER_SCHEMES = {
    "s3": S3_URI,
    "s3a": S3_URI,
    "s3n": S3_URI,
    "http": WEB_URI,
    "https": WEB_URI,
    "arn": "write s3://BUCKET/PREFIX; an access point has an alias that stands for the bucket",
    "gs": "Google Cloud Storage speaks S3: use s3://BUCKET/... with an HMAC key and "
    "AWS_ENDPOINT_URL_S3=https://storage.googleapis.com",
    "az": "put an S3 gateway in front of Azure and use s3://BUCKET/... with AWS_ENDPOINT_URL_S3",
}
