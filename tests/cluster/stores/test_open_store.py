"""A store by its URI, and what to do about a URI of another kind."""

import pytest

from cluster.errors import UnsupportedError
from cluster.stores.open_store import open_store


@pytest.mark.parametrize(
    ("uri", "command"),
    [
        ("hf://google/flan-t5-base", "hf download google/flan-t5-base --local-dir"),
        (
            "https://huggingface.co/google/flan-t5-base/tree/main",
            "hf download google/flan-t5-base ",
        ),
        ("https://hf.co/gpt2", "hf download gpt2 --local-dir"),
        ("hf://datasets/stanfordnlp/imdb", "hf download --repo-type dataset stanfordnlp/imdb "),
        ("hf://", "hf download OWNER/NAME --local-dir"),
    ],
)
def test_an_address_of_the_hub_comes_with_the_command_that_brings_it(uri, command):
    with pytest.raises(UnsupportedError, match="is not a store that metafuse reads") as caught:
        open_store(uri)
    assert command in caught.value.hint


def test_other_addresses_keep_their_own_advice():
    with pytest.raises(UnsupportedError) as caught:
        open_store("https://example.org/huggingface.co/google/flan")
    assert "on the web has to be downloaded" in caught.value.hint
