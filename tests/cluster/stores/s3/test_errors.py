"""What is said where an S3 server refuses: which server, why, and what may help."""

import pytest
from botocore.exceptions import ClientError, NoCredentialsError

from cluster.errors import AccessError, MissingPlaceError
from cluster.stores.s3.errors import origin_of, translated

ENDPOINT = "http://user:canary@minio.local:9000/path?token=canary"


def refusal(code):
    return ClientError({"Error": {"Code": code, "Message": ""}}, "HeadObject")


def said(error, kind):
    with pytest.raises(kind) as caught, translated("s3://bucket/p", "key", endpoint=ENDPOINT):
        raise error
    return caught.value


def test_an_error_names_the_server_that_was_asked_and_no_secret():
    error = said(refusal("NoSuchBucket"), MissingPlaceError)
    assert str(error).startswith("s3://bucket/p/key at http://minio.local:9000: the bucket")
    assert "canary" not in str(error) + error.hint


@pytest.mark.parametrize(
    ("endpoint", "origin"),
    [
        ("https://s3.eu-west-1.amazonaws.com", "https://s3.eu-west-1.amazonaws.com"),
        ("http://[::1]:8333/", "http://[::1]:8333"),
        ("https://a:b@c:d@host:1", "https://host:1"),
    ],
)
def test_of_an_endpoint_scheme_host_and_port_are_told(endpoint, origin):
    assert origin_of(endpoint) == origin


def test_without_credentials_nothing_was_sent_and_nobody_refused():
    error = said(NoCredentialsError(), AccessError)
    assert "no usable credentials (NoCredentialsError); nothing was sent" in str(error)
    assert "refused" not in str(error)
    assert "AWS_ACCESS_KEY_ID" in error.hint


def test_a_403_without_a_reason_says_what_it_may_mean():
    error = said(refusal("403"), AccessError)
    assert "refused access (403, without a reason)" in str(error)
    assert "the secret (a wrong one looks like this)" in error.hint


def test_a_refusal_with_a_reason_tells_it():
    assert "(SignatureDoesNotMatch)" in str(said(refusal("SignatureDoesNotMatch"), AccessError))


@pytest.mark.s3
def test_requests_name_their_endpoint(moto, use):
    from cluster.stores.open_store import open_store

    use(moto)
    with pytest.raises(MissingPlaceError, match=f"at {moto['AWS_ENDPOINT_URL_S3']}: the bucket"):
        open_store("s3://no-such-bucket/x").put("a", b"b")
