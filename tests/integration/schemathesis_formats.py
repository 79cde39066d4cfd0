"""Values for the formats of the OpenAPI document, which no regular expression could say; registered when this is imported."""

from __future__ import annotations

import schemathesis
from hypothesis import strategies as st

# What the document calls the text of a value; of numbers one that is within every field's bounds.
schemathesis.openapi.format("json-object", st.sampled_from(["{}", " {}"]))
schemathesis.openapi.format("json-array", st.just("[]"))
schemathesis.openapi.format("number", st.sampled_from(["1", "1.0", "+1", "1e0", ".5", "0.25"]))
schemathesis.openapi.format("integer", st.sampled_from(["1", "+1", "001"]))
schemathesis.openapi.format("byte-range", st.sampled_from(["bytes=0-9", "bytes=0-", "bytes=-5", "bytes=0-99999"]))
schemathesis.openapi.format("time-window", st.sampled_from(["30s", "1m", "1h30m", "31d"]))
schemathesis.openapi.format("https-url", st.sampled_from(["https://images.example/a.png", "https://images.example"]))
# Ids are random: the one of a file that is there.
FILES: list[str] = []
schemathesis.openapi.format("file-id", st.builds(lambda: FILES[-1] if FILES else "file-none"))

# Of those who lose their tokens or roles in a test: nobody's calls are theirs.
USERS: list[str] = []
schemathesis.openapi.format("user-id", st.builds(lambda: USERS[-1] if USERS else "usr-none"))
ENROLLS: list[str] = []
schemathesis.openapi.format("enroll-id", st.builds(lambda: ENROLLS[-1] if ENROLLS else "enr-none"))
