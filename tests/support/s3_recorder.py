"""What is asked of S3 while something runs: IAM actions on ARNs, as AWS documents them."""

from contextlib import contextmanager
from dataclasses import dataclass

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
ACTIONS = {
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "DeleteObject": "s3:DeleteObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListParts": "s3:ListMultipartUploadParts",
    "ListObjectsV2": "s3:ListBucket",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
}


@dataclass(frozen=True, slots=True, order=True)
class Asked:
    """One right that a request needs."""

    action: str
    resource: str


def right_of(operation, params):
    """The right that one request of boto3 needs."""
    action = ACTIONS[operation]  # a KeyError here is an operation that no policy knows
    if "VersionId" in params and action == "s3:GetObject":
        action = "s3:GetObjectVersion"
    resource = f"arn:aws:s3:::{params['Bucket']}"
    return Asked(action, f"{resource}/{params['Key']}" if "Key" in params else resource)


@contextmanager
def recorded(store):
    """The set of rights that the process of this client needs while the block runs."""
    seen = set()

    def note(params, model, **_):
        seen.add(right_of(model.name, params))

    events = store.client.meta.events
    events.register("provide-client-params.s3", note)
    try:
        yield seen
    finally:
        events.unregister("provide-client-params.s3", note)
