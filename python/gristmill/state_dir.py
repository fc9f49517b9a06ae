"""The folder of journals of a job whose output is in a store, on each machine: the same for each start of the job."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile

#: What says which store an output is in, where its URL does not.
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


def default(output: str) -> str:
    """Where journals of an output are, if nobody says where."""
    store = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), "")
    name = hashlib.blake2b(f"{output}\n{store}".encode(), digest_size=8).hexdigest()
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return os.path.join(tempfile.gettempdir(), f"gristmill-{user}", name)


def make_private(path: str) -> str | None:
    """Makes the folder above a default one, for this user alone, or says why it cannot be used.

    The name can be guessed and its place is shared: somebody else may have been there first.
    """
    folder = os.path.dirname(path)
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        return f"cannot make {folder}: {error.strerror}; name another folder with --state-dir"
    found = os.lstat(folder)
    own = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)
    if stat.S_ISDIR(found.st_mode) and own:
        # Answers are for nobody else to read.
        os.chmod(folder, 0o700)
        return None
    return f"{folder} is not a folder that only this user can write to: remove it, or name another one with --state-dir"
