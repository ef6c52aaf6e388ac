"""`nin serve`: a classifier as an HTTP service, with its page."""

import os
from typing import Annotated

import tyro

import torchnin
from torchnin.commands.loading import load_classifier
from torchnin.commands.networks import Given, Switch
from torchnin.commands.output import note

TOKEN_VARIABLE = "TORCHNIN_TOKEN"


def serve(
    classifier: Annotated[str, tyro.conf.Positional],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: Given[str] = None,
    no_auth: Switch = False,
    allow_host: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint="")] = (),
    allow_origin: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint="")] = (),
    device: str = "auto",
) -> None:
    """Answer over HTTP with a classifier: predictions, explanations, and a page to look inside.

    Programs post a picture to /v1/predict; /openapi.json describes the rest. By default only this machine is answered. Ctrl-C
    or SIGTERM finishes what is in flight and stops.

    Args:
        classifier: A run folder, a saved classifier's folder, the name of weights that ship (see `nin models`), or hf-hub:OWNER/NAME.
        host: The address to listen on. Another than this machine's own wants --token or --no-auth.
        port: The port to listen on; 0 takes a free one.
        token: What requests must send as 'Authorization: Bearer TOKEN'; TORCHNIN_TOKEN in the environment keeps it out of the list of
            processes.
        no_auth: Answer everyone who reaches the address.
        allow_host: Names under which the service is also reached, such as that of a proxy in front of it.
        allow_origin: Pages elsewhere that may ask from a browser, such as https://example.org.
        device: auto, cpu, cuda or mps.
    """
    web = torchnin.web
    token = token if token is not None else os.environ.get(TOKEN_VARIABLE)
    if token is not None and no_auth:
        raise ValueError("--no-auth answers everyone and --token does not; give one of them")
    if token is None and not no_auth and not web.is_loopback(host):
        raise ValueError(
            f"--host is {host}, which others may reach; give --token with a secret that they must send, or --no-auth to answer everyone"
        )
    access = web.Access(host=host, token=token, allow_hosts=allow_host, allow_origins=allow_origin)
    settings = web.ServiceSettings(access=access, own_processes=True)
    with web.listen(host, port) as listener:
        app = web.create_app(load_classifier(classifier, device=device), settings)
        server = web.make_server(app, settings.limits, lambda address: note(f"{classifier} answers at {address}; Ctrl-C stops it"))
        server.run([listener])
    note("stopped")
