"""Objects on S3 as other tools leave them: in one PUT or in parts, with checksums of their kind."""

from base64 import b64encode
from hashlib import sha256

from awscrt import checksums

CHECKSUMS = {
    "CRC32": lambda data: checksums.crc32(data).to_bytes(4, "big"),
    "CRC32C": lambda data: checksums.crc32c(data).to_bytes(4, "big"),
    "CRC64NVME": lambda data: checksums.crc64nvme(data).to_bytes(8, "big"),
    "SHA256": lambda data: sha256(data).digest(),
}


def checksum(algorithm, data):
    """As an argument of boto3's verbs."""
    return {f"Checksum{algorithm}": b64encode(CHECKSUMS[algorithm](data)).decode()}


def put_whole(store, key, content, algorithm):
    """One PUT."""
    sent = checksum(algorithm, content)
    return store.client.put_object(**store.address(key), Body=content, **sent)


def put_parts(store, key, pieces, algorithm, kind):
    """An upload of these parts; `kind` is COMPOSITE or FULL_OBJECT."""
    client, address = store.client, store.address(key)
    begun = client.create_multipart_upload(
        **address, ChecksumAlgorithm=algorithm, ChecksumType=kind
    )
    address["UploadId"] = begun["UploadId"]
    parts = []
    for number, piece in enumerate(pieces, start=1):
        sent = checksum(algorithm, piece)
        etag = client.upload_part(**address, PartNumber=number, Body=piece, **sent)["ETag"]
        parts.append({"PartNumber": number, "ETag": etag, **sent})
    whole = checksum(algorithm, b"".join(pieces)) if kind == "FULL_OBJECT" else {}
    return client.complete_multipart_upload(**address, MultipartUpload={"Parts": parts}, **whole)
