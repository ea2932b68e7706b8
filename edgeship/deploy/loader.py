"""The first contact: a few lines for `python -c` on a device that has nothing yet.

The host starts `<python> -c LOADER ROOT`, writes `header(...)` and the agent's zipapp, and goes on with frames: the
loader checks length and hash, installs the zipapp durably as `ROOT/agent/<sha256>.pyz` and as `ROOT/agent/current`, and
becomes `rpc` on the same standard input and output. It reads no byte beyond the zipapp, prints nothing on standard
output, and says on standard error what went wrong. It runs on any Python 3, so that an old one can be told so.

As an argument it is one line of ASCII without apostrophe and exclamation mark: `proot-distro login` wraps every
argument in apostrophes as it is, and csh knows neither a line break nor "!" in quotes.
"""

from __future__ import annotations

import hashlib
import json

_SOURCE = """\
import hashlib, os, sys
if sys.version_info < (3, 10):
    sys.exit("edgeship: the agent needs Python 3.10 or later, this is %d.%d" % sys.version_info[:2])
os.umask(0o077)
root = os.path.realpath(os.path.expanduser(sys.argv[1]))
folder = os.path.join(root, "agent")
line = b""
while not line.endswith(b"\\n") and len(line) < 200:
    c = os.read(0, 1)
    if not c: sys.exit("edgeship: the stream ended before the agent came")
    line += c
try:
    word, digest, left = line.decode("ascii", "replace").split()
    left = int(left)
except ValueError:
    sys.exit("edgeship: what came first is no agent")
data = []
while left:
    part = os.read(0, min(left, 65536))
    if not part: sys.exit("edgeship: the stream ended inside the agent")
    data.append(part)
    left -= len(part)
data = b"".join(data)
if not hashlib.sha256(data).hexdigest() == digest: sys.exit("edgeship: the agent was changed on the way")
def sync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
try:
    os.makedirs(folder, 0o700, exist_ok=True)
    app = os.path.join(folder, digest + ".pyz")
    new = os.path.join(folder, ".new-" + os.urandom(8).hex())
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    os.replace(new, app)
    os.symlink(digest + ".pyz", new)
    os.replace(new, os.path.join(folder, "current"))
    for path in (folder, root, os.path.dirname(root)): sync(path)
except OSError as e:
    sys.exit("edgeship: cannot install the agent in %s: %s" % (folder, e.strerror))
os.execv(sys.executable, [sys.executable, "-I", app, "rpc", "--root", root])
"""


#: What follows `-c`; its one argument is the agent's folder on the device ("~" is expanded there).
LOADER = f"exec({json.dumps(_SOURCE)})"


def header(zipapp: bytes) -> bytes:
    """The line before the zipapp: its sha256 in hexadecimal and its length in bytes."""
    return f"edgeship {hashlib.sha256(zipapp).hexdigest()} {len(zipapp)}\n".encode()
