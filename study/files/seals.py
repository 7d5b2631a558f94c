"""JSON records that are read back carry a digest of their content, so that an edited or damaged one is not believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainables.config import fingerprint

DIGEST = "digest"


def seal(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with the digest of its content."""
    return {**record, DIGEST: fingerprint(record)}


def unseal(record: object, *, where: str) -> dict[str, Any]:
    """The record without its digest. One of an earlier version, which has none, is taken as it is.

    Raises ValueError where it is no record, or its digest is not that of its content. where: file, or artifact and run.
    """
    if not isinstance(record, dict):
        raise ValueError(f"{where} is no record: expected a JSON object")
    told = {name: value for name, value in record.items() if name != DIGEST}
    if DIGEST in record and record[DIGEST] != fingerprint(told):
        raise ValueError(f"{where} was changed after it was written: its digest does not fit")
    return told
