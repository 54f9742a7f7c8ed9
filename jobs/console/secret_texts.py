"""How secrets look, and texts without them.

Recipes are kept with every run and reports are passed around, so neither may hold a secret. What
people are shown is masked once more: libraries put into their errors what they like.
"""

import os
import re
from collections.abc import Iterator, Mapping

from jobs.errors import RecipeError

SECRET_NAME = re.compile(
    r"(SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|KEY|ACCESS_KEY_ID)(_[0-9]+)?$|"
    r"SECRET_|PASSWORD_|WEBHOOK|(API|ACCESS|PRIVATE)_?KEY_"
)
PLACE_NAME = re.compile(r"_(PATH|FILE|DIR|FOLDER)$")
SECRET_VALUE = re.compile(
    r"://[^/\s:@]*:[^/\s@]+@|-----BEGIN [A-Z ]*PRIVATE KEY|\b(AKIA|ASIA)[A-Z0-9]{16}\b|"
    r"\b(hf_|ghp_|github_pat_|xox[abp]-)[A-Za-z0-9_-]{16,}|\bhooks\.slack\.com/services/\w"
)
# User name and password of a URL; a name of a bucket or host holds no "@".
USER = re.compile(r"(?<=://)[^/\s\"'\\@]+@")
# Of URLs that carry their own permission: S3 (both versions), Azure and Google, and plain tokens.
SIGNED = re.compile(
    r"([?&;](?:X-Amz-\w+(?:-\w+)*|X-Goog-\w+(?:-\w+)*|AWSAccessKeyId|Signature|sig|"
    r"(?:\w+[_-])?(?:token|secret|password|api_?key))=)[^&;\s\"'\\]+",
    re.IGNORECASE,
)
# Whose values are looked for in texts: names that hold nothing else.
VARIABLE = re.compile(
    r"AWS_ACCESS_KEY_ID|AWS_SECRET_ACCESS_KEY|METAFUSE_WEBHOOK\w*|"
    r"\w*(SECRET|TOKEN|PASSWORD|PASSWD|API_?KEY)"
)
# Shorter ones are common words, and masking them would make texts unreadable.
SHORTEST = 12
MASK = "***"


def is_secret_name(name: str) -> bool:
    """Whether an environment variable of this name usually holds a secret."""
    upper = name.upper()
    return bool(SECRET_NAME.search(upper)) and not PLACE_NAME.search(upper)


def mask(text: str, environment: Mapping[str, str] | None = None) -> str:
    """A text without the secrets of the environment, users of URLs, and values of signed URLs."""
    for secret in known_secrets(os.environ if environment is None else environment):
        text = text.replace(secret, MASK)
    if "://" in text:
        text = USER.sub(f"{MASK}@", text)
    return SIGNED.sub(rf"\1{MASK}", text) if "=" in text else text


def known_secrets(environment: Mapping[str, str]) -> Iterator[str]:
    """Values of the environment that must not be shown, longest first."""
    found = {
        value.strip()
        for name, value in environment.items()
        if VARIABLE.fullmatch(name) and len(value.strip()) >= SHORTEST
    }
    return iter(sorted(found, key=lambda value: (-len(value), value)))


def check_no_secrets(text: str, *, name: str, environment: Mapping[str, str] | None = None) -> None:
    """Refuse a document with secrets in it, comments included, before anything is said of it.

    Raises:
        RecipeError: names the lines, and repeats nothing of them.
    """
    known = tuple(known_secrets(os.environ if environment is None else environment))
    lines = [
        f"{name}:{number}: {kind}"
        for number, line in enumerate(text.splitlines(), 1)
        if (kind := _find_secret(line, known))
    ]
    if lines:
        raise RecipeError(
            f"{len(lines)} line{'s' * (len(lines) > 1)} with a secret; recipes are kept with "
            "every run, for all who may read its report; nothing was read or written\n"
            + "\n".join(lines),
            "credentials come from the environment, a profile or a role; if that file was shared, "
            "change the secret",
        )


def _find_secret(line: str, known: tuple[str, ...]) -> str:
    """What kind of secret a line holds, "" for none."""
    if SIGNED.search(line):
        return "a URL that is signed, or has a token in its query"
    if USER.search(line):
        return "a URL with a user name or password"
    if SECRET_VALUE.search(line):
        return "what looks like a key, token or webhook"
    if any(secret in line for secret in known):
        return "the value of a secret of the environment"
    return ""
