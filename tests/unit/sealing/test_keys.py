"""Keys and certificate requests of pools."""

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from quaymaster_sealing.keys import generate_key, make_csr, make_key, read_csr, read_key


@pytest.fixture(scope="module")
def key() -> bytes:
    return generate_key()


def pem_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def test_a_key_is_rsa_4096_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    pem = make_key(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").read_bytes() == pem
    assert pem.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert read_key(pem).key_size == 4096
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("precious")
    with pytest.raises(FileExistsError):
        make_key(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").read_text() == "precious"


def test_a_request_carries_the_keys_public_half_and_name(key: bytes) -> None:
    request = x509.load_pem_x509_csr(make_csr(key).encode())
    assert request.subject.rfc4514_string() == "CN=quaymaster pool"
    assert request.is_signature_valid
    assert request.public_key() == read_key(key).public_key()


def test_a_request_is_read_free_of_what_surrounds_it(key: bytes) -> None:
    csr = make_csr(key)
    assert read_csr("some words\n" + csr + "\n\n") == csr


@pytest.mark.parametrize(
    "text", ["", "hello", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----"]
)
def test_what_is_no_request_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a certificate request"):
        read_csr(text)


def test_weak_and_other_keys_are_refused(key: bytes) -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    for pem, word in ((pem_of(curve), "RSA"), (pem_of(weak), "1024"), (b"no key", "PEM")):
        with pytest.raises(ValueError, match=word):
            make_csr(pem)
    for wrong in (curve, weak):
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        csr = builder.sign(wrong, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
        with pytest.raises(ValueError, match="RSA key of 2048"):
            read_csr(csr)
