"""URIs of SQLite files for SQLAlchemy, whatever the names of their folders."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import URL, make_url


def sqlite_uri(file: Path) -> str:
    """sqlite:///..., quoted where needed: a folder may be called "a%20b" or "what?".

    Raises OSError for a name that no URI can hold.
    """
    path = file.as_posix()
    try:
        uri = URL.create("sqlite", database=path).render_as_string()
        same = make_url(uri).database == path
    except ValueError:  # bytes in the name that are not UTF-8
        same = False
    if not same:
        raise OSError(f"{path!a} cannot be the name of an SQLite file of MLflow or Optuna: rename its folder")
    return uri
