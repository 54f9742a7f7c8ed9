"""The folder of one run in an output: what is put there and read from there by name."""

from dataclasses import dataclass

from cluster.stores.store import Store
from jobs.outputs.conditional_puts import keep_first, read_or_none
from jobs.outputs.stored import Value, parse_stored


@dataclass(frozen=True, slots=True)
class RunFolder:
    """runs/RUN of an output.

    Attributes:
        store: store of the output.
        run: name of the run with attempt.
    """

    store: Store
    run: str

    @property
    def prefix(self) -> str:
        """Key of the folder, without a slash at the end."""
        return f"runs/{self.run}"

    def key(self, name: str) -> str:
        """Key of the object that is called `name` in the folder."""
        return f"{self.prefix}/{name}"

    def read(self, name: str) -> bytes | None:
        """An object's bytes; None where there is none."""
        return read_or_none(self.store, self.key(name))

    def find(self, kind: type[Value], name: str) -> Value | None:
        """The value of an object; None where there is none.

        Raises:
            ManifestError: the object is damaged; names it.
        """
        content = self.read(name)
        if content is None:
            return None
        return parse_stored(kind, content, store=self.store, key=self.key(name))

    def keep(self, name: str, content: bytes) -> None:
        """Write an object once; what another driver of the run wrote stands."""
        keep_first(self.store, self.key(name), content)


def runs_of(output: str) -> str:
    """URI of the folder of all runs of an output."""
    return f"{output.rstrip('/')}/runs"
