"""What is said where an S3 server refuses: which server, why, and what may help."""

import re
import uuid

import pytest
from botocore.exceptions import ClientError, NoCredentialsError

from cluster.errors import (
    AccessError,
    ArchivedError,
    MissingPlaceError,
    RegionError,
    UnreachableError,
    UnsupportedError,
)
from cluster.stores.open_store import open_store
from cluster.stores.s3.errors import check_redirect, origin_of, translated
from tests.servers.fault_proxy import FaultProxy

ENDPOINT = "http://user:canary@minio.local:9000/path?token=canary"


def refusal(code, message=""):
    return ClientError({"Error": {"Code": code, "Message": message}}, "GetObject")


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
    use(moto)
    with pytest.raises(MissingPlaceError, match=f"at {moto['AWS_ENDPOINT_URL_S3']}: the bucket"):
        open_store("s3://no-such-bucket/x").put("a", b"b")


def test_a_code_that_nobody_knows_is_told_with_the_servers_words_and_no_guess():
    error = said(refusal("XQuotaMood", "come back \x1b[31mlater"), UnreachableError)
    assert "the store answered XQuotaMood: come back  [31mlater" in str(error)
    assert "network" not in error.hint
    assert "doctor" in error.hint


@pytest.mark.parametrize(
    ("code", "message", "kind", "words"),
    [
        ("InvalidObjectState", "not valid for the storage class", ArchivedError, "restore it"),
        ("KMS.DisabledException", "key is disabled", AccessError, "kms:Decrypt"),
        ("AccessDenied", "not authorized to perform: kms:Decrypt", AccessError, "kms:Decrypt"),
        ("InvalidRequest", "The object was stored using a form of Server Side Encryption.",
         UnsupportedError, "SSE-KMS"),
        ("InvalidToken", "The provided token is malformed", AccessError, "REGIONAL_ENDPOINTS"),
    ],
)  # fmt: skip
def test_what_is_special_has_a_sentence_and_a_way(code, message, kind, words):
    error = said(refusal(code, message), kind)
    assert words in error.hint
    assert code in str(error)


def test_a_store_that_redirects_in_circles_is_no_bug():
    error = said(RecursionError("maximum recursion depth exceeded"), RegionError)
    assert "redirects in circles" in str(error)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_names_the_place_and_the_setting(status):
    headers = {"location": "https://user:canary@minio.local/bucket/key?token=canary"}
    answer = {"ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers}}
    with pytest.raises(RegionError, match=f"answers {status}: it redirects to") as raised:
        check_redirect(ENDPOINT, answer)
    assert raised.value.hint == "set AWS_ENDPOINT_URL_S3=https://minio.local"
    assert "canary" not in str(raised.value)
    with pytest.raises(RegionError, match="it redirects;"):
        check_redirect(ENDPOINT, {"ResponseMetadata": {"HTTPStatusCode": status}})


def test_a_redirect_to_the_region_of_a_bucket_is_followed_by_botocore():
    check_redirect(ENDPOINT, {"ResponseMetadata": {
        "HTTPStatusCode": 301, "HTTPHeaders": {"x-amz-bucket-region": "eu-west-1"},
    }})  # fmt: skip
    check_redirect(ENDPOINT, {"ResponseMetadata": {"HTTPStatusCode": 200}})


@pytest.mark.parametrize(
    "uri",
    [
        "s3a://bucket/x", "S3://bucket/x", "s3n://bucket/x", "https://bucket.s3.amazonaws.com/x",
        "arn:aws:s3:::bucket/x", "s3://arn:aws:s3:eu-west-1:1:accesspoint/mine/x",
    ],
)  # fmt: skip
def test_other_ways_to_name_a_bucket_are_told_the_right_one(uri):
    with pytest.raises(UnsupportedError) as raised:
        open_store(uri)
    assert re.match("write s3://(BUCKET/PREFIX|bucket/x)", raised.value.hint)


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("https://bucket.s3.amazonaws.com/run-42/", "s3://bucket/run-42/"),
        ("https://my.bucket.s3.eu-west-1.amazonaws.com/x?versionId=1", "s3://my.bucket/x"),
        ("https://s3-eu-west-1.amazonaws.com/bucket/x", "s3://bucket/x"),
        ("https://example.org/bucket/x", "s3://BUCKET/PREFIX"),
    ],
)
def test_an_address_of_the_browser_is_told_as_it_is_written_here(address, written):
    with pytest.raises(UnsupportedError) as raised:
        open_store(address)
    assert raised.value.hint.startswith(f"write {written}")


@pytest.mark.s3
def test_a_head_that_is_refused_without_a_word_is_asked_again_by_a_get_of_a_byte(moto, use):
    with FaultProxy(moto["AWS_ENDPOINT_URL_S3"]) as proxy:
        use({**moto, "AWS_ENDPOINT_URL_S3": proxy.url})
        store = open_store(f"s3://plain/{uuid.uuid4().hex}")
        store.put("k", b"0123456789")
        proxy.add("expired", path="/k")
        with pytest.raises(AccessError, match="ExpiredToken"):
            store.head("k")
        proxy.clear()
        proxy.add("expired", method="HEAD", path="/k")
        with pytest.raises(UnreachableError, match="the store answered 400"):
            store.head("k")
