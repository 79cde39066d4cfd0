import base64
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from deployments.ingress.tokens import LEEWAY_S, MAX_TOKEN, Claims, Tokens, app_id_of
from pipeline.accounts import Account, Role
from pipeline.errors import Unauthorized

NOW = 1_773_561_898
KEY = generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = generate_private_key(public_exponent=65537, key_size=2048)
SHORT_KEY = generate_private_key(public_exponent=65537, key_size=1024)
ALICE = Account(id="usr-1", slug="alice", password_hash="", created_at=1, updated_at=1)


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def tokens(key: RSAPrivateKey = KEY, **options: Any) -> Tokens:
    return Tokens(key, lifetime_s=3600, **options)


def encode(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forge(header: object, payload: object, sign: Any = None) -> str:
    signed = f"{encode(header)}.{encode(payload)}"
    return f"{signed}.{encode(sign(signed.encode()) if sign else b'')}"


def rsa(key: RSAPrivateKey = KEY) -> Any:
    return lambda signed: key.sign(signed, padding.PKCS1v15(), hashes.SHA256())


def hmac_with(secret: bytes, digest: str = "sha256") -> Any:
    return lambda signed: hmac.new(secret, signed, digest).digest()


def payload(**changes: Any) -> dict[str, Any]:
    good = jwt.decode(tokens().issue(ALICE, app_id="app-1", device="cli").encoded, options={"verify_signature": False})
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}


HEADER = {"alg": "RS256", "typ": "JWT"}
PEM = tokens().public_pem.encode()
DER = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_an_issued_token_is_verified():
    issued = tokens().issue(ALICE, app_id="app-1", device="cli")
    assert tokens().verify(issued.encoded) == issued.claims
    assert issued.claims == Claims(
        user_id="usr-1",
        slug="alice",
        roles=(Role.USER,),
        app_id="app-1",
        device="cli",
        token_id=issued.claims.token_id,
        expires_at=issued.issued_at + 3600,
    )


def test_the_claims_on_the_wire():
    issued = tokens(clock=lambda: NOW).issue(ALICE, app_id="app-1", device="cli")
    assert jwt.get_unverified_header(issued.encoded) == HEADER
    assert jwt.decode(issued.encoded, options={"verify_signature": False}) == {
        "sub": "usr-1",
        "1ui": "usr-1",
        "1sl": "alice",
        "1ro": ["user-svc:user"],
        "1ai": "app-1",
        "1de": "cli",
        "1ah": "",
        "1tg": 0,
        "jti": issued.claims.token_id,
        "iat": NOW,
        "exp": NOW + 3600,
    }


def test_the_public_key_verifies_a_token_elsewhere():
    service = tokens()
    encoded = service.issue(ALICE, app_id="a", device="").encoded
    assert jwt.decode(encoded, service.public_pem, algorithms=["RS256"])["1sl"] == "alice"


