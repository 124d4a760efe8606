"""A real SMTP server for tests: STARTTLS with a certificate of its own, a login, one JSON line for each mail."""

import datetime
import json
import socket
import ssl
import sys

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

FOLDER, USERNAME, PASSWORD = sys.argv[1:4]


def say(**fields):
    print(json.dumps(fields), flush=True)


def certificate():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with open(f"{FOLDER}/cert.pem", "wb") as file:
        file.write(pem)
    with open(f"{FOLDER}/key.pem", "wb") as file:
        file.write(secret)


class Handler:
    async def handle_DATA(self, server, session, envelope):
        say(
            sender=envelope.mail_from,
            recipients=envelope.rcpt_tos,
            data=envelope.content.decode("ascii"),
            tls=session.ssl is not None,
            user=session.auth_data,
        )
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    right = data.login.decode() == USERNAME and data.password.decode() == PASSWORD
    return AuthResult(success=right, auth_data=data.login.decode() if right else None)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


certificate()
port = free_port()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{FOLDER}/cert.pem", f"{FOLDER}/key.pem")
controller = Controller(
    Handler(),
    hostname="127.0.0.1",
    port=port,
    ready_timeout=60,
    tls_context=context,
    require_starttls=True,
    auth_required=True,
    auth_require_tls=True,
    authenticator=authenticate,
)
controller.start()
say(port=port)
sys.stdin.read()
controller.stop()
