"""What builds, checks, grades and promotes the course's notebooks: the `course` command."""

import sys

# Where this package is installed (JupyterLab wants it), jsonschema imports it, and it compiles a grammar of IRIs: 2 s of every
# command, every kernel and every test. No notebook's schema has an IRI, so for us it is not there.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