ATTACKS = {
    "alg none": lambda: forge({"alg": "none"}, payload()),
    "alg None": lambda: forge({"alg": "None"}, payload()),
    "alg nOnE": lambda: forge({"alg": "nOnE"}, payload()),
    "alg missing": lambda: forge({}, payload(), rsa()),
    "alg a list": lambda: forge({"alg": ["RS256"]}, payload(), rsa()),
    "alg none, signed": lambda: forge({"alg": "none"}, payload(), rsa()),
    "HS256 with the PEM": lambda: forge({"alg": "HS256"}, payload(), hmac_with(PEM)),
    "HS256 with the PEM, stripped": lambda: forge({"alg": "HS256"}, payload(), hmac_with(PEM.strip())),
    "HS256 with the DER": lambda: forge({"alg": "HS256"}, payload(), hmac_with(DER)),
    "HS512 with the PEM": lambda: forge({"alg": "HS512"}, payload(), hmac_with(PEM, "sha512")),
    "RS512": lambda: forge({"alg": "RS512"}, payload(), rsa()),
    "RS256 signed by HMAC": lambda: forge(HEADER, payload(), hmac_with(PEM)),
    "empty signature": lambda: forge(HEADER, payload()),
    "signature of another token": lambda: (
        forge(HEADER, payload(sub="usr-2", **{"1ui": "usr-2"})).rstrip(".")
        + "."
        + tokens().issue(ALICE, app_id="a", device="").encoded.rsplit(".", 1)[1]
    ),
    "another key": lambda: forge(HEADER, payload(), rsa(OTHER_KEY)),
    "a key of 1024 bits": lambda: forge(HEADER, payload(), rsa(SHORT_KEY)),
    "kid path, other key": lambda: forge({**HEADER, "kid": "../../dev/null"}, payload(), rsa(OTHER_KEY)),
    "kid SQL, other key": lambda: forge({**HEADER, "kid": "x' OR 1=1 --"}, payload(), rsa(OTHER_KEY)),
    "kid NUL, other key": lambda: forge({**HEADER, "kid": "a\0b"}, payload(), rsa(OTHER_KEY)),
    "kid a number": lambda: forge({**HEADER, "kid": 5}, payload(), rsa(OTHER_KEY)),
    "jku": lambda: forge({**HEADER, "jku": "http://127.0.0.1:9/k"}, payload(), rsa(OTHER_KEY)),
    "x5u": lambda: forge({**HEADER, "x5u": "http://127.0.0.1:9/k"}, payload(), rsa(OTHER_KEY)),
    "jwk": lambda: forge(
        {**HEADER, "jwk": jwt.algorithms.RSAAlgorithm.to_jwk(OTHER_KEY.public_key(), as_dict=True)},
        payload(),
        rsa(OTHER_KEY),
    ),
    "crit": lambda: forge({**HEADER, "crit": ["exp"], "exp": 1}, payload(), rsa()),
    "b64 false": lambda: forge({**HEADER, "b64": False, "crit": ["b64"]}, payload(), rsa()),
    "expired": lambda: forge(HEADER, payload(exp=1_600_000_000, iat=1_500_000_000), rsa()),
    "exp missing": lambda: forge(HEADER, payload(exp=...), rsa()),
    "iat missing": lambda: forge(HEADER, payload(iat=...), rsa()),
    "sub missing": lambda: forge(HEADER, payload(sub=...), rsa()),
    "jti missing": lambda: forge(HEADER, payload(jti=...), rsa()),
    "sub not the user": lambda: forge(HEADER, payload(sub="usr-2"), rsa()),
    "sub a number": lambda: forge(HEADER, payload(sub=1), rsa()),
    "exp a word": lambda: forge(HEADER, payload(exp="tomorrow"), rsa()),
    "exp infinite": lambda: forge(HEADER, payload(exp=float("inf")), rsa()),
    "exp a list": lambda: forge(HEADER, payload(exp=[1]), rsa()),
    "iat in the future": lambda: forge(HEADER, payload(iat=4_000_000_000, exp=4_000_000_001), rsa()),
    "nbf in the future": lambda: forge(HEADER, payload(nbf=4_000_000_000), rsa()),
    "aud of another service": lambda: forge(HEADER, payload(aud="other"), rsa()),
    "roles missing": lambda: forge(HEADER, payload(**{"1ro": ...}), rsa()),
    "roles a string": lambda: forge(HEADER, payload(**{"1ro": "user-svc:admin"}), rsa()),
    "payload a list": lambda: forge(HEADER, [1], rsa()),
    "payload not JSON": lambda: forge(HEADER, b"{", rsa()),
    "deep header": lambda: forge(b"[" * 5000, b"{}"),
    "deep object header": lambda: forge(b'{"a":' * 1100, b"{}"),
    "huge": lambda: forge(HEADER, payload(pad="x" * MAX_TOKEN), rsa()),
    "a megabyte": lambda: "a." * 500_000,
    "empty": lambda: "",
    "dots": lambda: "...",
    "two parts": lambda: "a.b",
    "five parts": lambda: "a.b.c.d.e",
    "not ASCII": lambda: "ÿ.ÿ.ÿ",
    "JWE": lambda: forge({"alg": "RSA-OAEP", "enc": "A128GCM"}, payload()),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_unauthorized(name: str):
    with pytest.raises(Unauthorized) as refused:
        tokens().verify(ATTACKS[name]())
    assert refused.value.message == "Unauthorized"


def test_the_forger_itself_can_make_a_good_token():
    assert tokens().verify(forge(HEADER, payload(), rsa())).slug == "alice"


def test_keys_named_in_the_header_are_ignored():
    header = {**HEADER, "kid": "../x", "jku": "http://127.0.0.1:9/k", "x5u": "http://127.0.0.1:9/k"}
    assert tokens().verify(forge(header, payload(), rsa())).slug == "alice"


def test_a_remembered_token_expires_too():
    clock = Clock()
    service = tokens(clock=clock)
    encoded = service.issue(ALICE, app_id="a", device="").encoded
    assert service.verify(encoded)
    clock.now += 3600 + LEEWAY_S - 1
    assert service.verify(encoded)
    clock.now += 1
    with pytest.raises(Unauthorized):
        service.verify(encoded)


def test_remembered_tokens_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("deployments.ingress.tokens._REMEMBERED", 3)
    service = tokens()
    for _ in range(5):
        service.verify(service.issue(ALICE, app_id="a", device="").encoded)
    assert len(service._verified) == 3


def test_a_token_is_not_shown_in_a_repr():
    issued = tokens().issue(ALICE, app_id="a", device="")
    assert issued.encoded not in repr(issued)


def test_an_app_id_is_stable_and_unlike_others():
    assert app_id_of("unnamed") == app_id_of("unnamed")
    assert app_id_of("unnamed").startswith("app-")
    assert app_id_of("unnamed") != app_id_of("other")


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: encode(raw) + "." + encode(raw) + ".x"))
def test_no_text_is_anything_but_unauthorized(text: str):
    with pytest.raises(Unauthorized):
        tokens().verify(text)


@given(st.integers(0, 5000))
def test_a_changed_token_is_refused(position: int):
    encoded = bytearray(tokens().issue(ALICE, app_id="a", device="").encoded, "ascii")
    # The last character of a part has bits that mean nothing; leave those out.
    position %= len(encoded) - 1
    if encoded[position : position + 2].endswith(b".") or encoded[position] == ord("."):
        return
    encoded[position] = ord("A") if encoded[position] != ord("A") else ord("B")
    with pytest.raises(Unauthorized):
        tokens().verify(bytes(encoded).decode())
