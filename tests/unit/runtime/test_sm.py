"""Suite sm: RFC 8998's vector, and that nothing but what was sealed opens."""

import hashlib
import hmac

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import algorithms

from services.runtime.sm import Sm4Gcm


def with_key(key: bytes) -> Sm4Gcm:
    made = Sm4Gcm(bytes(32))
    made._algorithm = algorithms.SM4(key)
    return made


def test_it_is_sm4_gcm_of_rfc_8998() -> None:
    """RFC 8998 A.1."""
    key = bytes.fromhex("0123456789abcdeffedcba9876543210")
    nonce = bytes.fromhex("00001234567800000000abcd")
    place = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    plain = bytes.fromhex(
        "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd"
        "eeeeeeeeeeeeeeeeffffffffffffffffeeeeeeeeeeeeeeeeaaaaaaaaaaaaaaaa"
    )
    sealed = with_key(key).encrypt(nonce, plain, place)
    assert sealed.hex() == (
        "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735"
        "d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d"
        "83de3541e4c2b58177e065a9bf7b62ec"
    )
    assert with_key(key).decrypt(nonce, sealed, place) == plain


def test_the_hash_is_sm3_of_gb_t_32905() -> None:
    assert hashlib.new("sm3", b"abc").hexdigest() == (
        "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    )
    assert hmac.digest(b"k", b"m", "sm3") != hmac.digest(b"k", b"m", "sha256")


def test_no_key_serves_two_ciphers_and_nothing_altered_opens() -> None:
    key, nonce = bytes(range(32)), bytes(12)
    sealed = Sm4Gcm(key).encrypt(nonce, b"plain", b"place")
    assert sealed != with_key(key[:16]).encrypt(nonce, b"plain", b"place")
    assert Sm4Gcm(key).decrypt(nonce, sealed, b"place") == b"plain"
    for bad in (sealed[:-1] + bytes([sealed[-1] ^ 1]), bytes([sealed[0] ^ 1]) + sealed[1:]):
        with pytest.raises(InvalidTag):
            Sm4Gcm(key).decrypt(nonce, bad, b"place")
    with pytest.raises(InvalidTag):
        Sm4Gcm(key).decrypt(nonce, sealed, b"other")
