"""A mail server (aiosmtpd) that says in a line of JSON what it got.

    smtp.py MODE [CERT KEY]

MODE is `plain`, `starttls` or `implicit`; with `+busy` the first RCPT is answered 451, with `+no` every
one 550, with `+auth` it takes only `patchwright` with `pass word`. Ends when its input does.
"""

import asyncio
import email
import email.policy
import json
import logging
import ssl
import sys
import warnings

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

# Connections that break off are part of the tests.
logging.disable()
warnings.simplefilter("ignore")

mode, *wants = sys.argv[1].split("+")
identity = sys.argv[2:]


def say(thing):
    print(json.dumps(thing), flush=True)


def part(message):
    content = message.get_content()
    return {
        "type": message.get_content_type(),
        "charset": message.get_content_charset(),
        "method": message.get_param("method"),
        "disposition": message.get_content_disposition(),
        "file": message.get_filename(),
        "content": content if isinstance(content, str) else content.decode(),
        "defects": [str(defect) for defect in message.defects],
    }


class Handler:
    busy = "busy" in wants

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if "no" in wants:
            return "550 5.1.1 There is no \x1b[31m%s here" % address
        if self.busy:
            self.busy = False
            return "451 4.7.1 Greylisted, come again"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        # Before any decoding: what a relay would see.
        lines = envelope.original_content.split(b"\r\n")
        say(
            {
                "tls": session.ssl is not None,
                "user": session.auth_data.decode() if session.auth_data else None,
                "hello": session.host_name,
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "headers": {name.lower(): str(value) for name, value in message.items()},
                "names": [name.lower() for name in message.keys()],
                "shape": [it.get_content_type() for it in message.walk()],
                "parts": [part(it) for it in message.walk() if not it.is_multipart()],
                "defects": [str(defect) for defect in message.defects],
                "longest": max(len(line) for line in lines),
                "bare": any(b"\n" in line or b"\r" in line for line in lines),
                "raw": envelope.original_content.decode("utf-8"),
            }
        )
        return "250 2.0.0 Ok: queued as 4711"


def authenticate(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and data.password == b"pass word"
    if good:
        session.auth_data = data.login
        return AuthResult(success=True, auth_data=data.login)
    return AuthResult(success=False, handled=False)


context = None
if mode != "plain":
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*identity)

options = {"hostname": "127.0.0.1", "enable_SMTPUTF8": True}
if mode == "starttls":
    options.update(tls_context=context, require_starttls=True)
if "auth" in wants:
    options.update(
        authenticator=authenticate, auth_required=True, auth_require_tls=mode == "starttls"
    )


async def serve():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(handler, **options),
        "127.0.0.1",
        0,
        ssl=context if mode == "implicit" else None,
    )
    say({"port": server.sockets[0].getsockname()[1]})
    await loop.run_in_executor(None, sys.stdin.read)


handler = Handler()
asyncio.run(serve())
