"""A model's manifest: files with digests, sources with weights and pins."""

from collections.abc import Mapping
from dataclasses import dataclass

from fusion.canonical import SCHEMA
from fusion.plans.health import ModelHealth


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a model.

    Attributes:
        name: key of the file below the model's URI.
        size: size of the file in bytes.
        sha256: sha256 of the bytes where `unit_bytes` is 0; else sha256 over the concatenated
            binary sha256 digests of consecutive ranges of `unit_bytes` (the last one shorter). ""
            where a plain merge made only the CRC.
        unit_bytes: bytes of one range that has a digest of its own; 0 for small files.
        crc64nvme: CRC64NVME of the whole file, 16 hexadecimal digits; "" for small files.
        units: sha256 of each range of `unit_bytes`; () where there are no such digests.
    """

    name: str
    size: int
    sha256: str
    unit_bytes: int = 0
    crc64nvme: str = ""
    units: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """One input of a merge: which bytes, and with which weight."""

    name: str
    uri: str
    weight: float
    pins: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ModelManifest:
    """Written last into a model's folder: what is in it and where it came from.

    `base` is the model that sources change which are adapters.
    `notes` are the files of the donor that do not go with the model, each with the reason.
    `health` is None where no tensor was computed. It depends on how many blocks were asked for and
    on the arithmetic of the machine, so it takes no part in whether two manifests tell of the same
    model.
    """

    plan: str
    method: str
    files: tuple[FileEntry, ...]
    sources: tuple[SourceEntry, ...]
    base: SourceEntry | None = None
    notes: tuple[str, ...] = ()
    health: ModelHealth | None = None
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True)
class HostFigures:
    """A host that computed units of the output, and the digest of its arithmetic probe."""

    host: str
    num_units: int
    arithmetic: str


@dataclass(frozen=True, slots=True)
class MergeFigures:
    """What the merge did; zeros where a resumed run found it done.

    `num_retried` counts the tries beyond the first, of this driver; `hosts` are those of all units.
    `num_checked` of the `num_sources` files that were merged have a digest that what arrived was
    compared with.
    """

    method: str
    dtype: str
    plan: str
    num_tensors: int
    num_units: int
    read_bytes: int
    written_bytes: int
    seconds: float
    workers: int
    peak_bytes: int
    num_retried: int = 0
    hosts: tuple[HostFigures, ...] = ()
    num_checked: int = 0
    num_sources: int = 0

    @property
    def checks(self) -> str:
        """How many sources were read with a check, for people; "" where that is not known."""
        return describe_checks(self.num_checked, self.num_sources)


def describe_checks(num_checked: int, num_sources: int) -> str:
    """How many source files have a digest to compare with what arrives; "" for no sources."""
    if num_checked == num_sources:
        return f"all {num_sources} source files carry a digest" if num_sources else ""
    others = "the others are" if num_checked else "they are"
    return f"{num_checked} of {num_sources} source files carry a digest, {others} read unchecked"
