"""JSON records with a digest of their content, so that an edited or damaged one is refused when it is read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainables.config import fingerprint

DIGEST = "digest"


def seal(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record together with the digest of its content."""
    return {**record, DIGEST: fingerprint(record)}


def unseal(record: object, *, where: str) -> dict[str, Any]:
    """The record without its digest. One of an earlier version, which has no digest, is accepted as it is.

    Raises ValueError where it is no JSON object, or the digest does not match. where: file, or artifact and run.
    """
    if not isinstance(record, dict):
        raise ValueError(f"{where} is no record: expected a JSON object")
    content = {name: value for name, value in record.items() if name != DIGEST}
    if DIGEST in record and record[DIGEST] != fingerprint(content):
        raise ValueError(f"{where} was changed after it was written: its digest does not fit")
    return content
